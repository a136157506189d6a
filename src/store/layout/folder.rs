//! The folder of a layout with its index in memory: reads it, changes it, creates it. All of it blocks.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::index::{self, IndexStamp, LayoutIndex, Outgrown};
use super::index_memory::{Back, IndexHolder, IndexMemory, MAX_BYTES, SMALL_BYTES};
use crate::disk::{self, Place};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// The file that makes a folder an image layout.
pub(super) const VERSION_FILE: &str = "oci-layout";
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file that writers of several processes lock. It is never replaced. It is not one of the layout's own files,
/// because all users may read those, and a user who can read a file can hold a lock on it.
pub(super) const LOCK_FILE: &str = ".lock";

/// Longest wait for the lock. It is held for one change of the index, or for one portion of garbage.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Longest wait for readers of an index that must go. A read takes some milliseconds.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Number of tries to create a layout that garbage collection removes at the same time.
const TRIES: usize = 16;

/// Whether an index was changed and must be written, with the result of the change.
#[derive(Debug)]
pub(super) enum Changed<T> {
    Yes(T),
    No(T),
}

impl Changed<bool> {
    /// Returns `Yes` if the index was changed.
    pub(super) fn so(is_changed: bool) -> Self {
        if is_changed { Self::Yes(true) } else { Self::No(false) }
    }
}

/// How to hold the lock on a layout: alone to change `index.json` or remove garbage, shared to add or vouch for blobs.
pub(super) use crate::disk::Hold;

/// The folder that all clones of a layout share.
#[derive(Debug)]
pub(super) struct LayoutFolder {
    pub(super) place: Place,
    /// For messages, and for callers that ask for the path: nothing is opened by it.
    pub(super) path: PathBuf,
    pub(super) label: String,
    /// None until first use. Locked only for a moment.
    index: RwLock<Option<Arc<LayoutIndex>>>,
    /// The version of the list that took more memory than a short one may.
    outgrown: Mutex<Option<IndexStamp>>,
    /// Held while the index is read from its file, or changed in place.
    loading: Mutex<()>,
    /// The memory that the indexes of several layouts share; None for a single layout.
    pub(super) memory: Option<Arc<IndexMemory>>,
    /// When the index was last used, by the clock of `memory`.
    used: AtomicU64,
    itself: Weak<Self>,
    /// Held by the one writer of this process.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

impl IndexHolder for LayoutFolder {
    fn key(&self) -> usize {
        self.itself.as_ptr().addr()
    }

    fn itself(&self) -> Weak<dyn IndexHolder> {
        Weak::<Self>::clone(&self.itself)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn forget(&self) -> bool {
        self.take().is_some()
    }
}

impl LayoutFolder {
    pub(super) fn new(place: Place, memory: Option<Arc<IndexMemory>>) -> Arc<Self> {
        let path = place.path();
        let label = format!("oci:{}", path.display());
        Arc::new_cyclic(|itself| Self {
            place,
            path,
            label,
            index: RwLock::default(),
            outgrown: Mutex::default(),
            loading: Mutex::default(),
            memory,
            used: AtomicU64::new(0),
            itself: Weak::clone(itself),
            writing: Arc::default(),
        })
    }

    /// Reads from the index, and loads it again if another process wrote it, however much memory that takes.
    pub(super) fn read<T>(&self, look: impl FnOnce(&LayoutIndex) -> T) -> Result<T> {
        Ok(look(&*self.load(usize::MAX)?.ok_or_else(|| self.too_large())?))
    }

    /// Does the same with at most `most` bytes for an index that is not in memory yet; does nothing if it needs more.
    pub(super) fn read_within<T, F: FnOnce(&LayoutIndex) -> T>(
        &self,
        most: usize,
        look: F,
    ) -> Result<Result<T, Back<F>>> {
        let needs = match self.held() {
            Some(index) => return Ok(Ok(look(&index))),
            None => self.needs(),
        };
        if needs > most {
            return Ok(Err(Back { work: look, needs }));
        }
        match self.load(most)? {
            Some(index) => Ok(Ok(look(&index))),
            None if most < MAX_BYTES => {
                *crate::sync::lock(&self.outgrown) = IndexStamp::of(&self.place);
                Ok(Err(Back { work: look, needs: MAX_BYTES }))
            }
            None => Err(self.too_large()),
        }
    }

