//! A folder that the user named, and the places below it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::system::{self, Handle};
use crate::error::Error;

/// Times that folders are made anew which somebody else removes meanwhile.
const TRIES: usize = 16;

/// How a file is opened. A number is the mode of a file that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    /// Reading and writing.
    Change,
    /// Reading, and writing at the end.
    Append,
    /// As `Change`, and made if it is not there.
    Make(u32),
    /// Made; an error if it is there.
    MakeNew(u32),
}

/// How a file that is not there is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made.
    IsMade,
    /// That is an error.
    Fails,
}

/// A folder that the user named. It is opened when it is first needed, and that one is kept. Clones share it.
#[derive(Clone)]
pub(crate) struct DiskRoot(Arc<OpenedRoot>);

struct OpenedRoot {
    path: PathBuf,
    handle: OnceLock<Handle>,
}

impl DiskRoot {
    /// The folder at `path`. Nothing is opened or made.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
        Self(Arc::new(OpenedRoot { path, handle: OnceLock::new() }))
    }

    /// The folder's own name.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The place of the folder itself.
    pub(crate) fn place(&self) -> Place {
        Place { root: self.clone(), below: PathBuf::new() }
    }

    /// The place of a name below.
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

/// A name below a root, whether there is something or not. All of its methods block.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: DiskRoot,
    below: PathBuf,
}

