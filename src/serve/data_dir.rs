//! The data folder: which repositories exist, and where each is.
//!
//! ```text
//! <data>/repositories/<repository path>/_layout/{oci-layout,index.json,blobs/,.lock}
//! <data>/uploads/<session>
//! <data>/serving
//! ```
//!
//! `_layout` is no legal part of a repository's path, which starts with a letter or a digit: whatever the names and the
//! nesting of repositories (`a` and `a/blobs`, `a/index.json`), none can be inside another one's layout. Uploads are on
//! the same file system, so that a finished one is renamed into its layout and not copied. Each server of the folder
//! holds a lock on `serving` (see `data_dir_lock.rs`). The folder may come from a stranger: no access follows a link
//! (`disk`).

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::blob_doubts::BlobDoubts;
use super::data_dir_survey::{self, LAYOUT, Surveyed, repositories, uploads};
use super::reader::{BlobFile, BlobReader, RegistryReader};
use super::upload_files::is_old;
use crate::disk::{DiskRoot, Place, TEMPORARY, blocking};
use crate::error::Result;
use crate::oci::{Digest, RepositoryPath};
use crate::store::layout::index_memory::IndexMemory;
use crate::store::{Layout, PagedStore, absent_is_none};

/// Age at which the next start removes files that an interrupted writer left.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Most repositories that are remembered, whether their lists are in memory or not.
const MAX_KNOWN: usize = 4096;

/// Number of look-ups between two trims of what is in memory.
const TRIM_EVERY: u64 = 16;

/// All repositories of one data folder.
#[derive(Debug)]
pub(super) struct DataDir {
    data: DiskRoot,
    /// One value for each repository, so that its writers share a mutex. Holds only repositories that exist or are
    /// written to.
    layouts: Mutex<Layouts>,
    /// The memory for the repositories' indexes.
    memory: Arc<IndexMemory>,
    /// Files of blobs that do not have the stated length.
    doubts: BlobDoubts,
}

#[derive(Debug, Default)]
struct Layouts {
    known: HashMap<RepositoryPath, KnownLayout>,
    /// Counts the look-ups.
    clock: u64,
}

#[derive(Debug)]
struct KnownLayout {
    layout: Layout,
    used: u64,
}

impl Layouts {
    fn get(&mut self, path: &RepositoryPath, make: impl FnOnce() -> Layout) -> Layout {
        self.clock += 1;
        let used = self.clock;
        if used.is_multiple_of(TRIM_EVERY) {
            self.trim();
        }
        let known = self.known.entry(path.clone()).or_insert_with(|| KnownLayout { layout: make(), used });
        known.used = used;
        known.layout.clone()
    }

    /// Forgets the least recently used repositories until at most [`MAX_KNOWN`] are left. A layout in use stays: its
    /// writers must share a mutex.
    fn trim(&mut self) {
        if self.known.len() <= MAX_KNOWN {
            return;
        }
        let mut oldest: Vec<_> = self.known.iter().map(|(path, known)| (known.used, path.clone())).collect();
        oldest.sort_unstable_by_key(|(used, _)| *used);
        for (_, path) in oldest {
            if self.known.len() <= MAX_KNOWN {
                return;
            }
            if self.known.get(&path).is_some_and(|known| !known.layout.is_shared()) {
                self.known.remove(&path);
            }
        }
    }
}

impl DataDir {
    /// Returns the repositories in `data`. Touches nothing.
    pub(super) fn new(data: &DiskRoot) -> Self {
        Self { data: data.clone(), layouts: Mutex::default(), memory: Arc::default(), doubts: BlobDoubts::default() }
    }

    /// Returns the repository for writing: the first write creates it.
    pub(super) fn repository(&self, path: &RepositoryPath) -> Layout {
        self.lock().get(path, || self.layout(path))
    }

    /// Returns the repository for reading, whether it exists or not.
    pub(super) fn repository_to_read(&self, path: &RepositoryPath) -> Layout {
        let known = self.lock().known.get(path).map(|known| known.layout.clone());
        known.unwrap_or_else(|| self.layout(path))
    }

    fn layout(&self, path: &RepositoryPath) -> Layout {
        Layout::sharing(layout_place(&self.data, path), Arc::clone(&self.memory))
    }

    /// Returns the repository if it exists.
    pub(super) async fn existing(&self, path: &RepositoryPath) -> Result<Option<Layout>> {
        let exists = self.repository_to_read(path).exists().await?;
        Ok(exists.then(|| self.repository(path)))
    }

    /// Forgets the repository if nothing was put into it after all: refused pushes may name any number of repositories.
    /// One that other requests use stays, because its writers must share a mutex.
    pub(super) async fn forget_unless_made(&self, layout: Layout, path: &RepositoryPath) -> Result<()> {
        if layout.exists().await? {
            return Ok(());
        }
        let mut layouts = self.lock();
        drop(layout);
        if layouts.known.get(path).is_some_and(|known| !known.layout.is_shared()) {
            layouts.known.remove(path);
        }
        Ok(())
    }

