//! The data folder: which repositories there are, and where each lies.
//!
//! ```text
//! <data>/repositories/<repository path>/_layout/{oci-layout,index.json,blobs/}
//! <data>/uploads/<session>
//! ```
//!
//! `_layout` is no legal part of a repository's path, which starts with a letter or a digit: whatever repositories are
//! called and however they nest (`a` and `a/blobs`, `a/index.json`), none can lie inside another one's layout. Uploads
//! are on the same file system, so that a finished one is renamed into its layout and not copied.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::problem::Problem;
use crate::error::Result;
use crate::oci::RepositoryPath;
use crate::store::Layout;
use crate::store::layout::file::{TEMPORARY, blocking, failed};

const LAYOUT: &str = "_layout";

/// What a crash left behind goes at the next start once it is this old.
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
        let folder = repositories(&self.data);
        let found = blocking(move || Ok(find(&folder))).await?;
        let mut paths: Vec<RepositoryPath> = found.iter().filter_map(|path| path.parse().ok()).collect();
        paths.sort();
        Ok(paths)
    }

    /// Where a repository lies.
    pub(super) fn layout_in(data: &Path, path: &RepositoryPath) -> Layout {
        Layout::at(repositories(data).join(path.as_str()).join(LAYOUT))
    }
}

fn repositories(data: &Path) -> PathBuf {
    data.join("repositories")
}

/// Makes the folder ready to be written to, and clears away what crashes left.
pub(super) async fn prepare(data: &Path) -> Result<()> {
    let (folder, uploads) = (repositories(data), uploads(data));
    blocking(move || {
        for path in [&folder, &uploads] {
            fs::create_dir_all(path).map_err(|e| failed("create", path, e))?;
        }
        sweep(&uploads, |_| true);
        for layout in find(&folder) {
            let folder = folder.join(layout).join(LAYOUT);
            sweep(&folder, is_temporary);
            for algorithm in ["sha256", "sha512"] {
                sweep(&folder.join("blobs").join(algorithm), is_temporary);
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

fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Removes old files from one folder. What cannot be removed is no reason not to start.
fn sweep(folder: &Path, is_ours: fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
        let is_old = modified.elapsed().is_ok_and(|age| age > STALE);
        if is_old && entry.file_name().to_str().is_some_and(is_ours) {
            tracing::debug!(file = %entry.path().display(), "removing what a crash left");
            let _ = fs::remove_file(entry.path());
        }
    }
}