impl Place {
    /// The place of a name below this one.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> Self {
        Self { root: self.root.clone(), below: self.below.join(name) }
    }

    /// The folder that this place is in; the root is in itself.
    pub(crate) fn parent(&self) -> Self {
        Self { root: self.root.clone(), below: self.below.parent().unwrap_or(Path::new("")).to_owned() }
    }

    /// For messages: nothing is opened by this path.
    pub(crate) fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.path().to_owned() } else { self.root.path().join(&self.below) }
    }

    /// Makes an error of ours of what failed here.
    pub(crate) fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |why| super::failed(op, &self.path(), why)
    }

    /// Opens a plain file for reading.
    pub(crate) fn open(&self) -> io::Result<(File, Metadata)> {
        self.open_plain(How::Read)
    }

    /// Opens a plain file of this program's own, for reading and writing at its end. A second name would be a way to
    /// change it from elsewhere, or another file too.
    pub(crate) fn open_own_to_append(&self) -> io::Result<(File, Metadata)> {
        sole(self.open_plain(How::Append)?)
    }

    /// Opens a plain file of this program's own, for reading and writing; one that is made is for its user alone.
    pub(crate) fn open_own(&self, missing: Missing) -> io::Result<(File, Metadata)> {
        let how = if missing == Missing::IsMade { How::Make(0o600) } else { How::Change };
        sole(self.open_plain(how)?)
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create_new(&self, mode: u32) -> io::Result<File> {
        Ok(self.open_plain(How::MakeNew(mode))?.0)
    }

    pub(super) fn open_plain(&self, how: How) -> io::Result<(File, Metadata)> {
        let (file, about) = system::open(self.root.handle()?, &self.below, how).map_err(explained)?;
        if about.is_file() { Ok((file, about)) } else { Err(io::Error::other("not a plain file")) }
    }

    /// Reads a plain file of at most `limit` bytes; more is [`FileTooLarge`](io::ErrorKind::FileTooLarge).
    pub(crate) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let (file, about) = self.open()?;
        let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(limit)).unwrap_or_default());
        // The length may be another by now, so it is counted too.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// About what has this name itself; of a link, the link. None if there is nothing.
    pub(crate) fn look(&self) -> io::Result<Option<Metadata>> {
        match self.root.handle().and_then(|root| system::look(root, &self.below)) {
            Ok(about) => Ok(Some(about)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(explained(why)),
        }
    }

    /// Whether a plain file is there.
    pub(crate) fn is_file(&self) -> bool {
        self.look().is_ok_and(|about| about.is_some_and(|about| about.is_file()))
    }

    /// Whether a folder is there.
    pub(crate) fn is_folder(&self) -> bool {
        self.look().is_ok_and(|about| about.is_some_and(|about| about.is_dir()))
    }

    /// Whether this is the name of `file` and not of another one.
    pub(crate) fn names(&self, file: &File) -> io::Result<bool> {
        let Some(there) = self.look()? else { return Ok(false) };
        Ok(number(&there) == number(&file.metadata()?))
    }

    /// Lists this folder; empty if it is not there.
    pub(crate) fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.each(&mut |name| names.push(name))?;
        Ok(names)
    }

    /// Gives every name in this folder to `take`, none of which is held; nothing if it is not there.
    pub(crate) fn each(&self, take: &mut dyn FnMut(OsString)) -> io::Result<()> {
        match self.root.handle().and_then(|root| system::each(root, &self.below, take)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            listed => listed.map_err(explained),
        }
    }

    /// Makes this folder and those on the way to it, as far as they are not there.
    pub(crate) fn make_folders(&self) -> io::Result<()> {
        if self.root.handle().is_ok_and(|root| system::folder(root, &self.below).is_ok()) {
            return Ok(());
        }
        std::fs::create_dir_all(self.root.path())?;
        let root = self.root.handle()?;
        let mut made = system::make_folders(root, &self.below);
        // Garbage collection may have removed an empty one on the way.
        for _ in 0..TRIES {
            if !made.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::NotFound) {
                break;
            }
            made = system::make_folders(root, &self.below);
        }
        made.map_err(explained)
    }

    /// Removes the file; of a link, the link. False if there is none.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        gone(self.parent_and_name().and_then(|(folder, name)| system::remove(&folder, name)))
    }

    /// Removes the folder, which must be empty. False if there is none.
    pub(crate) fn remove_folder(&self) -> io::Result<bool> {
        gone(self.parent_and_name().and_then(|(folder, name)| system::remove_folder(&folder, name)))
    }

    /// Gives this file or folder the name `to`, in the place of a file that has it.
    pub(crate) fn rename(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::rename((&from, name), (&to, new)).map_err(explained)
    }

    /// Gives this file the name `to`, in the place of whatever has it (`obstacle`).
    pub(crate) fn replace(&self, to: &Self) -> io::Result<()> {
        to.make_way()?;
        self.rename(to)
    }

    /// Gives this folder the name `to`. An error if it is no folder.
    pub(super) fn move_folder(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::rename_folder((&from, name), (&to, new)).map_err(explained)
    }

    /// Gives this file the second name `to`.
    pub(crate) fn link(&self, to: &Self) -> io::Result<()> {
        let ((from, name), (to, new)) = (self.parent_and_name()?, to.parent_and_name()?);
        system::link((&from, name), (&to, new)).map_err(explained)
    }

    /// Makes this name last in its folder.
    pub(crate) fn sync_name(&self) -> io::Result<()> {
        system::sync(self.root.handle()?, &self.parent().below).map_err(explained)
    }

    /// The folder that this is in, held open, and the name there.
    pub(super) fn parent_and_name(&self) -> io::Result<(Handle, &OsStr)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a name below the folder is needed");
        let name = self.below.file_name().ok_or_else(invalid)?;
        let folder = system::folder(self.root.handle()?, &self.parent().below).map_err(explained)?;
        Ok((folder, name))
    }

    /// This folder, held open.
    pub(super) fn held(&self) -> io::Result<Handle> {
        system::folder(self.root.handle()?, &self.below).map_err(explained)
    }
}

/// Device and inode number, which tell one file from another; zeros where files have none.
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

/// Bytes that a file takes on the disk, as far as that is known, and no more than it has: a file may have holes.
pub(crate) fn taken(about: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        about.len().min(about.blocks().saturating_mul(512))
    }
    #[cfg(not(unix))]
    about.len()
}

/// Whether it is a plain file without a second name.
pub(crate) fn is_sole(about: &Metadata) -> bool {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(about) > 1 {
        return false;
    }
    about.is_file()
}

fn sole((file, about): (File, Metadata)) -> io::Result<(File, Metadata)> {
    // Without a name at all it is one that was removed a moment ago, which its user finds out under the lock.
    if is_sole(&about) { Ok((file, about)) } else { Err(io::Error::other("not a plain file of this program's")) }
}

fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(explained(why)),
    }
}

/// Says what the system's words for a link in the way mean.
fn explained(why: io::Error) -> io::Error {
    #[cfg(unix)]
    if why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return io::Error::other("a symbolic link lies there, and nothing is reached through one");
    }
    if why.kind() == io::ErrorKind::NotADirectory {
        // Which of the two it is, the system does not say.
        let told = "a file or a symbolic link lies where a folder should, and nothing is reached through a link";
        return io::Error::new(io::ErrorKind::NotADirectory, told);
    }
    why
}
