//! The data folder: which repositories there are, and where each lies.
//!
//! ```text
//! <data>/repositories/<repository path>/_layout/{oci-layout,index.json,blobs/}
//! <data>/uploads/<session>
//! <data>/serving
//! ```
//!
//! `_layout` is no legal part of a repository's path, which starts with a letter or a digit: whatever repositories are
//! called and however they nest (`a` and `a/blobs`, `a/index.json`), none can lie inside another one's layout. Uploads
//! are on the same file system, so that a finished one is renamed into its layout and not copied. `serving` is locked by whoever
//! serves the folder (see `residence.rs`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::problem::Problem;
use super::session::is_old;
use crate::error::Result;
use crate::oci::RepositoryPath;
use crate::store::Layout;
use crate::store::layout::file::{TEMPORARY, blocking, failed};

const LAYOUT: &str = "_layout";

/// What a writer left behind goes at the next start once it is this old.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// All repositories of one data folder.
#[derive(Debug)]
pub(super) struct Registry {
    data: PathBuf,
    /// One value for each repository, so that its writers find the same mutex. Only those that exist or are written to.
    layouts: Mutex<HashMap<RepositoryPath, Layout>>,
}

impl Registry {
    /// The repositories in `data`. Nothing is touched.
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), layouts: Mutex::default() }
    }

    /// The repository, for writing: it comes into being when something is put.
    pub(super) fn repository(&self, path: &RepositoryPath) -> Layout {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.entry(path.clone()).or_insert_with(|| Self::layout_in(&self.data, path)).clone()
    }

    /// The repository, for reading: whether there is one or not.
    pub(super) fn repository_to_read(&self, path: &RepositoryPath) -> Layout {
        let known = self.layouts.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        known.unwrap_or_else(|| Self::layout_in(&self.data, path))
    }

    /// The repository, if there is one.
    pub(super) async fn existing(&self, path: &RepositoryPath) -> Result<Layout, Problem> {
        let layout = self.repository_to_read(path);
        if !layout.exists().await? {
            return Err(Problem::name_unknown(path));
        }
        Ok(self.repository(path))
    }

    /// Paths of all repositories in order.
    pub(super) async fn list(&self) -> Result<Vec<RepositoryPath>> {
        let data = self.data.clone();
        blocking(move || Ok(Self::list_in(&data))).await
    }

    /// The same of any data folder. Blocks.
    pub(super) fn list_in(data: &Path) -> Vec<RepositoryPath> {
        let found = find(&repositories(data));
        let mut paths: Vec<RepositoryPath> = found.iter().filter_map(|path| path.parse().ok()).collect();
        paths.sort();
        paths
    }

    /// Where a repository lies.
    pub(super) fn layout_in(data: &Path, path: &RepositoryPath) -> Layout {
        Layout::at(repositories(data).join(path.as_str()).join(LAYOUT))
    }
}

pub(super) fn repositories(data: &Path) -> PathBuf {
    data.join("repositories")
}

/// Makes the folder ready to be written to, and clears away what crashes left.
pub(super) async fn prepare(data: &Path) -> Result<()> {
    let (folder, uploads) = (repositories(data), uploads(data));
    blocking(move || {
        for path in [&folder, &uploads] {
            fs::create_dir_all(path).map_err(|e| failed("create", path, e))?;
        }
        for layout in find(&folder) {
            let folder = folder.join(layout).join(LAYOUT);
            sweep(&folder);
            for algorithm in ["sha256", "sha512"] {
                sweep(&folder.join("blobs").join(algorithm));
            }
        }
        Ok(())
    })
    .await
}

/// Where uploads in progress lie.
pub(super) fn uploads(data: &Path) -> PathBuf {
    data.join("uploads")
}

/// Every folder that holds a layout, as the path of its repository. Does not follow links.
fn find(root: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(root.join(&path)).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name == LAYOUT {
                found.push(path.clone());
            } else if is_folder {
                open.push(if path.is_empty() { name } else { format!("{path}/{name}") });
            }
        }
    }
    found
}

/// Removes what writers left in one folder. What cannot be removed is no reason not to start.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        if is_temporary && is_old(&entry.path(), STALE) {
            tracing::debug!(file = %entry.path().display(), "removing what a crash left");
            let _ = fs::remove_file(entry.path());
        }
    }
}