    /// Returns the index if it is in memory and matches the current file.
    fn held(&self) -> Option<Arc<LayoutIndex>> {
        let held = self.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(memory) = &self.memory {
            self.used.store(memory.tick(), Ordering::Relaxed);
        }
        held.filter(|index| !index.is_stale(&self.place))
    }

    /// Estimates the bytes that the index takes, from the length of its file. In memory an entry takes three times its
    /// bytes, and more if manifests list others.
    fn estimate(&self, stamp: Option<IndexStamp>) -> usize {
        let length = stamp.map_or(0, |stamp| usize::try_from(stamp.length).unwrap_or(usize::MAX));
        length.saturating_mul(4).saturating_add(1 << 10)
    }

    /// Returns how much memory to request for reading the index.
    fn needs(&self) -> usize {
        let stamp = IndexStamp::of(&self.place);
        if stamp.is_some() && *crate::sync::lock(&self.outgrown) == stamp {
            return MAX_BYTES;
        }
        match self.estimate(stamp) {
            0..=SMALL_BYTES => SMALL_BYTES,
            needs => needs.saturating_add(4 << 20).min(MAX_BYTES),
        }
    }

    /// Returns the index, loaded from its file if necessary. None if it takes more than `most` bytes.
    fn load(&self, most: usize) -> Result<Option<Arc<LayoutIndex>>> {
        if let Some(index) = self.held() {
            return Ok(Some(index));
        }
        let _loading = crate::sync::lock(&self.loading);
        if let Some(index) = self.held() {
            return Ok(Some(index));
        }
        // Drop the old one first: both would take twice the memory.
        self.forget();
        if let Some(memory) = &self.memory {
            memory.set(self, 0);
            memory.make_room(
                self,
                if most < MAX_BYTES { self.estimate(IndexStamp::of(&self.place)).min(most) } else { MAX_BYTES },
            );
        }
        let Some(index) = LayoutIndex::load(&self.place, most)?.map(Arc::new) else { return Ok(None) };
        self.keep(Arc::clone(&index));
        Ok(Some(index))
    }

    fn keep(&self, index: Arc<LayoutIndex>) {
        let weight = index.weight();
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
        if let Some(memory) = &self.memory {
            memory.set(self, weight);
            memory.make_room(self, weight);
        }
    }

    /// Takes the index away from its readers.
    fn take(&self) -> Option<Arc<LayoutIndex>> {
        let taken = self.index.write().unwrap_or_else(PoisonError::into_inner).take()?;
        let begun = Instant::now();
        while Arc::strong_count(&taken) > 1 && begun.elapsed() < LONGEST_LOOK {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(taken)
    }

    fn too_large(&self) -> Error {
        let why = format!("what it leads to takes more than {MAX_BYTES} bytes of memory");
        let told = Error::new(Kind::Limit, "read").on(index::place(&self.place).path().display()).because(why);
        told.hint("spread the images over several repositories")
    }

    /// Waits for the lock that processes share. None if the file system has no locks, as some network and FAT file
    /// systems do; there the operator must run one process at a time.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no layout (any more): garbage collection removes empty ones.
    pub(super) fn lock(&self, how: Hold) -> Result<Option<File>> {
        let place = self.place.join(LOCK_FILE);
        for _ in 0..TRIES {
            let file = disk::open_lock(&place).map_err(place.failed("open"))?;
            if !disk::acquire(&file, how, LONGEST_WAIT).map_err(place.failed("lock"))? {
                return Ok(None);
            }
            // Once the lock is held, the layout cannot move; before, it may have been moved away.
            if place.names(&file).map_err(place.failed("look at"))? {
                return Ok(Some(file));
            }
        }
        Err(Error::new(Kind::Local, "lock").on(place.path().display()).because("it is replaced again and again"))
    }

    /// Does the same, after making the folder an image layout if it is not one.
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

    /// Does the same for a caller that changes nothing: None if there is no lock file yet, or the lock fails.
    pub(super) fn lock_if_possible(&self, how: Hold) -> Option<File> {
        let (file, _) = self.place.join(LOCK_FILE).open().ok()?;
        disk::acquire(&file, how, LONGEST_WAIT).is_ok_and(|is_held| is_held).then_some(file)
    }

    /// Whether this is an image layout.
    pub(super) fn is_layout(&self) -> bool {
        self.place.join(VERSION_FILE).is_file()
    }

    /// Changes the index and writes it, alone among processes. Within this process the caller must hold `writing`.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>) -> Result<T> {
        let _lock = self.lock_made(Hold::Alone)?;
        self.change_locked(change)
    }

