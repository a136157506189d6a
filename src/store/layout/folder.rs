//! The folder of a layout with its index in memory: reading it, changing it, making it. All of it blocks.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::index::{self, Index};
use crate::disk::{self, Place};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// The file that makes a folder an image layout.
pub(super) const VERSION_FILE: &str = "oci-layout";
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file that writers of several processes lock. It is never replaced. Everybody may read the layout itself, and whoever
/// can read a file can hold a lock on it.
pub(super) const LOCK_FILE: &str = ".lock";

/// Longest wait for the lock. It is held for one change of the index, or for one portion of garbage.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Times that a layout is made anew which a collection removes meanwhile.
const TRIES: usize = 16;

/// Whether an index was changed and has to be written, and what is to be told about it.
#[derive(Debug)]
pub(super) enum Changed<T> {
    Yes(T),
    No(T),
}

impl Changed<bool> {
    /// Changed, if that is what happened.
    pub(super) fn so(is_changed: bool) -> Self {
        if is_changed { Self::Yes(true) } else { Self::No(false) }
    }
}

/// How the lock on a layout is held: alone by who changes `index.json` and who removes garbage, shared by all who add or
/// vouch for blobs.
pub(super) use crate::disk::Hold;

/// One folder, as all clones of a layout share it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) place: Place,
    /// For messages, and for who asks where it lies: nothing is opened by it.
    pub(super) path: PathBuf,
    pub(super) label: String,
    /// None until it is first asked for.
    index: RwLock<Option<Index>>,
    /// Held by the one writer of this process.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

impl Folder {
    pub(super) fn new(place: Place) -> Self {
        let path = place.path();
        let label = format!("oci:{}", path.display());
        Self { place, path, label, index: RwLock::default(), writing: Arc::default() }
    }

    /// Looks into the index, read anew if another process wrote it.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> Result<T> {
        {
            let held = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = held.as_ref().filter(|index| !index.is_stale(&self.place)) {
                return Ok(look(index));
            }
        }
        let mut held = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = self.fresh(&mut held)?;
        Ok(look(index))
    }

    /// About how many bytes of memory the index takes; 0 while it is being read.
    pub(super) fn weight(&self) -> usize {
        self.index.try_read().ok().and_then(|held| held.as_ref().map(Index::weight)).unwrap_or_default()
    }

    /// Drops the index, which is read again when it is next asked for.
    pub(super) fn forget(&self) {
        if let Ok(mut held) = self.index.try_write() {
            *held = None;
        }
    }

    fn fresh<'a>(&self, held: &'a mut Option<Index>) -> Result<&'a mut Index> {
        let index = match held.take() {
            Some(index) if !index.is_stale(&self.place) => index,
            _ => Index::load(&self.place)?,
        };
        Ok(held.insert(index))
    }

    /// Waits for the lock that processes share. None where the file system knows no locks, as some network and FAT file
    /// systems do; there one process at a time has to do.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no layout (any more): a collection removes empty ones.
    pub(super) fn lock(&self, how: Hold) -> Result<Option<File>> {
        let place = self.place.join(LOCK_FILE);
        for _ in 0..TRIES {
            let file = disk::open_lock(&place).map_err(place.failed("open"))?;
            if !disk::acquire(&file, how, LONGEST_WAIT).map_err(place.failed("lock"))? {
                return Ok(None);
            }
            // Under the lock a layout stays where it is; before, it may have been moved away.
            if place.names(&file).map_err(place.failed("look at"))? {
                return Ok(Some(file));
            }
        }
        Err(Error::new(Kind::Local, "lock").on(place.path().display()).because("it is replaced again and again"))
    }

    /// The same, after making the folder an image layout if it is not one.
    pub(super) fn lock_made(&self, how: Hold) -> Result<Option<File>> {
        for _ in 0..TRIES {
            self.create()?;
            match self.lock(how) {
                Err(error) if error.kind() == Kind::NotFound => {}
                Ok(lock) if self.is_layout() => return Ok(lock),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Local, "make an image layout in")
            .on(self.path.display())
            .because("it is removed again and again"))
    }

    /// The same for who changes nothing: None if there is no lock yet, or it cannot be had.
    pub(super) fn lock_if_possible(&self, how: Hold) -> Option<File> {
        let (file, _) = self.place.join(LOCK_FILE).open().ok()?;
        disk::acquire(&file, how, LONGEST_WAIT).is_ok_and(|is_held| is_held).then_some(file)
    }

    /// Whether this is an image layout.
    pub(super) fn is_layout(&self) -> bool {
        self.place.join(VERSION_FILE).is_file()
    }

    /// Changes the index and writes it, alone among processes. Alone in this one is whoever holds `writing`.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index, &Place) -> Result<Changed<T>>) -> Result<T> {
        let _lock = self.lock_made(Hold::Alone)?;
        self.change_locked(change)
    }

    /// The same for whoever holds the lock already.
    pub(super) fn change_locked<T>(&self, change: impl FnOnce(&mut Index, &Place) -> Result<Changed<T>>) -> Result<T> {
        // Readers go on with what was until the new index is on disk.
        let mut next = self.read(Index::clone)?;
        match change(&mut next, &self.place)? {
            Changed::No(told) => Ok(told),
            Changed::Yes(told) => {
                next.save(&self.place)?;
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
                Ok(told)
            }
        }
    }

    /// Makes the folder an image layout if it is not one, and gives the place of a blob in it.
    pub(super) fn ensure(&self, digest: &Digest) -> Result<Place> {
        self.create()?;
        self.make_room(digest)
    }

    /// Makes the folder of a blob if need be, and gives its place.
    pub(super) fn make_room(&self, digest: &Digest) -> Result<Place> {
        let place = index::blob(&self.place, digest);
        let folder = place.parent();
        folder.make_folders().map_err(folder.failed("create"))?;
        Ok(place)
    }

    fn create(&self) -> Result<()> {
        let version = self.place.join(VERSION_FILE);
        if self.is_layout() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let made = self.create_as(&version);
            // A collection may have moved an empty one away in the middle of it.
            if !made.as_ref().is_err_and(|error| error.kind() == Kind::NotFound) {
                return made;
            }
        }
        self.create_as(&version)
    }

    fn create_as(&self, version: &Place) -> Result<()> {
        let blobs = self.place.join("blobs");
        blobs.make_folders().map_err(blobs.failed("create"))?;
        // Last what makes it a layout. A second writer may be doing the same: what is there already stays.
        disk::publish_new(&index::place(&self.place), &Index::empty().text()?)?;
        disk::publish_new(version, VERSION)
    }
}