    /// Whether the repository holds the blob, and its file is not known to be damaged.
    pub(super) async fn has_sound_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<bool> {
        Ok(self.sound_file(path, digest).await?.is_some())
    }

    async fn sound_file(&self, path: &RepositoryPath, digest: &Digest) -> Result<Option<(File, u64)>> {
        let found = absent_is_none(self.repository_to_read(path).file(digest).await)?;
        let Some((file, size)) = found else { return Ok(None) };
        let file = self.doubts.sound(&self.repository(path), *digest, file).await?;
        Ok(file.map(|file| (file, size)))
    }

    fn lock(&self) -> MutexGuard<'_, Layouts> {
        crate::sync::lock(&self.layouts)
    }

    /// Returns the paths of all repositories in order. Blocks.
    pub(super) fn list_in(data: &DiskRoot) -> Vec<RepositoryPath> {
        find(&repositories(data)).paths()
    }

    /// Returns empty layouts that a garbage collection has moved aside and not removed. Blocks.
    pub(super) fn aside_in(data: &DiskRoot) -> Vec<Place> {
        find(&repositories(data)).aside
    }

    /// Returns the layout of a repository.
    pub(super) fn layout_in(data: &DiskRoot, path: &RepositoryPath) -> Layout {
        Layout::below(layout_place(data, path))
    }

    /// Removes the folders that only led to a removed repository, as long as they are empty. Blocks.
    pub(super) fn remove_way_to(data: &DiskRoot, path: &RepositoryPath) {
        let mut way = path.as_str();
        while repositories(data).join(way).remove_folder().is_ok_and(|is_removed| is_removed)
            && let Some((before, _)) = way.rsplit_once('/')
        {
            way = before;
        }
    }
}

#[async_trait]
impl RegistryReader for DataDir {
    async fn repositories(&self) -> Result<Vec<RepositoryPath>> {
        let data = self.data.clone();
        blocking(move || Ok(Self::list_in(&data))).await
    }

    async fn open(&self, path: &RepositoryPath) -> Result<Option<Arc<dyn PagedStore>>> {
        Ok(self.existing(path).await?.map(|layout| Arc::new(layout) as _))
    }

    async fn open_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<Option<Box<dyn BlobReader>>> {
        let found = self.sound_file(path, digest).await?;
        Ok(found.map(|(file, size)| Box::new(BlobFile { file, size }) as _))
    }
}

fn layout_place(data: &DiskRoot, path: &RepositoryPath) -> Place {
    repositories(data).join(path.as_str()).join(LAYOUT)
}

/// Creates the folders for writing, and removes files that crashes left.
pub(super) async fn prepare(data: &DiskRoot) -> Result<()> {
    let (folder, uploads) = (repositories(data), uploads(data));
    blocking(move || {
        for place in [&folder, &uploads] {
            place.make_folders().map_err(place.failed("create"))?;
        }
        for layout in find(&folder).layouts {
            let layout = folder.join(layout).join(LAYOUT);
            sweep(&layout);
            for algorithm in ["sha256", "sha512"] {
                sweep(&layout.join("blobs").join(algorithm));
            }
        }
        Ok(())
    })
    .await
}

/// Surveys the folder of repositories, and skips what does not belong there.
fn find(root: &Place) -> Surveyed {
    data_dir_survey::find(root, &mut drop)
}

/// Removes temporary files of writers from one folder. A file that cannot be removed is no reason not to start.
fn sweep(folder: &Place) {
    // One at a time: the folder may also hold any number of blobs.
    let _ = folder.each(&mut |name| {
        let file = folder.join(&name);
        let is_temporary = name.to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        if is_temporary && is_old(&file, STALE) {
            tracing::debug!(file = %file.path().display(), "removing what a crash left");
            let _ = file.remove();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_held_than_may_be_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let registry = DataDir::new(&DiskRoot::at(folder.path()));
        let path = |n: usize| format!("r{n}").parse::<RepositoryPath>().unwrap();
        let busy = registry.repository(&path(0));
        for n in 1..2 * MAX_KNOWN {
            registry.repository(&path(n));
        }
        let held = registry.lock().known.len();
        assert!(held <= MAX_KNOWN + TRIM_EVERY as usize, "{held}");
        assert!(registry.lock().known.get(&path(0)).unwrap().layout.is_shared());
        drop(busy);
    }

    #[tokio::test]
    async fn a_repository_without_anything_is_forgotten_unless_somebody_else_is_at_it() {
        let folder = tempfile::tempdir().unwrap();
        let registry = DataDir::new(&DiskRoot::at(folder.path()));
        let path = "app".parse().unwrap();
        let busy = registry.repository(&path);
        registry.forget_unless_made(registry.repository(&path), &path).await.unwrap();
        assert!(registry.lock().known.contains_key(&path));
        drop(busy);
        registry.forget_unless_made(registry.repository(&path), &path).await.unwrap();
        assert!(registry.lock().known.is_empty());
    }
}
