//! The memory that the indexes of all layouts of one server share.
//!
//! A data folder is untrusted, and may hold any number of lists of any permitted length. The memory of all of them
//! together is bounded: before an index is read, the least recently used ones are dropped. Small indexes are read and
//! changed a few at a time, large ones one at a time. A caller that waits too long for a turn gets an error that says
//! to retry.
//!
//! Large indexes are read and changed on one thread: freed memory is used again only by the thread that first asked for
//! it, so that with many threads the bound would count many times (glibc's arenas).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak, mpsc};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::disk::blocking;
use crate::error::{Error, Kind, Result};

/// Most bytes that all indexes together may take, and also a single one.
pub(super) const MAX_BYTES: usize = 96 << 20;

/// Most bytes of a small index.
pub(super) const SMALL_BYTES: usize = 1 << 20;

/// Small indexes that are read or changed at the same time.
const SMALL_TURNS: usize = 8;

/// Longest wait for a turn.
const WAIT: Duration = Duration::from_secs(30);

/// Why content is not available at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many long lists or doubtful blobs are asked for at this moment")]
pub(crate) struct Busy;

/// Work that needs more memory than it was given, and roughly how much.
#[derive(Debug)]
pub(super) struct Back<F> {
    pub(super) work: F,
    pub(super) needs: usize,
}

/// A folder that holds its index in memory.
pub(super) trait IndexHolder: std::fmt::Debug + Send + Sync {
    /// Identifies this folder among others in memory.
    fn key(&self) -> usize;

    fn itself(&self) -> Weak<dyn IndexHolder>;

    /// Returns when the index was last used.
    fn used(&self) -> u64;

    /// Drops the index; the next use reads it again. Returns false if there is none.
    fn forget(&self) -> bool;
}

type IndexJob = Box<dyn FnOnce() + Send>;

/// The memory of the indexes of one server.
#[derive(Debug)]
pub(crate) struct IndexMemory {
    most: usize,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// The thread that reads and changes large indexes. None if it could not be started.
    thread: OnceLock<Option<mpsc::Sender<IndexJob>>>,
    held: Mutex<HashMap<usize, HeldIndex>>,
    /// Counts the uses of all indexes.
    clock: AtomicU64,
}

#[derive(Debug)]
struct HeldIndex {
    folder: Weak<dyn IndexHolder>,
    bytes: usize,
}

