//! Signatures of files on this machine, in cosign's formats: made and verified without a registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::disk::{self, Existing, file_set};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::trust::blob::{self, BlobVerifier};
use crate::trust::blob_signature::BlobSignature;
use crate::verify::{ErrorClass, Failure, PublicKey, SigningKey};

/// A file that was signed.
#[derive(Debug, Clone, Serialize)]
pub struct SignedFile {
    /// The file.
    pub file: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// The fingerprint of the key.
    pub key: String,
    /// The file of the signature: a sigstore bundle.
    pub bundle: PathBuf,
}

/// The outcome of verifying a file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Its digest; none if the signature's file was refused before the file was read.
    pub digest: Option<Digest>,
    /// Whether a trusted key signed the file.
    pub verified: bool,
    /// The fingerprint of the key that signed.
    pub key: Option<String>,
    /// The form of the signature's file.
    pub form: Option<&'static str>,
    /// Why the file is not verified.
    pub error: Option<Failure>,
}

impl FileReport {
    /// Returns the error of a file that is not verified.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        let failure = self.error.as_ref()?;
        let refused = Error::new(Kind::Untrusted, "verify").on(self.file.display()).because(failure.clone());
        Some(refused.hint(file_hint(failure.class)))
    }
}

/// Signs `file` with `key` and writes the signature to `bundle`, whole or not at all. A file there is replaced.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if the file can't be opened, or if `bundle` is the file itself; [`Local`](Kind::Local) if the
/// disk refuses or the file changes meanwhile.
pub async fn sign_file(file: &Path, key: Arc<SigningKey>, bundle: &Path) -> Result<SignedFile> {
    let failed = |why| Error::new(Kind::Local, "write the signature").on(bundle.display()).because(why);
    let folder = bundle.parent().unwrap_or(Path::new("")).to_owned();
    let name = bundle.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Error::new(Kind::Usage, "write the signature").on(bundle.display()).because("it is not the name of a file")
    })?;
    if std::fs::canonicalize(bundle).is_ok_and(|there| std::fs::canonicalize(file).is_ok_and(|file| file == there)) {
        let why = "it is the file to sign, which would be lost";
        return Err(Error::new(Kind::Usage, "write the signature").on(bundle.display()).because(why));
    }
    let fingerprint = key.public_key()?.fingerprint();
    let path = file.to_owned();
    let seal = disk::blocking(move || blob::sign(&key, |sink| read(&path, sink))).await?;
    let text = String::from_utf8(seal.bundle).map_err(failed)?;
    file_set::write(&folder, &[(name, text)], Existing::Replaced)?;
    Ok(SignedFile { file: file.to_owned(), digest: seal.digest, key: fingerprint, bundle: bundle.to_owned() })
}

/// Verifies `file` against the signature in `bundle`, in any of cosign's forms; any of `keys` is trusted. A verification
/// that fails is a report, not an error.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if a file can't be opened, [`Local`](Kind::Local) if the disk refuses.
pub async fn verify_file(file: &Path, keys: Vec<PublicKey>, bundle: &Path) -> Result<FileReport> {
    let bytes = disk::read_file(bundle).map_err(|why| {
        let hint = "name the file that sign-blob wrote with --bundle";
        Error::new(Kind::Usage, "read the signature").on(bundle.display()).because(why).hint(hint)
    })?;
    let report =
        FileReport { file: file.to_owned(), digest: None, verified: false, key: None, form: None, error: None };
    let signature = match BlobSignature::parse(&bytes) {
        Ok(signature) => signature,
        Err(failure) => return Ok(FileReport { error: Some(failure), ..report }),
    };
    let (path, form) = (file.to_owned(), signature.form().as_str());
    let verdict = disk::blocking(move || {
        let mut verifier = BlobVerifier::new(&signature, &keys);
        read(&path, &mut |piece| verifier.update(piece))?;
        Ok(verifier.finish())
    });
    let verdict = verdict.await?;
    let report = FileReport { digest: Some(verdict.digest), form: Some(form), ..report };
    Ok(match verdict.signer {
        Ok(key) => FileReport { verified: true, key: Some(key), ..report },
        Err(failure) => FileReport { error: Some(failure), ..report },
    })
}

/// Returns advice for the operator, in the words of files: those of a class are about images.
fn file_hint(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::SigDigestMismatch => {
            "the file was changed after it was signed, or this is the signature of another file: get both again"
        }
        ErrorClass::SigFormat | ErrorClass::SigLimit => "name the file that sign-blob wrote with --bundle",
        _ => class.hint(),
    }
}

/// Hands the file to `sink`, piece by piece.
fn read(path: &Path, sink: &mut blob::Sink<'_>) -> Result<()> {
    let file = disk::open_file(path).map_err(|why| Error::new(Kind::Usage, "open").on(path.display()).because(why))?;
    disk::read_through(file, sink).map_err(|why| Error::new(Kind::Local, "read").on(path.display()).because(why))
}
