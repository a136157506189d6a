//! The record of a seed on disk: all of its files, or none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::disk::file_set::{self, named, new_file};
use crate::document::{SeedManifest, seed_lock};
use crate::error::{Error, Kind, Result};

const MANIFEST: &str = "seed-manifest.json";
const LOCK: &str = "seed.lock";

/// Bytes that must be free for a record: many times the size of one.
const ROOM: usize = 32 << 10;

/// The folder of `seed-manifest.json` and `seed.lock`.
#[derive(Debug, Clone)]
pub struct Record {
    folder: PathBuf,
}

impl Record {
    /// Takes `folder`, after checking that it can be made, that files can be written to it, and that there is room.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `folder` is not a folder or cannot be written to; [`Local`](Kind::Local) if there is no
    /// room.
    pub fn prepare(folder: &Path) -> Result<Self> {
        try_folder(folder, &[MANIFEST, LOCK])?;
        Ok(Self::below(folder))
    }

    /// Takes `folder` without a trial: a folder above it was tried.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self { folder: named(folder).to_owned() }
    }

    /// Returns the record of a former run in this folder, if it can be read.
    #[must_use]
    pub fn former(&self) -> Option<SeedManifest> {
        SeedManifest::parse(&fs::read(self.folder.join(MANIFEST)).ok()?).ok()
    }

    /// Writes both files as [`write`](Self::write) does, without blocking other images while the disk flushes. Returns the
    /// manifest as written: that of an unchanged image keeps what the former record says of the run that seeded it.
    pub(super) async fn write_aside(
        self,
        manifest: SeedManifest,
        is_unchanged: bool,
    ) -> Result<(SeedManifest, Vec<PathBuf>)> {
        let written = tokio::task::spawn_blocking(move || {
            let manifest = if is_unchanged { manifest.checked_again(self.former()) } else { manifest };
            self.write(&manifest).map(|files| (manifest, files))
        });
        written.await.map_err(|why| Error::new(Kind::Local, "write the record").because(why))?
    }

    /// Writes both files: each is complete and flushed under another name before either takes its place.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub fn write(&self, manifest: &SeedManifest) -> Result<Vec<PathBuf>> {
        let lock = seed_lock(&manifest.dest_ref.repository, manifest.dest_digest);
        write_files(&self.folder, &[(MANIFEST, manifest.to_json()?), (LOCK, lock.into_bytes())])
    }
}

/// Checks that files of these names can be written to `folder`, which need not exist.
///
/// Called before anything moves: a full copy without a record is of no use. Removes afterwards what was made for the
/// trial.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if `folder` is not a folder or cannot be written to; [`Local`](Kind::Local) if there is no
/// room.
pub(crate) fn try_folder(folder: &Path, names: &[&str]) -> Result<()> {
    let refused = |why: io::Error| {
        let is_full = matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let (kind, hint) = if is_full {
            (Kind::Local, "free some space on that file system, or name a folder on another one")
        } else {
            (Kind::Usage, "name a folder that this user may write to")
        };
        Error::new(kind, "use the folder of --out").on(folder.display()).because(why).hint(hint)
    };
    patiently(|| try_out(named(folder), names)).map_err(refused)
}

/// Writes all `contents` (names and bytes) to `folder`: each is complete and flushed under another name before any takes
/// its place.
///
/// # Errors
///
/// [`Local`](Kind::Local) if the disk refuses.
pub(crate) fn write_files(folder: &Path, contents: &[(&str, Vec<u8>)]) -> Result<Vec<PathBuf>> {
    let folder = named(folder);
    let failed = |cause: io::Error| {
        Error::new(Kind::Local, "write the record")
            .on(folder.display())
            .because(cause)
            .hint("the destination is complete, only its record is missing: run the same command again")
    };
    let complete = patiently(|| {
        fs::create_dir_all(folder)?;
        file_set::complete(folder, contents)
    });
    let mut paths = Vec::new();
    for (file, (name, _)) in complete.map_err(failed)?.into_iter().zip(contents) {
        let path = folder.join(name);
        file.persist(&path).map_err(|cause| failed(cause.error))?;
        paths.push(path);
    }
    file_set::settle(folder).map_err(failed)?;
    Ok(paths)
}

/// Tries every operation of a write, in `folder`.
fn try_out(folder: &Path, names: &[&str]) -> io::Result<()> {
    let _made = Made::path_to(folder)?;
    if !folder.is_dir() {
        return Err(io::Error::other("not a folder"));
    }
    if let Some(name) = names.iter().find(|name| folder.join(name).is_dir()) {
        return Err(io::Error::other(format!("{name} in it is a folder")));
    }
    let mut file = new_file(folder)?;
    // Some file systems detect only on flush that they are full.
    file.write_all(&[0; ROOM]).and_then(|()| file.as_file().sync_all())
}

/// Repeats `work` if its folder vanished: another run was trying out the same folder.
fn patiently<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..5 {
        match work() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    work()
}

/// Folders made for a trial. Drop removes the ones that are still empty.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes every missing folder on the path to `folder`.
    fn path_to(folder: &Path) -> io::Result<Self> {
        // A dangling link exists, and is in the way.
        let is_missing = |path: &&Path| {
            !path.as_os_str().is_empty()
                && fs::symlink_metadata(path).is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
        };
        let missing: Vec<_> = folder.ancestors().take_while(is_missing).collect();
        let mut made = Self(Vec::new());
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => made.0.push(path.to_owned()),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(why),
            }
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
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
            pinned: false,
            checked_at: None,
            weakened: vec![],
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
        assert_eq!(Record::prepare(&home.path().join("x".repeat(300))).unwrap_err().kind(), Kind::Usage);
        let folder = home.path().join("taken");
        fs::create_dir_all(folder.join(LOCK)).unwrap();
        assert!(Record::prepare(&folder).unwrap_err().chain().contains("seed.lock in it is a folder"));
        #[cfg(unix)]
        {
            let link = home.path().join("link");
            std::os::unix::fs::symlink(home.path().join("nowhere"), &link).unwrap();
            assert_eq!(Record::prepare(&link).unwrap_err().kind(), Kind::Usage);
            assert_eq!(Record::prepare(&link.join("below")).unwrap_err().kind(), Kind::Usage);
        }
    }
}
