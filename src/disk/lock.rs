//! Locks between processes, on files that no other user can open.
//!
//! Any user who can read a file can take an advisory lock on it and hold it for ever. Lock files are therefore readable
//! by their owner alone (in a folder that a group may write to, also by that group: it could do any harm without a
//! lock). Lock files that an earlier version left readable are tightened, and every wait has a limit.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use super::place::{Missing, Place};

/// Longest pause between two tries: a waiting push continues soon after the one before it ends.
const PAUSE: Duration = Duration::from_millis(10);

/// How to hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// One holder.
    Alone,
    /// Several holders at once, but none while another holds it alone.
    Shared,
}

/// Opens a lock file, and creates it if it is missing. Blocks.
pub(crate) fn open_lock(place: &Place) -> io::Result<File> {
    // A hard link would be another user's file, and the code below changes its owner and mode.
    match place.open_own(Missing::Fails) {
        Ok((file, about)) => tighten(&file, &about, place).map(|()| file),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            let (file, _) = place.open_own(Missing::IsMade)?;
            suit(&file, place).map(|()| file)
        }
        Err(why) => Err(why),
    }
}

/// Makes a finished file as readable as its folder: while it was written and locked, it was readable by its owner
/// alone.
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

/// Waits for the lock, at most for `longest`. Returns false if the file system has no locks, as some network and FAT
/// file systems: there the operator must run one process at a time. Blocks.
///
/// # Errors
///
/// [`TimedOut`](io::ErrorKind::TimedOut) if another process holds the lock all that time.
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

/// Returns the mode for a lock file in this folder: the users who may open it.
#[cfg(unix)]
fn mode_in(folder: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    const STICKY: u32 = 0o1000;
    let is_group_s = folder.mode() & 0o020 != 0 && folder.mode() & STICKY == 0;
    if is_group_s { 0o660 } else { 0o600 }
}

/// Removes the permissions that an earlier version gave to all users.
#[cfg(unix)]
fn tighten(file: &File, about: &std::fs::Metadata, place: &Place) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if about.mode() & 0o077 == 0 || about.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    suit(file, place)
}

/// Gives a lock file the mode that suits its folder, and as root also the folder's owner: garbage collection run by
/// root must not lock the server out.
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
