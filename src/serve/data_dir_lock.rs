//! The lock on a data folder: servers share it, and garbage collection asks for it exclusively.
//!
//! A server that holds it expires its own uploads, and content that it reported as present must stay for a while
//! (`store::layout::gc`). The operating system releases the locks of a process that ends, so a killed server leaves
//! none.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

use crate::disk::{self, DiskRoot, Hold, Place};
use crate::error::{Error, Kind, Result};
use crate::store::layout::gc::Effect;

pub(super) const NAME: &str = "serving";

/// Longest wait for a garbage collection that holds the lock exclusively.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A lock on a data folder, held until the value is dropped.
#[derive(Debug)]
pub(super) struct Residence {
    /// None if the file system has no locks; garbage collection does nothing there.
    _lock: Option<File>,
}

impl Residence {
    /// Takes a shared lock. Waits for a garbage collection that holds it exclusively. Blocks.
    pub(super) fn shared(data: &DiskRoot) -> Result<Self> {
        let (place, file) = open(data)?;
        match disk::acquire(&file, Hold::Shared, Duration::ZERO) {
            Err(why) if why.kind() == io::ErrorKind::TimedOut => {
                tracing::warn!("waiting for a garbage collection to end")
            }
            tried => {
                let is_held = tried.map_err(place.failed("lock"))?;
                return Ok(Self { _lock: is_held.then_some(file) });
            }
        }
        let is_held = disk::acquire(&file, Hold::Shared, LONGEST_WAIT).map_err(place.failed("lock"))?;
        Ok(Self { _lock: is_held.then_some(file) })
    }

    /// Takes the exclusive lock, which keeps servers out; a dry run writes nothing for it. None if there is a server.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) if the file system has no locks: then it cannot say whether a server is
    /// running.
    pub(super) fn alone(data: &DiskRoot, effect: Effect) -> Result<Option<Self>> {
        if effect == Effect::Counted {
            return counted(&data.join(NAME));
        }
        let (place, file) = open(data)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                let told = Error::new(Kind::Unsupported, "lock").on(place.path().display()).because(error);
                Err(told.hint("the file system knows no locks; run gc on a machine where it does"))
            }
            Err(TryLockError::Error(error)) => Err(place.failed("lock")(error)),
        }
    }
}

fn open(data: &DiskRoot) -> Result<(Place, File)> {
    let place = data.join(NAME);
    let file = disk::open_lock(&place).map_err(place.failed("open"))?;
    Ok((place, file))
}

/// Takes the exclusive lock for a dry run: creates no file, and treats a file that it cannot open as a server's.
fn counted(place: &Place) -> Result<Option<Residence>> {
    match place.open() {
        Ok((file, _)) => match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            _ => Ok(Some(Residence { _lock: Some(file) })),
        },
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Some(Residence { _lock: None })),
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(why) => Err(place.failed("open")(why)),
    }
}
