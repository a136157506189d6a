//! The folder itself: names, safe opening, locks, and the bounds on what it holds.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Kind};
use crate::oci::Digest;

/// How long an unused file is kept: longer than the pause between two tries to reach a site that is seldom reached.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Own growth after which the folder is looked through again: other processes grow too.
const LOOK_AGAIN: u64 = 8 << 20;

/// What the name of every file of ours ends in.
const ENDING: &str = ".partial";

/// A spool's place on disk, and how much it may hold.
#[derive(Debug)]
pub(super) struct Folder {
    place: PathBuf,
    max_bytes: u64,
    room: Mutex<Room>,
}

/// What the folder holds, as far as this process knows.
#[derive(Debug, Default)]
struct Room {
    bytes: u64,
    /// Bytes of our own since it was looked through.
    since: u64,
}

/// A file of ours in the folder, in use or not.
struct Held {
    path: PathBuf,
    digest: Digest,
    bytes: u64,
    used: SystemTime,
}

/// How an attempt to lock a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is ours until it is closed.
    Ours,
    /// Somebody else has it.
    Theirs,
    /// It is not the file of that name any more.
    Gone,
}

impl Folder {
    pub(super) fn new(place: &Path, max_bytes: u64) -> Self {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        Self { place: place.to_owned(), max_bytes, room: Mutex::default() }
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Where the beginning of `digest` is kept. Hex and the algorithm's name: nothing that a path could be made of.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.place.join(format!("{}-{}{ENDING}", digest.algorithm().as_str(), digest.hex()))
    }

    /// Makes the folder if need be, brings it within its bounds, and tries all that it has to do. What it holds.
    pub(super) fn prepare(&self) -> io::Result<HashSet<Digest>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.place)?;
        // The bounds first: a smaller --spool-max is one way to make room on a disk that is full.
        self.tidy(&mut self.room.lock().unwrap_or_else(PoisonError::into_inner), 0)?;
        let mut trial = tempfile::NamedTempFile::new_in(&self.place)?;
        trial.write_all(b"x")?;
        match trial.as_file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(why)) => return Err(why),
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("locks on files in it do not work")),
        }
        Ok(self.held()?.into_iter().map(|held| held.digest).collect())
    }

    /// Asks for room for `bytes` more; makes some if need be. Kept to within what all streams write at a time.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Removes what is too old, and the longest unused until there is room for `wanted` bytes. Nothing that is in use.
    fn tidy(&self, room: &mut Room, wanted: u64) -> io::Result<()> {
        let mut held = self.held()?;
        held.sort_by_key(|held| held.used);
        *room = Room { bytes: held.iter().map(|held| held.bytes).sum(), since: 0 };
        for Held { path, bytes, used, .. } in held {
            let is_old = used.elapsed().is_ok_and(|age| age > MAX_AGE);
            let is_too_much = room.bytes.saturating_add(wanted) > self.max_bytes;
            if (is_old || is_too_much) && self.evict(&path).unwrap_or_default() {
                room.bytes -= bytes;
            }
        }
        Ok(())
    }

    /// What there is of ours. Links, folders, and names that are no digest's are not.
    fn held(&self) -> io::Result<Vec<Held>> {
        let mut all = Vec::new();
        for found in fs::read_dir(&self.place)? {
            let found = found?;
            let Some(digest) = found.file_name().to_str().and_then(digest_of) else { continue };
            // Another process may have removed it since.
            let Ok(about) = found.path().symlink_metadata() else { continue };
            if is_plain(&about) {
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                all.push(Held { path: found.path(), digest, bytes: about.len(), used });
            }
        }
        Ok(all)
    }

    /// Removes a file of ours, unless it is in use; says whether it did.
    pub(super) fn evict(&self, path: &Path) -> io::Result<bool> {
        let file = open(path, Missing::Fails)?;
        if lock(&file, path)? != Lock::Ours {
            return Ok(false);
        }
        // Under the lock, so that nobody is about to use what goes.
        fs::remove_file(path)?;
        Ok(true)
    }

    /// A failure to write here, told to whoever can do something about it.
    pub(super) fn refused(&self, why: io::Error) -> Error {
        let is_full = is_full(&why);
        let error = Error::new(Kind::Local, "write to the spool").on(self.place.display()).because(why);
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

/// What becomes of a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is made.
    IsMade,
    /// That is an error.
    Fails,
}

/// Opens a file of ours for reading and writing, and nothing that lies in its place: a link would lead elsewhere, a pipe
/// would wait, a second name would be another file too.
pub(super) fn open(path: &Path, missing: Missing) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(missing == Missing::IsMade).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    if is_plain(&file.metadata()?) { Ok(file) } else { Err(io::Error::other("not a plain file of this program's")) }
}

/// Tries to lock a file that was opened by its name.
pub(super) fn lock(file: &File, path: &Path) -> io::Result<Lock> {
    match file.try_lock() {
        // Whoever had it may have removed it between our opening and our locking.
        Ok(()) if is_same(file, path)? => Ok(Lock::Ours),
        Ok(()) => Ok(Lock::Gone),
        Err(TryLockError::WouldBlock) => Ok(Lock::Theirs),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

fn is_plain(about: &Metadata) -> bool {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(about) > 1 {
        return false;
    }
    about.is_file()
}

/// Whether `path` names `file` and not another.
pub(super) fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let there = match path.symlink_metadata() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let here = file.metadata()?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        // An open file keeps its name there.
        let _ = (file, there);
        Ok(true)
    }
}

/// Whether more room would have helped.
pub(super) fn is_full(why: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(why.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_suffix(ENDING)?.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}
