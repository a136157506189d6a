//! A folder that the user names, and the places below it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::open_how::How;
use super::system::{self, Handle};
use crate::error::Error;

/// Number of tries to create folders that another process removes at the same time.
const TRIES: usize = 16;

/// How to treat a missing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Create it.
    IsMade,
    /// Return an error.
    Fails,
}

/// A folder that the user names. It is opened at first use and then kept open. Clones share the handle.
#[derive(Clone)]
pub(crate) struct DiskRoot(Arc<OpenedRoot>);

struct OpenedRoot {
    path: PathBuf,
    handle: OnceLock<Handle>,
}

impl DiskRoot {
    /// Returns the folder at `path`. Opens and creates nothing.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
        Self(Arc::new(OpenedRoot { path, handle: OnceLock::new() }))
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the place of the folder itself.
    pub(crate) fn place(&self) -> Place {
        Place { root: self.clone(), below: PathBuf::new() }
    }

    /// Returns the place of a name below the folder.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Place {
        self.place().join(name)
    }

    fn handle(&self) -> io::Result<&Handle> {
        if let Some(handle) = self.0.handle.get() {
            return Ok(handle);
        }
        let handle = system::root(&self.0.path)?;
        Ok(self.0.handle.get_or_init(|| handle))
    }
}

impl fmt::Debug for DiskRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.0.path).finish()
    }
}

/// A name below a root; the file may or may not exist. All methods block.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: DiskRoot,
    below: PathBuf,
}

impl Place {
    /// Returns the place of a name below this one.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Self {
        Self { root: self.root.clone(), below: self.below.join(name) }
    }

    /// Returns the folder of this place; the root is its own parent.
    pub(crate) fn parent(&self) -> Self {
        Self { root: self.root.clone(), below: self.below.parent().unwrap_or(Path::new("")).to_owned() }
    }

    /// Returns the path for messages: nothing is opened by this path.
    pub(crate) fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.path().to_owned() } else { self.root.path().join(&self.below) }
    }

    /// Converts an I/O error at this place to ours.
    pub(crate) fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| super::failed(op, &self.path(), why)
    }

    /// Opens a plain file for reading.
    pub(crate) fn open(&self) -> io::Result<(File, Metadata)> {
        self.open_plain(How::Read)
    }

    /// Opens a plain file of this program's own, for reading and appending. A file with a second name (a hard link) is
    /// an error: it could be changed from elsewhere, or be another program's file.
    pub(crate) fn open_own_to_append(&self) -> io::Result<(File, Metadata)> {
        sole(self.open_plain(How::Append)?)
    }

    /// Opens a plain file of this program's own, for reading and writing; a created file is readable by its user alone.
    pub(crate) fn open_own(&self, missing: Missing) -> io::Result<(File, Metadata)> {
        let how = if missing == Missing::IsMade { How::Make(0o600) } else { How::Change };
        sole(self.open_plain(how)?)
    }

    /// Creates a file; an error if it exists.
    pub(crate) fn create_new(&self, mode: u32) -> io::Result<File> {
        Ok(self.open_plain(How::MakeNew(mode))?.0)
    }

    pub(super) fn open_plain(&self, how: How) -> io::Result<(File, Metadata)> {
        let (file, about) = system::open(self.root.handle()?, &self.below, how).map_err(explained)?;
        if about.is_file() { Ok((file, about)) } else { Err(io::Error::other("not a plain file")) }
    }

    /// Reads a plain file of at most `limit` bytes; fails with [`FileTooLarge`](io::ErrorKind::FileTooLarge) if it is
    /// larger.
    pub(crate) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let (file, about) = self.open()?;
        let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(limit)).unwrap_or_default());
        // The length may have changed by now, so the bytes are counted too.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Returns the metadata of this name; for a link, of the link itself. None if nothing exists.
    pub(crate) fn look(&self) -> io::Result<Option<Metadata>> {
        match self.root.handle().and_then(|root| system::look(root, &self.below)) {
            Ok(about) => Ok(Some(about)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(explained(why)),
        }
    }

    /// Whether this is a plain file.
    pub(crate) fn is_file(&self) -> bool {
        self.look().is_ok_and(|about| about.is_some_and(|about| about.is_file()))
    }

    /// Whether this is a folder.
    pub(crate) fn is_folder(&self) -> bool {
        self.look().is_ok_and(|about| about.is_some_and(|about| about.is_dir()))
    }

    /// Whether this name refers to `file` and not to another one.
    pub(crate) fn names(&self, file: &File) -> io::Result<bool> {
        let Some(there) = self.look()? else { return Ok(false) };
        Ok(number(&there) == number(&file.metadata()?))
    }

    /// Lists this folder; empty if it does not exist.
    pub(crate) fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.each(&mut |name| names.push(name))?;
        Ok(names)
    }

    /// Passes every name in this folder to `take` and keeps none in memory; no call if the folder does not exist.
    pub(crate) fn each(&self, take: &mut dyn FnMut(OsString)) -> io::Result<()> {
        match self.root.handle().and_then(|root| system::each(root, &self.below, take)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            listed => listed.map_err(explained),
        }
    }

    /// Creates this folder and its parents as far as they are missing.
    pub(crate) fn make_folders(&self) -> io::Result<()> {
        if self.root.handle().is_ok_and(|root| system::folder(root, &self.below).is_ok()) {
            return Ok(());
        }
        std::fs::create_dir_all(self.root.path())?;
        let root = self.root.handle()?;
        let mut made = system::make_folders(root, &self.below);
        // Garbage collection may have removed an empty parent.
        for _ in 0..TRIES {
            if !made.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::NotFound) {
                break;
            }
            made = system::make_folders(root, &self.below);
        }
        made.map_err(explained)
    }

    /// Removes the file; for a link, the link itself. Returns false if nothing exists.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        gone(self.parent_and_name().and_then(|(folder, name)| system::remove(&folder, name)))
    }

    /// Removes the folder, which must be empty. Returns false if nothing exists.
    pub(crate) fn remove_folder(&self) -> io::Result<bool> {
        gone(self.parent_and_name().and_then(|(folder, name)| system::remove_folder(&folder, name)))
    }

    /// Renames this file or folder to `to`, and replaces a file of that name.
    pub(crate) fn rename(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::rename((&from, name), (&to, new)).map_err(explained)
    }

    /// Renames this file to `to`, and replaces whatever has that name (`obstacle`).
    pub(crate) fn replace(&self, to: &Self) -> io::Result<()> {
        to.make_way()?;
        self.rename(to)
    }

    /// Renames this folder to `to`. An error if it is not a folder.
    pub(super) fn move_folder(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::rename_folder((&from, name), (&to, new)).map_err(explained)
    }

    /// Creates `to` as a hard link to this file.
    pub(crate) fn link(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::link((&from, name), (&to, new)).map_err(explained)
    }

    /// Syncs the folder of this name, so that the name survives a power cut.
    pub(crate) fn sync_name(&self) -> io::Result<()> {
        system::sync(self.root.handle()?, &self.parent().below).map_err(explained)
    }

    /// Returns an open handle on the folder of this place, and the name in it.
    pub(super) fn parent_and_name(&self) -> io::Result<(Handle, &OsStr)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a name below the folder is needed");
        let name = self.below.file_name().ok_or_else(invalid)?;
        let folder = system::folder(self.root.handle()?, &self.parent().below).map_err(explained)?;
        Ok((folder, name))
    }

    /// Returns an open handle on this folder.
    pub(super) fn held(&self) -> io::Result<Handle> {
        system::folder(self.root.handle()?, &self.below).map_err(explained)
    }
}

