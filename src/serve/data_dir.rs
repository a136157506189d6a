//! The data folder: which repositories there are, and where each lies.
//!
//! ```text
//! <data>/repositories/<repository path>/_layout/{oci-layout,index.json,blobs/,.lock}
//! <data>/uploads/<session>
//! <data>/serving
//! ```
//!
//! `_layout` is no legal part of a repository's path, which starts with a letter or a digit: whatever repositories are
//! called and however they nest (`a` and `a/blobs`, `a/index.json`), none can lie inside another one's layout. Uploads
//! are on the same file system, so that a finished one is renamed into its layout and not copied. `serving` is locked by whoever
//! serves the folder (see `residence.rs`). The folder may come from a stranger: nothing in it is reached through a link (`disk`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::data_dir_survey::{self, LAYOUT, Surveyed, repositories, uploads};
use super::error_response::ErrorResponse;
use super::upload_files::is_old;
use crate::disk::{DiskRoot, Place, TEMPORARY, blocking};
use crate::error::Result;
use crate::oci::RepositoryPath;
use crate::store::Layout;
use crate::store::layout::index_memory::IndexMemory;

/// What a writer left behind goes at the next start once it is this old.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Most repositories that are known, whether their lists are held or not.
const MAX_KNOWN: usize = 4096;

/// After so many questions what is held is looked through.
const TRIM_EVERY: u64 = 16;

/// All repositories of one data folder.
#[derive(Debug)]
pub(super) struct DataDir {
    data: DiskRoot,
    /// One value for each repository, so that its writers find the same mutex. Only those that exist or are written to.
    layouts: Mutex<Layouts>,
    /// What the lists of what repositories hold may take.
    memory: Arc<IndexMemory>,
}

#[derive(Debug, Default)]
struct Layouts {
    known: HashMap<RepositoryPath, KnownLayout>,
    /// Counts the times that one was asked for.
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

    /// Forgets what was not asked for in the longest time, until no more is known than may be. A layout in use stays: its
    /// writers must find the same mutex.
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
    /// The repositories in `data`. Nothing is touched.
    pub(super) fn new(data: &DiskRoot) -> Self {
        Self { data: data.clone(), layouts: Mutex::default(), memory: Arc::default() }
    }

    /// The repository, for writing: it comes into being when something is put.
    pub(super) fn repository(&self, path: &RepositoryPath) -> Layout {
        self.lock().get(path, || self.layout(path))
    }

    /// The repository, for reading: whether there is one or not.
    pub(super) fn repository_to_read(&self, path: &RepositoryPath) -> Layout {
        let known = self.lock().known.get(path).map(|known| known.layout.clone());
        known.unwrap_or_else(|| self.layout(path))
    }

    fn layout(&self, path: &RepositoryPath) -> Layout {
        Layout::sharing(layout_place(&self.data, path), Arc::clone(&self.memory))
    }

    /// The repository, if there is one.
    pub(super) async fn existing(&self, path: &RepositoryPath) -> Result<Layout, ErrorResponse> {
        let layout = self.repository_to_read(path);
        if !layout.exists().await? {
            return Err(ErrorResponse::name_unknown(path));
        }
        Ok(self.repository(path))
    }

    /// Forgets the repository if nothing was put into it after all: refused pushes may name any number of them. One that
    /// others are at stays, for its writers must find the same mutex.
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

    fn lock(&self) -> MutexGuard<'_, Layouts> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Paths of all repositories in order.
    pub(super) async fn list(&self) -> Result<Vec<RepositoryPath>> {
        let data = self.data.clone();
        blocking(move || Ok(Self::list_in(&data))).await
    }

    /// The same of any data folder. Blocks.
    pub(super) fn list_in(data: &DiskRoot) -> Vec<RepositoryPath> {
        find(&repositories(data)).paths()
    }

    /// Empty layouts that a collection has moved aside and not removed. Blocks.
    pub(super) fn aside_in(data: &DiskRoot) -> Vec<Place> {
        find(&repositories(data)).aside
    }

    /// Where a repository lies.
    pub(super) fn layout_in(data: &DiskRoot, path: &RepositoryPath) -> Layout {
        Layout::below(layout_place(data, path))
    }

    /// Removes the folders that only led to a repository which is gone, as far as nothing else is in them. Blocks.
    pub(super) fn remove_way_to(data: &DiskRoot, path: &RepositoryPath) {
        let mut way = path.as_str();
        while repositories(data).join(way).remove_folder().is_ok_and(|is_removed| is_removed)
            && let Some((before, _)) = way.rsplit_once('/')
        {
            way = before;
        }
    }
}

fn layout_place(data: &DiskRoot, path: &RepositoryPath) -> Place {
    repositories(data).join(path.as_str()).join(LAYOUT)
}

/// Makes the folder ready to be written to, and clears away what crashes left.
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

/// What lies below the folder of repositories; what does not belong there is passed over.
fn find(root: &Place) -> Surveyed {
    data_dir_survey::find(root, &mut drop)
}

/// Removes what writers left in one folder. What cannot be removed is no reason not to start.
fn sweep(folder: &Place) {
    // One by one: there may be any number of blobs beside them.
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
