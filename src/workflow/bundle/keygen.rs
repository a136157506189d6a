//! A new key pair on disk: both files, or neither.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::disk::Existing;
use crate::error::{Error, Kind, Result};
use crate::verify::SigningKey;

/// The place for a key pair, with cosign's file names.
#[derive(Debug)]
pub struct KeyPairPlace {
    folder: PathBuf,
    existing: Existing,
}

/// A key pair that was written.
#[derive(Debug, Serialize)]
pub struct KeyPair {
    /// The encrypted private key, readable only by its owner.
    pub private_key: PathBuf,
    /// The public key.
    pub public_key: PathBuf,
    /// SHA-256 of the public key, which people compare.
    pub fingerprint: String,
}

impl KeyPairPlace {
    /// Takes `folder` for the keys, after checking what it holds. Writes nothing yet.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if a key exists already and is to be kept.
    pub fn prepare(folder: &Path, existing: Existing) -> Result<Self> {
        let keygen = Self { folder: folder.to_owned(), existing };
        match [keygen.private(), keygen.public()].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) if existing == Existing::Kept => Err(in_the_way(&path)),
            _ => Ok(keygen),
        }
    }

    /// Makes a key pair and writes it. `password` encrypts the private key.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses; [`Usage`](Kind::Usage) if a file has appeared since.
    pub fn write(&self, password: &[u8]) -> Result<KeyPair> {
        let key = SigningKey::generate()?;
        let failed =
            |why: std::io::Error| Error::new(Kind::Local, "write keys to").on(self.folder.display()).because(why);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let private = self.complete(0o600, &key.to_encrypted_pem(password)?).map_err(failed)?;
        let public = self.complete(0o644, &key.public_pem()?).map_err(failed)?;
        self.place(private, &self.private())?;
        if let Err(error) = self.place(public, &self.public()) {
            if self.existing == Existing::Kept {
                // This process wrote it a moment ago, and it is useless without its public half.
                let _ = fs::remove_file(self.private());
            }
            return Err(error);
        }
        // A rename is durable only after its folder is flushed.
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let fingerprint = key.public_key()?.fingerprint();
        Ok(KeyPair { private_key: self.private(), public_key: self.public(), fingerprint })
    }

    fn private(&self) -> PathBuf {
        self.folder.join("cosign.key")
    }

    fn public(&self) -> PathBuf {
        self.folder.join("cosign.pub")
    }

    /// Writes a complete and flushed file under another name.
    fn complete(&self, mode: u32, text: &str) -> std::io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(mode));
        }
        let mut file = builder.tempfile_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    fn place(&self, file: NamedTempFile, path: &Path) -> Result<()> {
        let placed = match self.existing {
            Existing::Replaced => file.persist(path),
            Existing::Kept => file.persist_noclobber(path),
        };
        match placed {
            Ok(_) => Ok(()),
            Err(why) if why.error.kind() == std::io::ErrorKind::AlreadyExists => Err(in_the_way(path)),
            Err(why) => Err(Error::new(Kind::Local, "write").on(path.display()).because(why.error)),
        }
    }
}

fn in_the_way(path: &Path) -> Error {
    let hint = "name another folder with --out, or pass --force to replace the keys for good";
    Error::new(Kind::Usage, "write").on(path.display()).because("it is there already").hint(hint)
}
