//! The same steps as `unix`, for systems without handles on folders: each step checks for links first.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::open_how::How;

/// A folder, by its path.
pub(super) type Handle = PathBuf;

/// Opens the folder that the user names; it may be a link.
pub(super) fn root(path: &Path) -> io::Result<Handle> {
    let path = path.canonicalize()?;
    if path.is_dir() { Ok(path) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Opens a folder below `root`.
pub(super) fn folder(root: &Handle, below: &Path) -> io::Result<Handle> {
    let path = checked(root, below)?;
    if path.symlink_metadata()?.is_dir() { Ok(path) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Opens or creates a plain file.
pub(super) fn open(root: &Handle, below: &Path, how: How) -> io::Result<(File, Metadata)> {
    let path = checked(root, below)?;
    match path.symlink_metadata() {
        Ok(about) if !about.is_file() => return Err(io::Error::other("not a plain file")),
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut options = File::options();
    match how {
        How::Read => options.read(true),
        How::Change => options.read(true).write(true),
        How::Append => options.read(true).append(true),
        How::Make(_) => options.read(true).write(true).create(true).truncate(false),
        How::MakeNew(_) => options.read(true).write(true).create_new(true),
    };
    let file = options.open(path)?;
    let about = file.metadata()?;
    Ok((file, about))
}

/// Returns the metadata of this name; for a link, of the link itself.
pub(super) fn look(root: &Handle, below: &Path) -> io::Result<Metadata> {
    checked(root, below)?.symlink_metadata()
}

/// Passes the names in a folder to `take`, one by one.
pub(super) fn each(root: &Handle, below: &Path, take: &mut dyn FnMut(OsString)) -> io::Result<()> {
    fs::read_dir(folder(root, below)?)?.try_for_each(|entry| {
        take(entry?.file_name());
        Ok(())
    })
}

/// Creates a folder and its parents as far as they are missing.
pub(super) fn make_folders(root: &Handle, below: &Path) -> io::Result<()> {
    fs::create_dir_all(checked(root, below)?)?;
    folder(root, below).map(drop)
}

/// Removes a name; for a link, the link itself.
pub(super) fn remove(folder: &Handle, name: &OsStr) -> io::Result<()> {
    fs::remove_file(folder.join(name))
}

/// Removes an empty folder.
pub(super) fn remove_folder(folder: &Handle, name: &OsStr) -> io::Result<()> {
    fs::remove_dir(folder.join(name))
}

/// Renames a file, and replaces a file of the new name.
pub(super) fn rename(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    fs::rename(from.0.join(from.1), to.0.join(to.1))
}

/// Renames a folder; an error if it is not a folder.
pub(super) fn rename_folder(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    folder(from.0, Path::new(from.1))?;
    rename(from, to)
}

/// Renames like `rename`, but fails if the new name exists.
pub(super) fn rename_new(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    link(from, to)?;
    remove(from.0, from.1)
}

/// Creates a hard link.
pub(super) fn link(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    fs::hard_link(from.0.join(from.1), to.0.join(to.1))
}

/// Does nothing beyond a check: only Unix can open and sync a folder; elsewhere the file system's own journal must do.
pub(super) fn sync(root: &Handle, below: &Path) -> io::Result<()> {
    folder(root, below).map(drop)
}

/// Returns the path; fails if it leaves the folder or contains a link.
fn checked(root: &Path, below: &Path) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    let mut components = below.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not stay below the folder"));
        };
        path.push(name);
        if components.peek().is_some() && path.symlink_metadata().is_ok_and(|about| !about.is_dir()) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    Ok(path)
}
