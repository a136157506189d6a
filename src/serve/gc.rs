//! Garbage collection over a data folder: every repository, then the uploads that nobody came back to.
//!
//! What makes it safe beside a running server stands in `store::layout::garbage`: age, and a second look under a lock. Uploads
//! are the server's while one lives in the folder (`residence.rs`), because it alone knows which are in flight; it removes the
//! old ones itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::data_dir::DataDir;
use super::data_dir_lock::Residence;
use super::data_dir_survey;
use super::upload_files::is_old;
use crate::disk::{DiskRoot, Place, blocking};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::RepositoryPath;
pub use crate::store::layout::gc::{Effect, KeptManifests, Swept};
use crate::store::layout::gc::{GcRules, LinkCounts, discard};

/// Youngest age that is taken beside a running server: a push must have the time to follow up on what it was told.
pub const LEAST_AGE: Duration = Duration::from_secs(600);

/// What to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The data folder of a server.
    pub data_dir: PathBuf,
    /// What is younger stays. Default 24 h: a push that takes longer is refused its manifest and sends the layers again.
    pub older_than: Duration,
    /// Which manifests are kept. Default [`KeptManifests::All`].
    pub kept: KeptManifests,
    /// Whether anything is removed. Default [`Effect::Removed`].
    pub effect: Effect,
}

impl Collection {
    /// The garbage of `data_dir`, with the defaults.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { data_dir: data_dir.into(), older_than: day, kept: KeptManifests::All, effect: Effect::Removed }
    }
}

/// What was collected.
#[derive(Debug, Clone, Serialize)]
pub struct Collected {
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Every repository, in order of their paths.
    pub repositories: Vec<CollectedRepository>,
    /// Uploads that nobody came back to. None while a server is running, which removes its own.
    pub uploads: Option<Uploads>,
    /// The sums over all repositories and uploads.
    pub totals: Swept,
}

/// One repository.
#[derive(Debug, Clone, Serialize)]
pub struct CollectedRepository {
    /// Its path.
    pub repository: String,
    /// What was garbage in it.
    #[serde(flatten)]
    pub swept: Swept,
    /// Whether nothing was in it (any more), so that all of it was removed.
    #[serde(rename = "removed", skip_serializing_if = "std::ops::Not::not")]
    pub is_removed: bool,
    /// Why it was left as it is, or at this point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
}

/// Uploads that nobody came back to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Uploads {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Collected {
    /// Repositories in which something was wrong.
    #[must_use]
    pub fn left_alone(&self) -> usize {
        self.repositories.iter().filter(|repository| repository.left_alone.is_some()).count()
    }
}

/// Collects the garbage of a data folder. May run beside a server and beside itself.
///
/// # Errors
///
/// [`NotFound`](Kind::NotFound) if there is no such data folder, [`Usage`](Kind::Usage) if a server is running and the age is
/// below [`LEAST_AGE`], [`Unsupported`](Kind::Unsupported) if the file system knows no locks. What is wrong in one repository is
/// told there and keeps none of the others.
pub async fn collect(collection: Collection) -> Result<Collected> {
    blocking(move || run(&collection)).await
}

fn run(collection: &Collection) -> Result<Collected> {
    let Collection { data_dir, older_than, kept, effect } = collection;
    let root = &DiskRoot::at(data_dir);
    if !data_dir_survey::repositories(root).is_folder() {
        let told = Error::new(Kind::NotFound, "find repositories in").on(data_dir.display());
        return Err(told.hint("name the folder that registry serve was given as --data-dir"));
    }
    let alone = Residence::alone(root, *effect)?;
    if alone.is_none() && *older_than < LEAST_AGE && *effect == Effect::Removed {
        let told = Error::new(Kind::Usage, "a server is running on").on(data_dir.display());
        return Err(told.hint("pushes in progress need --older-than 10m or more; stop the server to take everything"));
    }
    let rules = GcRules { older_than: *older_than, kept: *kept, effect: *effect };
    let uploads = alone.as_ref().map(|_| sweep_uploads(&data_dir_survey::uploads(root), &rules)).transpose()?;
    // A young push of a server that starts now is in no danger, unless young things are taken too.
    let _alone = alone.filter(|_| *older_than < LEAST_AGE);
    let mut names = LinkCounts::default();
    let sweep = |path: &RepositoryPath| repository(root, path, &rules, &mut names);
    let repositories: Vec<_> = DataDir::list_in(root).iter().map(sweep).collect();
    if *effect == Effect::Removed {
        remove_aside(root);
    }
    let mut totals = Swept::default();
    for CollectedRepository { swept, .. } in &repositories {
        totals.manifests += swept.manifests;
        totals.blobs += swept.blobs;
        totals.temporary_files += swept.temporary_files;
        totals.bytes += swept.bytes;
        totals.bytes_freed += swept.bytes_freed;
    }
    if let Some(Uploads { bytes, .. }) = uploads {
        totals.bytes += bytes;
        totals.bytes_freed += bytes;
    }
    Ok(Collected { dry_run: *effect == Effect::Counted, repositories, uploads, totals })
}

fn repository(data: &DiskRoot, path: &RepositoryPath, rules: &GcRules, names: &mut LinkCounts) -> CollectedRepository {
    let mut swept = Swept::default();
    let layout = DataDir::layout_in(data, path);
    let done = layout.sweep(rules, names, &mut swept).and_then(|()| layout.remove_empty(rules));
    let is_removed = matches!(done, Ok(true));
    if is_removed && rules.effect == Effect::Removed {
        DataDir::remove_way_to(data, path);
    }
    let left_alone = done.err().map(|error| {
        let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
        printable(&format!("{}{hint}", error.chain()))
    });
    CollectedRepository { repository: path.as_str().to_owned(), swept, is_removed, left_alone }
}

/// Empty layouts that a collection before this one was stopped in the middle of removing.
fn remove_aside(data: &DiskRoot) {
    for aside in DataDir::aside_in(data) {
        if let Err(error) = discard(&aside) {
            tracing::warn!(error = %error.chain(), "what an earlier collection moved aside stays");
        }
    }
}

/// Only for whoever is alone: no server has any of them in flight.
fn sweep_uploads(folder: &Place, rules: &GcRules) -> Result<Uploads> {
    let mut found = Uploads::default();
    for name in folder.list().map_err(folder.failed("list"))? {
        let file = folder.join(name);
        let Ok(Some(data)) = file.look() else { continue };
        if !is_old(&file, rules.older_than) {
            continue;
        }
        if rules.effect == Effect::Removed {
            file.remove().map_err(file.failed("remove"))?;
        }
        found.count += 1;
        found.bytes += data.len();
    }
    Ok(found)
}
