//! The record of a seed on disk: all of its files, or none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::document::{SeedManifest, seed_lock};
use crate::error::{Error, Kind, Result};

const MANIFEST: &str = "seed-manifest.json";
const LOCK: &str = "seed.lock";

/// The folder that takes `seed-manifest.json` and `seed.lock`.
#[derive(Debug, Clone)]
pub struct Record {
    folder: PathBuf,
}

impl Record {
    /// Takes `folder`, which is made when there is something to put in, after trying that this will be possible.
    ///
    /// Asked before anything moves: a full copy that then cannot be recorded helps nobody.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `folder` is no folder or cannot be written to.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let existing = folder.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("."));
        let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        let refuse = |why: std::io::Error| {
            Error::new(Kind::Usage, "use the folder of --out")
                .on(folder.display())
                .because(why)
                .hint("name a folder that this user may write to")
        };
        if !existing.is_dir() {
            return Err(refuse(std::io::Error::other("not a folder")));
        }
        // Gone again when the value is dropped, on the next line.
        drop(NamedTempFile::new_in(existing).map_err(refuse)?);
        Ok(Self { folder: folder.to_owned() })
    }

    /// What a former run recorded here, if it can be read.
    #[must_use]
    pub fn former(&self) -> Option<SeedManifest> {
        SeedManifest::parse(&fs::read(self.folder.join(MANIFEST)).ok()?).ok()
    }

    /// Writes both files: each is complete and flushed under another name before either takes its place.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub fn write(&self, manifest: &SeedManifest) -> Result<Vec<PathBuf>> {
        let failed = |cause: std::io::Error| {
            Error::new(Kind::Local, "write the record").on(self.folder.display()).because(cause)
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let lock = seed_lock(&manifest.dest_ref.repository, manifest.dest_digest);
        let files = [(MANIFEST, manifest.to_json()?), (LOCK, lock.into_bytes())];
        let mut complete = Vec::new();
        for (name, bytes) in files {
            let mut file = new_file(&self.folder).map_err(failed)?;
            file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
            complete.push((file, self.folder.join(name)));
        }
        let mut paths = Vec::new();
        for (file, path) in complete {
            file.persist(&path).map_err(|cause| failed(cause.error))?;
            paths.push(path);
        }
        // A rename is on disk once its folder is.
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(paths)
    }
}

/// A temporary file in `folder` with the permissions of an ordinary one: the record is for everybody who may see it.
fn new_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The user's umask takes its part away.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn manifest() -> SeedManifest {
        SeedManifest {
            schema_version: SeedManifest::version(),
            source_ref: "a.example/app:v1".parse().unwrap(),
            source_digest: Digest::sha256(b"x"),
            dest_ref: "b.example/app:v1".parse().unwrap(),
            dest_digest: Digest::sha256(b"x"),
            platforms: vec![],
            copied_policy: false,
            signing_key_ref: None,
            verified: false,
            seeded_at: jiff::Timestamp::UNIX_EPOCH,
            transfer: None,
        }
    }

    #[test]
    fn the_record_appears_whole_in_a_folder_that_is_made_for_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let record = Record::prepare(&folder).unwrap();
        assert!(!folder.exists(), "preparing leaves nothing behind");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        record.write(&manifest()).unwrap();
        assert_eq!(record.former().unwrap(), manifest());
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_is_refused_before_anything_moves() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(Record::prepare(&file).unwrap_err().kind(), Kind::Usage);
        assert_eq!(Record::prepare(&file.join("below")).unwrap_err().kind(), Kind::Usage);
    }
}
