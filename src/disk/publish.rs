//! Files that appear whole or not at all.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;

use super::open_how::How;
use super::passing_name::passing_name;
use super::place::Place;
use super::system::{self, Handle};
use crate::error::Result;

/// A file under a temporary name. Removed when dropped, unless it was published.
#[derive(Debug)]
pub(crate) struct Temporary {
    folder: Handle,
    name: String,
    file: Option<File>,
    is_placed: bool,
}

impl Temporary {
    /// Creates a file in `folder`, and creates the folder if it is missing.
    ///
    /// The umask decides who can read the content, not only its owner: another user may serve the folder.
    pub(crate) fn in_folder(folder: &Place) -> Result<Self> {
        Self::make(folder).map_err(folder.failed("create a file in"))
    }

    /// Does the same, but returns the system's own error.
    pub(crate) fn make(folder: &Place) -> io::Result<Self> {
        let held = match folder.held() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                folder.make_folders()?;
                folder.held()?
            }
            held => held?,
        };
        let name = passing_name().map_err(io::Error::other)?;
        let (file, _) = system::open(&held, Path::new(&name), How::MakeNew(0o666))?;
        Ok(Self { folder: held, name, file: Some(file), is_placed: false })
    }

    /// Appends all of `bytes`.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file().and_then(|mut file| file.write_all(bytes))
    }

    /// Hands out the file to a writer that gives it back with [`put_back`](Self::put_back).
    pub(crate) fn take_file(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("the file is elsewhere"))
    }

    /// Takes the file back.
    pub(crate) fn put_back(&mut self, file: File) {
        self.file = Some(file);
    }

    /// Tests that files in this folder accept bytes and locks.
    pub(crate) fn try_out(mut self) -> io::Result<()> {
        self.write_all(b"x")?;
        match self.file()?.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::Error(why)) => Err(why),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("locks on files in it do not work")),
        }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the file is elsewhere"))
    }

    fn sync(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn rename(&mut self, to: &Place) -> io::Result<()> {
        to.make_way()?;
        let (folder, name) = to.parent_and_name()?;
        system::rename((&self.folder, self.name.as_ref()), (&folder, name))?;
        self.is_placed = true;
        Ok(())
    }

    fn rename_new(&mut self, to: &Place) -> io::Result<()> {
        let (folder, name) = to.parent_and_name()?;
        match system::rename_new((&self.folder, self.name.as_ref()), (&folder, name)) {
            Ok(()) => {
                self.is_placed = true;
                Ok(())
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Err(why),
            // No hard links on this file system (exFAT): there the operator must run one process at a time.
            Err(_) if to.look()?.is_none() => self.rename(to),
            Err(why) => Err(why),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = system::remove(&self.folder, self.name.as_ref());
        }
    }
}

/// Makes a finished temporary file appear as `place`: syncs it, renames it, and syncs the folder, so that after a power
/// cut the file exists whole or not at all.
pub(crate) fn publish(mut file: Temporary, place: &Place) -> Result<()> {
    file.sync().map_err(place.failed("sync"))?;
    file.rename(place).map_err(place.failed("rename"))?;
    place.sync_name().map_err(place.failed("sync the folder of"))
}

/// Makes a small file appear as `place`, unless a file exists there.
pub(crate) fn publish_new(place: &Place, bytes: &[u8]) -> Result<()> {
    let mut file = Temporary::in_folder(&place.parent())?;
    file.write_all(bytes).and_then(|()| file.sync()).map_err(place.failed("write"))?;
    match file.rename_new(place) {
        // The existing entry must be a file too: a link could become something else later.
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
            place.open().map(drop).map_err(place.failed("open"))?
        }
        renamed => renamed.map_err(place.failed("rename"))?,
    }
    place.sync_name().map_err(place.failed("sync the folder of"))
}

/// Creates `to` as a hard link to `from`; copies if the file system has no hard links (exFAT) or `to` is on another
/// one.
pub(crate) fn link(from: &Place, to: &Place) -> Result<()> {
    to.parent().make_folders().map_err(to.failed("create the folder of"))?;
    match from.link(to) {
        Ok(()) => to.sync_name().map_err(to.failed("sync the folder of")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_file() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => link_over(from, to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(from.failed("link")(error)),
        Err(_) => {
            let (mut source, _) = from.open().map_err(from.failed("open"))?;
            let copy = Temporary::in_folder(&to.parent())?;
            copy.file().and_then(|mut copy| io::copy(&mut source, &mut copy)).map_err(to.failed("copy"))?;
            publish(copy, to)
        }
    }
}

/// Does the same and replaces whatever has the name `to`; that name never vanishes.
pub(crate) fn link_over(from: &Place, to: &Place) -> Result<()> {
    let passing = to.parent().join(passing_name()?);
    link(from, &passing)?;
    let renamed = passing.replace(to).map_err(to.failed("rename"));
    // It still exists if the rename failed, and also if both names were one file already (POSIX, `rename`).
    let _ = passing.remove();
    renamed?;
    to.sync_name().map_err(to.failed("sync the folder of"))
}