    /// Does the same for a caller that already holds the lock.
    pub(super) fn change_locked<T>(
        &self,
        change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>,
    ) -> Result<T> {
        self.change_within(usize::MAX, change)?.map_err(|_| self.too_large())
    }

    /// Does the same with at most `most` bytes; does nothing if it needs more.
    pub(super) fn change_within<T, F: FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>>(
        &self,
        most: usize,
        change: F,
    ) -> Result<Result<T, Back<F>>> {
        let copy = |index: &LayoutIndex| {
            let weight = index.weight();
            (weight, (weight <= SMALL_BYTES).then(|| index.clone()))
        };
        let mut next = match self.read_within(most, copy)? {
            Ok((_, Some(next))) => next,
            Ok((weight, None)) if most <= SMALL_BYTES => return Ok(Err(Back { work: change, needs: weight })),
            Ok((_, None)) => return self.change_in_place(change).map(Ok),
            Err(Back { needs, .. }) => return Ok(Err(Back { work: change, needs })),
        };
        // Readers use the old index until the new one is on disk.
        match self.changed(&mut next, change)? {
            Changed::No(told) => Ok(Ok(told)),
            Changed::Yes(told) => {
                self.keep(Arc::new(next));
                Ok(Ok(told))
            }
        }
    }

    /// Changes a large index in place. Readers wait: a copy would take as much memory again.
    fn change_in_place<T>(&self, change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>) -> Result<T> {
        let _loading = crate::sync::lock(&self.loading);
        let mut index = match self.take().filter(|index| !index.is_stale(&self.place)).map(Arc::try_unwrap) {
            Some(Ok(index)) => index,
            // A reader has held it for very long.
            Some(Err(shared)) => LayoutIndex::clone(&shared),
            // It was dropped meanwhile.
            None => LayoutIndex::load(&self.place, MAX_BYTES)?.ok_or_else(|| self.too_large())?,
        };
        let changed = self.changed(&mut index, change);
        match changed {
            Ok(Changed::No(told) | Changed::Yes(told)) => {
                self.keep(Arc::new(index));
                Ok(told)
            }
            // It may be half changed: load it again.
            Err(error) => {
                if let Some(memory) = &self.memory {
                    memory.set(self, 0);
                }
                Err(error)
            }
        }
    }

    /// Changes an index and writes it.
    fn changed<T>(
        &self,
        index: &mut LayoutIndex,
        change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>,
    ) -> Result<Changed<T>> {
        let changed = change(index, &self.place)?;
        if matches!(changed, Changed::Yes(_)) {
            if self.memory.is_some() && index.weight() > MAX_BYTES {
                // Such an index could not be loaded again.
                let told = Error::new(Kind::Limit, "write").on(index::place(&self.place).path().display());
                return Err(told.because(Outgrown));
            }
            index.save(&self.place)?;
        }
        Ok(changed)
    }

    /// Makes the folder an image layout if it is not one, and returns the place of a blob in it.
    pub(super) fn ensure(&self, digest: &Digest) -> Result<Place> {
        self.create()?;
        self.make_room(digest)
    }

    /// Creates the folder of a blob if it is missing, and returns the blob's place.
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
            // Garbage collection may have moved an empty layout away in the middle.
            if !made.as_ref().is_err_and(|error| error.kind() == Kind::NotFound) {
                return made;
            }
        }
        self.create_as(&version)
    }

    fn create_as(&self, version: &Place) -> Result<()> {
        let blobs = self.place.join("blobs");
        blobs.make_folders().map_err(blobs.failed("create"))?;
        // The file that makes it a layout comes last. A second writer may do the same: existing files stay.
        disk::publish_new(&index::place(&self.place), &LayoutIndex::empty().text()?)?;
        disk::publish_new(version, VERSION)
    }
}

impl Drop for LayoutFolder {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.set(self, 0);
        }
    }
}
