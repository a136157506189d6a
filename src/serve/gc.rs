//! Garbage collection over a data folder: every repository, then abandoned uploads.
//!
//! Age, and a second look under a lock, make it safe beside a running server (see `store::layout::gc`). While a server
//! holds the folder (`data_dir_lock.rs`), uploads are the server's, because it alone knows which are in flight; it
//! removes the old ones itself.

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

/// Least age of garbage to collect beside a running server: a push needs time to act on the answers that it got.
pub const LEAST_AGE: Duration = Duration::from_secs(600);

/// The options of a garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The data folder of a server.
    pub data_dir: PathBuf,
    /// Keeps younger content. Default 24 h: the manifest of a longer push is refused, and the client sends the layers
    /// again.
    pub older_than: Duration,
    /// Which manifests are kept. Default [`KeptManifests::All`].
    pub kept: KeptManifests,
    /// Whether anything is removed. Default [`Effect::Removed`].
    pub effect: Effect,
}

impl Collection {
    /// Returns the options for `data_dir`, with the defaults.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { data_dir: data_dir.into(), older_than: day, kept: KeptManifests::All, effect: Effect::Removed }
    }
}

/// The result of a garbage collection.
#[derive(Debug, Clone, Serialize)]
pub struct Collected {
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Every repository, in order of their paths.
    pub repositories: Vec<CollectedRepository>,
    /// Abandoned uploads. None while a server is running, which removes its own.
    pub uploads: Option<Uploads>,
    /// The sums over all repositories and uploads.
    pub totals: Swept,
}

/// The result for one repository.
#[derive(Debug, Clone, Serialize)]
pub struct CollectedRepository {
    /// Its path.
    pub repository: String,
    /// The garbage in it.
    #[serde(flatten)]
    pub swept: Swept,
    /// Whether the repository is empty now, so that it was removed whole.
    #[serde(rename = "removed", skip_serializing_if = "std::ops::Not::not")]
    pub is_removed: bool,
    /// Why it was left as it is, or stopped at this point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
}

/// Abandoned uploads.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Uploads {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Collected {
    /// Returns the number of repositories with an error.
    #[must_use]
    pub fn left_alone(&self) -> usize {
        self.repositories.iter().filter(|repository| repository.left_alone.is_some()).count()
    }
}

/// Collects the garbage of a data folder. May run beside a server and beside itself.
///
/// # Errors
///
/// [`NotFound`](Kind::NotFound) if there is no such data folder, [`Usage`](Kind::Usage) if a server is running and the
/// age is below [`LEAST_AGE`], [`Unsupported`](Kind::Unsupported) if the file system has no locks. An error in one
/// repository is in that repository's result and does not stop the others.
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
    // A server may start now: its young pushes are in no danger, unless this run removes young content too.
    let _alone = alone.filter(|_| *older_than < LEAST_AGE);
    let mut names = LinkCounts::default();
    let sweep = |path: &RepositoryPath| repository(root, path, &rules, &mut names);
    let repositories: Vec<_> = DataDir::list_in(root).iter().map(sweep).collect();
    if *effect == Effect::Removed {
        remove_aside(root);
    }
    let abandoned = uploads.map(|Uploads { bytes, .. }| Swept { bytes, bytes_freed: bytes, ..Swept::default() });
    let totals = repositories.iter().map(|repository| repository.swept).chain(abandoned).sum();
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

/// Removes empty layouts that an earlier, interrupted collection moved aside.
fn remove_aside(data: &DiskRoot) {
    for aside in DataDir::aside_in(data) {
        if let Err(error) = discard(&aside) {
            tracing::warn!(error = %error.chain(), "what an earlier collection moved aside stays");
        }
    }
}

/// Removes old uploads. Needs the exclusive lock: then no server has an upload in flight.
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