/// Returns device and inode number, which identify a file; zeros on systems that have none.
pub(crate) fn number(about: &Metadata) -> (u64, u64) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        (about.dev(), about.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = about;
        (0, 0)
    }
}

/// Returns the bytes that a file takes on disk, as far as the system says, and at most its length: a file may have
/// holes.
pub(crate) fn taken(about: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        about.len().min(about.blocks().saturating_mul(512))
    }
    #[cfg(not(unix))]
    about.len()
}

/// Whether it is a plain file with a single name (no second hard link).
pub(crate) fn is_sole(about: &Metadata) -> bool {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(about) > 1 {
        return false;
    }
    about.is_file()
}

fn sole((file, about): (File, Metadata)) -> io::Result<(File, Metadata)> {
    // A link count of zero means that the file was removed a moment ago; the caller notices that under the lock.
    if is_sole(&about) { Ok((file, about)) } else { Err(io::Error::other("not a plain file of this program's")) }
}

fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(explained(why)),
    }
}

/// Explains the system's error for a link in the path.
fn explained(why: io::Error) -> io::Error {
    #[cfg(unix)]
    if why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return io::Error::other("a symbolic link lies there, and nothing is reached through one");
    }
    if why.kind() == io::ErrorKind::NotADirectory {
        // The system does not say which of the two it is.
        let told = "a file or a symbolic link lies where a folder should, and nothing is reached through a link";
        return io::Error::new(io::ErrorKind::NotADirectory, told);
    }
    why
}
