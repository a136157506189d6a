//! The folder itself: names, safe opening, locks, and the bounds on its content.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::disk::{self, DiskRoot, Missing, Place, is_sole};
use crate::error::{Error, Kind};
use crate::oci::Digest;

/// How long an unused file is kept: longer than the pause between two tries to reach a site that is rarely reachable.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Own growth, in bytes, after which the folder is scanned again: other processes write to it too.
const LOOK_AGAIN: u64 = 8 << 20;

/// The suffix of all our file names.
const ENDING: &str = ".partial";

/// A spool's folder on disk, and how much it may hold.
#[derive(Debug)]
pub(super) struct SpoolFolder {
    root: DiskRoot,
    max_bytes: u64,
    room: Mutex<SpoolRoom>,
}

/// The content of the folder, as far as this process knows.
#[derive(Debug, Default)]
struct SpoolRoom {
    bytes: u64,
    /// Bytes that this process has written since the last scan.
    since: u64,
}

/// A file of ours in the folder, in use or not.
struct SpoolFile {
    file: Place,
    digest: Digest,
    bytes: u64,
    used: SystemTime,
}

/// How an attempt to lock a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockAttempt {
    /// It is ours until it is closed.
    Ours,
    /// Another process or task holds it.
    Theirs,
    /// The name now refers to another file, or to none.
    Gone,
}

impl SpoolFolder {
    pub(super) fn new(place: &Path, max_bytes: u64) -> Self {
        Self { root: DiskRoot::at(place), max_bytes, room: Mutex::default() }
    }

    pub(super) fn place(&self) -> &Path {
        self.root.path()
    }

    /// Returns the place for the beginning of `digest`. The name is hex and the algorithm's name: no path separators.
    pub(super) fn file(&self, digest: &Digest) -> Place {
        self.root.join(format!("{}-{}{ENDING}", digest.algorithm().as_str(), digest.hex()))
    }

    /// Creates the folder if it is missing, brings it within its bounds, and tests every operation that it needs.
    /// Returns the digests that it holds.
    pub(super) fn prepare(&self) -> io::Result<HashSet<Digest>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(self.place())?;
        // Bounds first: a smaller --spool-max is one way to free space on a full disk.
        self.tidy(&mut crate::sync::lock(&self.room), 0)?;
        disk::Temporary::make(&self.root.place())?.try_out()?;
        Ok(self.held()?.into_iter().map(|held| held.digest).collect())
    }

    /// Reserves room for `bytes` more, and frees some if necessary. Exact up to what all streams write at the same
    /// time.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let mut room = crate::sync::lock(&self.room);
        let is_tight = room.bytes.saturating_add(bytes) > self.max_bytes;
        if (is_tight || room.since >= LOOK_AGAIN) && self.tidy(&mut room, bytes).is_err() {
            return false;
        }
        if room.bytes.saturating_add(bytes) > self.max_bytes {
            return false;
        }
        room.bytes += bytes;
        room.since += bytes;
        true
    }

    /// Removes files that are too old, and then the longest unused until there is room for `wanted` bytes. Removes
    /// nothing that is in use.
    fn tidy(&self, room: &mut SpoolRoom, wanted: u64) -> io::Result<()> {
        let mut held = self.held()?;
        held.sort_by_key(|held| held.used);
        *room = SpoolRoom { bytes: held.iter().map(|held| held.bytes).sum(), since: 0 };
        for SpoolFile { file, bytes, used, .. } in held {
            let is_old = used.elapsed().is_ok_and(|age| age > MAX_AGE);
            let is_too_much = room.bytes.saturating_add(wanted) > self.max_bytes;
            if (is_old || is_too_much) && self.evict(&file).unwrap_or_default() {
                room.bytes -= bytes;
            }
        }
        Ok(())
    }

    /// Lists our files. Links, folders, and names that are not a digest's are not ours.
    fn held(&self) -> io::Result<Vec<SpoolFile>> {
        let mut all = Vec::new();
        for name in self.root.place().list()? {
            let Some(digest) = name.to_str().and_then(digest_of) else { continue };
            let file = self.root.join(&name);
            // Another process may have removed it since.
            let Ok(Some(about)) = file.look() else { continue };
            if is_sole(&about) {
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                all.push(SpoolFile { file, digest, bytes: about.len(), used });
            }
        }
        Ok(all)
    }

    /// Removes a file of ours, unless it is in use; returns whether it did.
    pub(super) fn evict(&self, place: &Place) -> io::Result<bool> {
        let (file, _) = place.open_own(Missing::Fails)?;
        if lock(&file, place)? != LockAttempt::Ours {
            return Ok(false);
        }
        // Under the lock, so that no process is about to use the removed file.
        place.remove()
    }

    /// Converts a write error in this folder to ours, with a hint for the operator.
    pub(super) fn refused(&self, why: io::Error) -> Error {
        let is_full = is_full(&why);
        let error = Error::new(Kind::Local, "write to the spool").on(self.place().display()).because(why);
        if is_full {
            error.hint(
                "make room on its disk, lower --spool-max, or go without --spool; what is there is kept, and the same \
                 command goes on from it",
            )
        } else {
            error.hint("name a folder on another disk with --spool, or go without")
        }
    }
}

/// Tries to lock a file that was opened by its name.
pub(super) fn lock(file: &File, place: &Place) -> io::Result<LockAttempt> {
    match file.try_lock() {
        // The previous holder may have removed the file after we opened it and before we locked it.
        Ok(()) if place.names(file)? => Ok(LockAttempt::Ours),
        Ok(()) => Ok(LockAttempt::Gone),
        Err(TryLockError::WouldBlock) => Ok(LockAttempt::Theirs),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Whether more free space would have helped.
pub(super) fn is_full(why: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(why.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_suffix(ENDING)?.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}
