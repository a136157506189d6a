//! Who lives in a data folder: servers hold a lock on it together, and garbage collection asks for it alone.
//!
//! While a server lives there its uploads are its own to expire, and what it said is there must stay for a while
//! (`store::layout::garbage`). Locks of the operating system go with the process, so a killed server leaves none.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::store::layout::file::failed;
use crate::store::layout::garbage::Effect;

const NAME: &str = "serving";

/// A lock on a data folder, held until the value goes.
#[derive(Debug)]
pub(super) struct Residence {
    /// None where the file system knows no locks; garbage collection does nothing there.
    _lock: Option<File>,
}

impl Residence {
    /// Moves in beside other servers. Waits for a collection that must be alone. Blocks.
    pub(super) fn shared(data: &Path) -> Result<Self> {
        let (file, path) = open(data)?;
        match file.try_lock_shared() {
            Ok(()) => return Ok(Self { _lock: Some(file) }),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Self { _lock: None });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
            Err(TryLockError::WouldBlock) => tracing::warn!("waiting for a garbage collection to end"),
        }
        file.lock_shared().map_err(|error| failed("lock", &path, error))?;
        Ok(Self { _lock: Some(file) })
    }

    /// Keeps servers out; whoever only counts writes nothing for that. None if there is one. Blocks.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) where the file system knows no locks: nobody can say then who is there.
    pub(super) fn alone(data: &Path, effect: Effect) -> Result<Option<Self>> {
        if effect == Effect::Counted && !data.join(NAME).exists() {
            return Ok(Some(Self { _lock: None }));
        }
        let (file, path) = open(data)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                let told = Error::new(Kind::Unsupported, "lock").on(path.display()).because(error);
                Err(told.hint("the file system knows no locks; run gc on a machine where it does"))
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, error)),
        }
    }
}

fn open(data: &Path) -> Result<(File, std::path::PathBuf)> {
    let path = data.join(NAME);
    // Reading is enough for a lock, and all that a medium may allow.
    let opened = File::open(&path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => File::options().read(true).write(true).create(true).truncate(false).open(&path),
        _ => Err(error),
    });
    opened.map(|file| (file, path.clone())).map_err(|error| failed("open", &path, error))
}
