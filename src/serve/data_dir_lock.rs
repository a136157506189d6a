//! Who lives in a data folder: servers hold a lock on it together, and garbage collection asks for it alone.
//!
//! While a server lives there its uploads are its own to expire, and what it said is there must stay for a while
//! (`store::layout::garbage`). Locks of the operating system go with the process, so a killed server leaves none.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

use crate::disk::{self, DiskRoot, Hold, Place};
use crate::error::{Error, Kind, Result};
use crate::store::layout::gc::Effect;

pub(super) const NAME: &str = "serving";

/// Longest wait for a collection that must be alone.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A lock on a data folder, held until the value goes.
#[derive(Debug)]
pub(super) struct Residence {
    /// None where the file system knows no locks; garbage collection does nothing there.
    _lock: Option<File>,
}

impl Residence {
    /// Moves in beside other servers. Waits for a collection that must be alone. Blocks.
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

    /// Keeps servers out; whoever only counts writes nothing for that. None if there is one. Blocks.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) where the file system knows no locks: nobody can say then who is there.
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

/// The same for who changes nothing: makes no file, and takes what cannot be opened for a server's.
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
