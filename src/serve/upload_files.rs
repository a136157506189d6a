//! The files of upload sessions: their names, their locks and their age.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::time::{Duration, SystemTime};

use crate::disk::{Missing, Place, is_sole, taken};
use crate::error::{Error, Kind, Result};

/// Opens and locks a session's file, and returns it with its metadata. None if another server has locked it.
pub(super) fn seize(place: &Place) -> Result<Option<(File, Metadata)>> {
    let gone = || place.failed("open")(io::ErrorKind::NotFound.into());
    // Any other kind of entry under that name is no session.
    let (file, _) = match place.open_own_to_append() {
        Err(why) if held(place).is_some() => return Err(place.failed("open")(why)),
        opened => opened.map_err(|_| gone())?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: only one process at a time may use it.
        Err(TryLockError::Error(why)) if why.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(why)) => return Err(place.failed("lock")(why)),
    }
    if !place.names(&file).map_err(place.failed("look at"))? {
        return Err(gone());
    }
    let about = file.metadata().map_err(place.failed("look at"))?;
    Ok(Some((file, about)))
}

/// Returns the metadata of a session's file, if it is one.
pub(super) fn held(place: &Place) -> Option<Metadata> {
    place.look().ok().flatten().filter(is_sole)
}

/// Whether the entry under `name` may be a session, or was one until a moment ago.
pub(super) fn may_be(place: &Place, name: &OsStr) -> bool {
    let is_other = |about: &Metadata| !is_sole(about);
    name.to_str().is_some_and(is_identifier) && !place.look().ok().flatten().is_some_and(|about| is_other(&about))
}

/// Whether `name` has the form of a session's name.
pub(super) fn is_identifier(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// The files of a folder of uploads that no session in memory stands for.
#[derive(Debug, Default)]
pub(super) struct LeftFiles {
    /// Names and bytes of the first ones.
    pub(super) first: Vec<(String, u64)>,
    /// The number of all others, and their bytes.
    pub(super) others: (usize, u64),
}

impl LeftFiles {
    /// Finds the session files except `known`, and names at most `most`: there may be a million. A file with any other
    /// name belongs to no upload.
    pub(super) fn find(folder: &Place, known: &HashSet<String>, most: usize) -> Self {
        let mut found = Self::default();
        // A folder that cannot be read holds nothing that could go on.
        let _ = folder.each(&mut |name| {
            let Ok(name) = name.into_string() else { return };
            let about = (is_identifier(&name) && !known.contains(&name)).then(|| held(&folder.join(&name))).flatten();
            let Some(bytes) = about.map(|about| taken(&about)) else { return };
            if found.first.len() < most {
                found.first.push((name, bytes));
            } else {
                found.others = (found.others.0 + 1, found.others.1 + bytes);
            }
        });
        found
    }
}

/// Removes the files in `folder` that were not written to for `expiry`, except those that a server is writing to and
/// `known`, and returns the names of the latter.
pub(super) fn remove_old(folder: &Place, known: &HashSet<String>, expiry: Duration) -> Vec<String> {
    let mut stay = Vec::new();
    // A folder that cannot be read keeps its files.
    let _ = folder.each(&mut |name| {
        let place = folder.join(&name);
        let Ok(name) = name.into_string() else { return };
        if !is_old(&place, expiry) {
            return;
        }
        if known.contains(&name) {
            stay.push(name);
        } else if remove_abandoned(&place, expiry) {
            tracing::debug!(upload = name, "removing what an earlier process left");
        }
    });
    stay
}

/// Whether that file is that old, or gone. A time just as far in the future counts as old too: the clock was wrong.
pub(super) fn is_old(place: &Place, expiry: Duration) -> bool {
    let Ok(Some(data)) = place.look() else { return true };
    let is_far = |modified: SystemTime| modified.elapsed().unwrap_or_else(|ahead| ahead.duration()) >= expiry;
    data.is_file() && data.modified().is_ok_and(is_far)
}

/// Whether that file is that old and no server is writing to it.
pub(super) fn is_abandoned(place: &Place, expiry: Duration) -> bool {
    let is_locked = |(file, _): (File, Metadata)| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    !place.open_own(Missing::Fails).is_ok_and(is_locked) && is_old(place, expiry)
}

/// Removes that file if it is that old and no server is writing to it. Holds its lock: no server begins to write
/// meanwhile.
pub(super) fn remove_abandoned(place: &Place, expiry: Duration) -> bool {
    let opened = place.open_own(Missing::Fails).ok().map(|(file, _)| file);
    let is_locked = opened.as_ref().is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    !is_locked && is_old(place, expiry) && place.remove().is_ok()
}

/// Returns a random UUID (RFC 9562, version 4).
pub(super) fn identifier() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|why| Error::new(Kind::Local, "draw a random name").because(why.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
