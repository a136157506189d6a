//! Files that are made for other programs: all of them, or none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::keygen::Existing;
use super::record::new_file;
use crate::error::{Error, Kind, Result};

/// Writes `files` (names and texts) into `folder`, which is made if it is not there. Each is complete and flushed under
/// another name before any takes its place.
///
/// # Errors
///
/// [`Usage`](Kind::Usage), with nothing written, if one is there that is to be kept; [`Local`](Kind::Local) if the disk
/// refuses.
pub(super) fn write(folder: &Path, files: &[(&str, String)], existing: Existing) -> Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let failed = |why: io::Error| Error::new(Kind::Local, "write to").on(folder.display()).because(why);
    let paths: Vec<_> = files.iter().map(|(name, _)| folder.join(name)).collect();
    // A link that leads nowhere is there too.
    if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok())
        && existing == Existing::Kept
    {
        return Err(in_the_way(path));
    }
    fs::create_dir_all(folder).map_err(failed)?;
    let complete = files.iter().map(|(_, text)| {
        let mut file = new_file(folder)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all())?;
        Ok(file)
    });
    let complete = complete.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    for (number, (file, path)) in complete.into_iter().zip(&paths).enumerate() {
        let placed = match existing {
            Existing::Kept => file.persist_noclobber(path),
            Existing::Replaced => file.persist(path),
        };
        if let Err(why) = placed {
            if existing == Existing::Kept {
                // Ours, made a moment ago: half of it is of no use.
                paths[..number].iter().for_each(|path| drop(fs::remove_file(path)));
            }
            let is_there = why.error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if is_there { in_the_way(path) } else { failed(why.error) });
        }
    }
    // A rename is on disk once its folder is.
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(paths)
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
    fn a_disk_that_refuses_is_told() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("b")).unwrap();
        assert_eq!(write(home.path(), &files("1"), Existing::Replaced).unwrap_err().kind(), Kind::Local);
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(write(&file.join("below"), &files("1"), Existing::Kept).unwrap_err().kind(), Kind::Local);
    }
}
