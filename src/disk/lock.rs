//! Locks that processes share, on files that nobody else can open.
//!
//! An advisory lock may be taken by whoever can read the file, and held for as long as they like. Files that are locked
//! are therefore made for their owner alone (in a folder that a group may write to, for that group: it could do any harm
//! without a lock), ones that an earlier version left readable are tightened, and no wait is without an end.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use super::place::{Missing, Place};

/// Longest pause between two tries: a waiting push is let in soon after the one before it has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// By one.
    Alone,
    /// By several together, but not beside one who holds it alone.
    Shared,
}

/// Opens a file to be locked, which is made if need be. Blocks.
pub(crate) fn open_lock(place: &Place) -> io::Result<File> {
    // A second name would be that of somebody else's file, whose owner and mode are changed below.
    match place.open_own(Missing::Fails) {
        Ok((file, about)) => tighten(&file, &about, place).map(|()| file),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            let (file, _) = place.open_own(Missing::IsMade)?;
            suit(&file, place).map(|()| file)
        }
        Err(why) => Err(why),
    }
}

/// Makes a finished file as readable as the folder says that it lies in: while it was written to and locked it was for its
/// owner alone.
pub(crate) fn open_up(file: &File, place: &Place) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let Some(folder) = place.parent().look()? else { return Ok(()) };
        let mode = folder.mode() & 0o666;
        if file.metadata()?.mode() & 0o777 != mode {
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
    }
    #[cfg(not(unix))]
    let _ = (file, place);
    Ok(())
}

/// Waits for the lock, but not longer than `longest`. False if the file system knows no locks, as some network and FAT file
/// systems do: there one process at a time has to do. Blocks.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) if another process holds it all the while.
pub(crate) fn acquire(file: &File, how: Hold, longest: Duration) -> io::Result<bool> {
    let (until, mut pause) = (Instant::now() + longest, Duration::from_millis(1));
    loop {
        let tried = match how {
            Hold::Alone => file.try_lock(),
            Hold::Shared => file.try_lock_shared(),
        };
        match tried {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(why)) if why.kind() == io::ErrorKind::Unsupported => return Ok(false),
            Err(TryLockError::Error(why)) => return Err(why),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock on it"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(PAUSE);
    }
}

#[cfg(not(unix))]
fn tighten(_: &File, _: &std::fs::Metadata, _: &Place) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn suit(_: &File, _: &Place) -> io::Result<()> {
    Ok(())
}

/// The users who may open a lock in this folder.
#[cfg(unix)]
fn mode_in(folder: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    const STICKY: u32 = 0o1000;
    let is_group_s = folder.mode() & 0o020 != 0 && folder.mode() & STICKY == 0;
    if is_group_s { 0o660 } else { 0o600 }
}

/// Takes away what an earlier version gave to everybody.
#[cfg(unix)]
fn tighten(file: &File, about: &std::fs::Metadata, place: &Place) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if about.mode() & 0o077 == 0 || about.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    suit(file, place)
}

/// Gives a lock the mode, and where we are root also the owner, that suits its folder: a collection that root runs must
/// not keep the server out.
#[cfg(unix)]
fn suit(file: &File, place: &Place) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let Some(folder) = place.parent().look()? else { return Ok(()) };
    let (about, mode) = (file.metadata()?, mode_in(&folder));
    if about.mode() & 0o777 & !mode != 0 || (mode == 0o660 && about.mode() & 0o777 == 0o600) {
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    if rustix::process::geteuid().is_root() && about.uid() != folder.uid() {
        std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}
