//! Writes a set of files for other programs: all of them, or none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Kind, Result};

/// How `write` treats a file that already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Keeps the file and writes nothing: signatures made with a lost key cannot be made again.
    Kept,
    /// Replaces the file.
    Replaced,
}

/// Writes `files` (names and texts) into `folder`, and creates the folder if it is missing. Each file is complete and
/// flushed under a temporary name before any of them gets its own name.
///
/// # Errors
///
/// [`Usage`](Kind::Usage), with nothing written, if a file exists and `existing` keeps it; [`Local`](Kind::Local) if
/// the disk refuses.
pub(crate) fn write(folder: &Path, files: &[(&str, String)], existing: Existing) -> Result<Vec<PathBuf>> {
    let folder = named(folder);
    let failed = |why: io::Error| Error::new(Kind::Local, "write to").on(folder.display()).because(why);
    let paths: Vec<_> = files.iter().map(|(name, _)| folder.join(name)).collect();
    // A dangling link counts as existing.
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok())
        && existing == Existing::Kept
    {
        return Err(in_the_way(path));
    }
    fs::create_dir_all(folder).map_err(failed)?;
    let complete = complete(folder, files).map_err(failed)?;
    for (number, (file, path)) in complete.into_iter().zip(&paths).enumerate() {
        let placed = match existing {
            Existing::Kept => file.persist_noclobber(path),
            Existing::Replaced => file.persist(path),
        };
        if let Err(why) = placed {
            if existing == Existing::Kept {
                // This call created these files a moment ago: half a set is useless.
                paths[..number].iter().for_each(|path| drop(fs::remove_file(path)));
            }
            let is_there = why.error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if is_there { in_the_way(path) } else { failed(why.error) });
        }
    }
    settle(folder).map_err(failed)?;
    Ok(paths)
}

/// Writes `files` into `folder` under temporary names, each complete and flushed.
pub(crate) fn complete<T: AsRef<[u8]>>(folder: &Path, files: &[(&str, T)]) -> io::Result<Vec<NamedTempFile>> {
    let complete = files.iter().map(|(_, content)| {
        let mut file = new_file(folder)?;
        file.write_all(content.as_ref()).and_then(|()| file.as_file().sync_all())?;
        Ok(file)
    });
    complete.collect()
}

/// Replaces the file at `path`, which exists, by one with the same permissions, and where that is allowed with the same owner.
/// A reader sees the old content or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = named(path.parent().unwrap_or(Path::new("")));
    let (about, mut file) = (fs::metadata(path)?, new_file(folder)?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // Only root may give a file away.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(about.uid()), Some(about.gid()));
    }
    file.write_all(bytes)?;
    // After the owner: a change of owner may take permissions away.
    file.as_file().set_permissions(about.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|why| why.error)?;
    settle(folder)
}

/// Flushes the renames in `folder`: a rename is on disk once its folder is.
pub(crate) fn settle(folder: &Path) -> io::Result<()> {
    fs::File::open(folder).and_then(|folder| folder.sync_all())
}

/// Returns `folder`, or the current folder if the path is empty.
pub(crate) fn named(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Creates a temporary file in `folder` with ordinary permissions: every user who may see the folder may read the file.
pub(crate) fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The user's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn in_the_way(path: &Path) -> Error {
    let error = Error::new(Kind::Usage, "write").on(path.display()).because("it exists, and nothing was written");
    error.hint("--force replaces it; --out names another folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> [(&'static str, String); 2] {
        [("a", format!("a {text}")), ("b", format!("b {text}"))]
    }

    #[test]
    fn a_file_that_is_there_keeps_all_from_being_written() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("x/y");
        assert_eq!(write(&folder, &files("1"), Existing::Kept).unwrap(), [folder.join("a"), folder.join("b")]);
        fs::remove_file(folder.join("a")).unwrap();
        assert_eq!(write(&folder, &files("2"), Existing::Kept).unwrap_err().kind(), Kind::Usage);
        assert!(!folder.join("a").exists() && fs::read_to_string(folder.join("b")).unwrap() == "b 1");
        write(&folder, &files("3"), Existing::Replaced).unwrap();
        assert_eq!(fs::read_to_string(folder.join("b")).unwrap(), "b 3");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    #[cfg(unix)]
    fn a_replaced_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        fs::write(&path, "old").unwrap();
        for mode in [0o600, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            replace(&path, b"new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), fs::read_dir(home.path()).unwrap().count()),
            ("new", 1)
        );
    }

    #[test]
    fn a_disk_that_refuses_is_told() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("b")).unwrap();
        assert_eq!(write(home.path(), &files("1"), Existing::Replaced).unwrap_err().kind(), Kind::Local);
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(write(&file.join("below"), &files("1"), Existing::Kept).unwrap_err().kind(), Kind::Local);
    }
}
