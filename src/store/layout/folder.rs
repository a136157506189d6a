//! The folder of a layout with its index in memory: reading it, changing it, making it. All of it blocks.

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

/// The file that writers of several processes lock. It is never replaced. Everybody may read the layout itself, and whoever
/// can read a file can hold a lock on it.
pub(super) const LOCK_FILE: &str = ".lock";

/// Longest wait for the lock. It is held for one change of the index, or for one portion of garbage.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Longest wait for those who look into an index that is to go. A look takes some milliseconds.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

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
pub(super) struct LayoutFolder {
    pub(super) place: Place,
    /// For messages, and for who asks where it lies: nothing is opened by it.
    pub(super) path: PathBuf,
    pub(super) label: String,
    /// None until it is first asked for. Locked for a moment only.
    index: RwLock<Option<Arc<LayoutIndex>>>,
    /// Held by who reads the index from its file, or changes it where it is.
    loading: Mutex<()>,
    /// What the indexes of several layouts share; none for one that is alone.
    pub(super) memory: Option<Arc<IndexMemory>>,
    /// When the index was last asked for, by the clock of `memory`.
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
            loading: Mutex::default(),
            memory,
            used: AtomicU64::new(0),
            itself: Weak::clone(itself),
            writing: Arc::default(),
        })
    }

    /// Looks into the index, read anew if another process wrote it, however much memory that takes.
    pub(super) fn read<T>(&self, look: impl FnOnce(&LayoutIndex) -> T) -> Result<T> {
        Ok(look(&*self.load(usize::MAX)?.ok_or_else(|| self.too_large())?))
    }

    /// The same with at most so many bytes for an index that is not held yet; where it needs more, nothing is done.
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
            None if most < MAX_BYTES => Ok(Err(Back { work: look, needs: MAX_BYTES })),
            None => Err(self.too_large()),
        }
    }

    /// The index, if it is in memory and of the file that is there.
    fn held(&self) -> Option<Arc<LayoutIndex>> {
        let held = self.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(memory) = &self.memory {
            self.used.store(memory.tick(), Ordering::Relaxed);
        }
        held.filter(|index| !index.is_stale(&self.place))
    }

    /// About how many bytes the index takes, by the length of its file. In memory an entry takes three times its bytes, and more
    /// if manifests list others.
    fn estimate(&self) -> usize {
        let length = IndexStamp::of(&self.place).map_or(0, |stamp| usize::try_from(stamp.length).unwrap_or(usize::MAX));
        length.saturating_mul(4).saturating_add(1 << 10)
    }

    /// How much has to be asked for to read the index.
    fn needs(&self) -> usize {
        match self.estimate() {
            0..=SMALL_BYTES => SMALL_BYTES,
            needs => needs.saturating_add(4 << 20).min(MAX_BYTES),
        }
    }

    /// The index, read from its file if need be. None if it takes more than `most` bytes.
    fn load(&self, most: usize) -> Result<Option<Arc<LayoutIndex>>> {
        if let Some(index) = self.held() {
            return Ok(Some(index));
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.held() {
            return Ok(Some(index));
        }
        // The former one goes first: both would take twice the memory.
        self.forget();
        if let Some(memory) = &self.memory {
            memory.set(self, 0);
            memory.make_room(self, if most < MAX_BYTES { self.estimate().min(most) } else { MAX_BYTES });
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

    /// The index, taken away from all who look into it.
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
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>) -> Result<T> {
        let _lock = self.lock_made(Hold::Alone)?;
        self.change_locked(change)
    }

    /// The same for whoever holds the lock already.
    pub(super) fn change_locked<T>(
        &self,
        change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>,
    ) -> Result<T> {
        self.change_within(usize::MAX, change)?.map_err(|_| self.too_large())
    }

    /// The same with at most so many bytes; where it needs more, nothing is done.
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
        // Readers go on with what was until the new index is on disk.
        match self.changed(&mut next, change)? {
            Changed::No(told) => Ok(Ok(told)),
            Changed::Yes(told) => {
                self.keep(Arc::new(next));
                Ok(Ok(told))
            }
        }
    }

    /// A change of a large index. Readers wait: a second one would take as much memory again.
    fn change_in_place<T>(&self, change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>>) -> Result<T> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = match self.take().filter(|index| !index.is_stale(&self.place)).map(Arc::try_unwrap) {
            Some(Ok(index)) => index,
            // Somebody has been looking into it for very long.
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
            // It may be half changed: it is read anew.
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
                // It could not be read again.
                let told = Error::new(Kind::Limit, "write").on(index::place(&self.place).path().display());
                return Err(told.because(Outgrown));
            }
            index.save(&self.place)?;
        }
        Ok(changed)
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