/// The right to read or change an index that takes this many bytes.
#[derive(Debug)]
pub(super) struct IndexTurn {
    pub(super) most: usize,
    memory: Arc<IndexMemory>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for IndexMemory {
    fn default() -> Self {
        Self::new(MAX_BYTES)
    }
}

impl IndexMemory {
    fn new(most: usize) -> Self {
        Self {
            most,
            small: Arc::new(Semaphore::new(SMALL_TURNS)),
            large: Arc::new(Semaphore::new(1)),
            thread: OnceLock::new(),
            held: Mutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// Waits for the right to `needs` bytes. An index that is already in memory needs none.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](Kind::Unavailable) because of [`Busy`] if others hold their turns for too long.
    pub(super) async fn turn(self: &Arc<Self>, needs: usize) -> Result<IndexTurn> {
        let turns = match needs {
            0 => return Ok(IndexTurn { most: 0, memory: Arc::clone(self), permit: None }),
            1..=SMALL_BYTES => &self.small,
            _ => &self.large,
        };
        let busy = || Error::new(Kind::Unavailable, "read index.json").because(Busy);
        let taken = timeout(WAIT, Arc::clone(turns).acquire_owned()).await.map_err(|_| busy())?;
        let permit = Some(taken.map_err(|_| busy())?);
        Ok(IndexTurn { most: needs.clamp(SMALL_BYTES, MAX_BYTES), memory: Arc::clone(self), permit })
    }

    /// Returns the time of a use.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Frees `bytes` for `folder`: drops the least recently used indexes of other folders.
    pub(super) fn make_room(&self, folder: &dyn IndexHolder, bytes: usize) {
        let mut others: Vec<(Arc<dyn IndexHolder>, usize)> = {
            let held = self.held();
            let others = held.iter().filter(|(key, _)| **key != folder.key());
            others.filter_map(|(_, held)| Some((held.folder.upgrade()?, held.bytes))).collect()
        };
        let mut sum: usize = others.iter().map(|(_, bytes)| bytes).sum();
        others.sort_by_cached_key(|(other, _)| other.used());
        for (other, freed) in others {
            if sum.saturating_add(bytes) <= self.most {
                return;
            }
            // An index that is being read or changed keeps its memory.
            if other.forget() {
                sum = sum.saturating_sub(freed);
                self.set(&*other, 0);
            }
        }
    }

    /// Records that the index of `folder` now takes this many bytes.
    pub(super) fn set(&self, folder: &dyn IndexHolder, bytes: usize) {
        let mut held = self.held();
        match bytes {
            0 => drop(held.remove(&folder.key())),
            _ => drop(held.insert(folder.key(), HeldIndex { folder: folder.itself(), bytes })),
        }
    }

    /// Returns the bytes that all indexes take together.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.held().values().map(|held| held.bytes).sum()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<usize, HeldIndex>> {
        crate::sync::lock(&self.held)
    }

    fn thread(&self) -> Option<&mpsc::Sender<IndexJob>> {
        let make = || {
            let (jobs, queue) = mpsc::channel::<IndexJob>();
            let run = move || {
                // Ends with the server.
                for job in queue {
                    // The waiting caller sees that there is no result.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            std::thread::Builder::new().name("indexes".to_owned()).spawn(run).ok().map(|_| jobs)
        };
        self.thread.get_or_init(make).as_ref()
    }
}

impl IndexTurn {
    /// Runs `work` on the thread for its size. It runs on when its caller no longer waits, and the turn ends with it.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(usize) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let memory = Arc::clone(&self.memory);
        let thread = if self.most > SMALL_BYTES { memory.thread() } else { None };
        let whole = move || {
            let turn = self;
            let done = work(turn.most);
            drop(turn.permit);
            done
        };
        let Some(thread) = thread else { return blocking(whole).await };
        let lost = || Error::new(Kind::Local, "read index.json").because("the thread that does it has failed");
        let (tell, told) = oneshot::channel();
        let job = move || {
            let _ = tell.send(whole());
        };
        thread.send(Box::new(job)).map_err(|_| lost())?;
        told.await.map_err(|_| lost())?
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Layout;
    use super::*;
    use crate::disk::DiskRoot;
    use crate::oci::{Descriptor, MediaType, Name, Tag};
    use crate::store::{Body, Listing as _, Store as _};

    async fn tag(layout: &Layout, tag: &str) -> Result<()> {
        let bytes = br#"{"schemaVersion":2,"manifests":[]}"#;
        let node = Descriptor::of(MediaType::OCI_INDEX, bytes);
        let tags: [Tag; 1] = [tag.parse().unwrap()];
        layout.put(&node, &Body::bytes(node.clone(), &bytes[..]), &tags).await.map(drop)
    }

    #[tokio::test]
    async fn no_more_is_held_than_may_be_and_what_was_dropped_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = DiskRoot::at(folder.path());
        // A list takes about two kilobytes.
        let memory = Arc::new(IndexMemory::new(5_000));
        let layout = |n: usize| Layout::sharing(root.join(format!("r{n}")), Arc::clone(&memory));
        let layouts: Vec<_> = (0..5).map(layout).collect();
        for layout in &layouts {
            tag(layout, "v1").await.unwrap();
        }
        let tags = async |n: usize| layouts[n].tags().await.unwrap().len();
        for n in [0, 1, 0, 2, 0, 3, 0, 4] {
            assert_eq!(tags(n).await, 1);
            assert!(memory.bytes() <= 5_000, "{}", memory.bytes());
        }
        assert!(memory.bytes() > 2_000);
        assert!(layouts[0].inner.forget(), "it was asked for a moment ago");
        assert!(!layouts[1].inner.forget(), "it was not asked for in the longest time");
        drop(layouts);
        assert_eq!(memory.bytes(), 0);
    }

    #[tokio::test]
    async fn a_large_list_is_read_and_changed_in_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(IndexMemory::default());
        let layout = Layout::sharing(DiskRoot::at(folder.path()).place(), Arc::clone(&memory));
        tag(&layout, "first").await.unwrap();
        lengthen(folder.path());
        assert_eq!(layout.tags().await.unwrap().len(), 2_001);
        tag(&layout, "last").await.unwrap();
        assert!(layout.remove_tag(&"t7".parse().unwrap()).await.unwrap());
        assert!(!layout.remove_tag(&"t7".parse().unwrap()).await.unwrap());
        assert!(memory.bytes() > SMALL_BYTES, "{}", memory.bytes());
        for layout in [&layout, &Layout::at(folder.path())] {
            assert_eq!(layout.tags().await.unwrap().len(), 2_001);
            assert!(layout.fetch(&Name::Tag("last".parse().unwrap())).await.is_ok());
        }
    }

    /// Gives the first manifest of a list 2,000 more tags.
    fn lengthen(folder: &Path) {
        let place = folder.join("index.json");
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&place).unwrap()).unwrap();
        let entry = document["manifests"][0].clone();
        for n in 0..2_000 {
            let mut entry = entry.clone();
            entry["annotations"]["org.opencontainers.image.ref.name"] = format!("t{n}").into();
            document["manifests"].as_array_mut().unwrap().push(entry);
        }
        std::fs::write(&place, document.to_string()).unwrap();
    }

    #[tokio::test]
    async fn a_blob_brings_a_short_list_into_memory_and_a_long_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        let text = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
        let node = Descriptor::of(MediaType::OCI_MANIFEST, text.as_bytes());
        let layout = Layout::at(folder.path());
        layout.put(&node, &Body::bytes(node.clone(), text.into_bytes()), &["v1".parse().unwrap()]).await.unwrap();
        for is_long in [false, true] {
            if is_long {
                lengthen(folder.path());
            }
            let memory = Arc::new(IndexMemory::default());
            let layout = Layout::sharing(DiskRoot::at(folder.path()).place(), Arc::clone(&memory));
            let stated = layout.stated_length(config.digest).await;
            assert_eq!((stated.is_none(), memory.bytes() == 0), (is_long, is_long));
            layout.tags().await.unwrap();
            assert!(layout.stated_length(config.digest).await.is_some(), "it is in memory now");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_ends_and_small_lists_do_not_wait_for_large_ones() {
        let memory = Arc::new(IndexMemory::default());
        let large = memory.turn(SMALL_BYTES + 1).await.unwrap();
        assert_eq!(memory.turn(1).await.unwrap().most, SMALL_BYTES);
        let error = memory.turn(SMALL_BYTES + 1).await.unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.chain().contains(&Busy.to_string()));
        drop(large);
        assert_eq!(memory.turn(usize::MAX).await.unwrap().most, MAX_BYTES);
    }
}
