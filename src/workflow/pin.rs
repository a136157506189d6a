//! Writes the digests that the sources of a catalog name today into the catalog.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::generate::zarf::catalog_text;
use crate::clock::Clock;
use crate::disk::file_set;
use crate::document::catalog::{PinnableCatalog, PinnableSource};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Reference};
use crate::seed::explain;
use crate::store::{Registry, Role, Store as _};
use crate::wire::Client;

/// Tags asked for at the same time.
const QUESTIONS: usize = 8;

/// Longest search for the shortest difference; after that a longer one is printed.
const DIFF_TIME: Duration = Duration::from_secs(2);

/// A catalog with the digests of today.
#[derive(Debug, Serialize)]
pub struct PinnedCatalog {
    /// The catalog as the user named it.
    pub catalog: String,
    /// The date of the comments, in UTC.
    pub date: String,
    /// The entries, in the order of the file.
    pub entries: Vec<PinnedEntry>,
    /// The difference between the old and the new text, for `patch`; empty if there is none.
    pub diff: String,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    former: String,
}

/// An entry, and what pinning did with it.
#[derive(Debug, Serialize)]
pub struct PinnedEntry {
    /// The line at which the entry began.
    pub line: u64,
    /// Its source as the catalog had it.
    pub from: Reference,
    /// The digest that its source has now.
    pub digest: Option<Digest>,
    /// The result for the entry.
    pub status: PinStatus,
    /// The reason for an entry that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// The result of pinning for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PinStatus {
    /// It had no digest, or no key that makes it so.
    Pinned,
    /// It had another digest.
    Moved,
    /// It had this digest.
    Unchanged,
    /// No digest can be written for it.
    Left,
}

impl PinnedCatalog {
    /// Asks the sources of the catalog at `path` for the digests of their tags. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for a file that is no catalog, or an entry that cannot be edited in place. Fails as the
    /// registry does if a source cannot be resolved.
    pub async fn resolve(path: &Path, client: &Client) -> Result<Self> {
        let catalog = path.display().to_string();
        let refused = |error: Error| error.during("pin the catalog", &catalog);
        let former = catalog_text(path)?;
        let pinnable = PinnableCatalog::parse(&former).map_err(refused)?;
        let known = digests(&pinnable.sources, client).await.map_err(refused)?;
        let of = |source: &PinnableSource| source.followed().map(|followed| known[&followed]);
        let digests: Vec<_> = pinnable.sources.iter().map(of).collect();
        let date = Clock::System.now().strftime("%Y-%m-%d").to_string();
        let text = pinnable.with(&digests, &date).map_err(refused)?;
        let entries = pinnable.sources.iter().zip(digests).map(|(source, digest)| entry(source, digest)).collect();
        let diff = difference(&catalog, &former, &text);
        Ok(Self { catalog, date, entries, diff, text, former })
    }

    /// Replaces the file at `path`, unless it has changed since it was read.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) if it has changed; [`Local`](Kind::Local) if the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        if self.text == self.former {
            return Ok(());
        }
        if catalog_text(path)? != self.former {
            let error = Error::new(Kind::Conflict, "pin the catalog").on(path.display());
            return Err(error.because("it has changed since it was read").hint("run the command again"));
        }
        // A link stays a link.
        let file: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let failed = |why| Error::new(Kind::Local, "pin the catalog").on(path.display()).because(why);
        file_set::replace(&file, self.text.as_bytes()).map_err(failed)
    }
}

/// Asks each registry once for each tag.
async fn digests(sources: &[PinnableSource], client: &Client) -> Result<HashMap<Reference, Digest>> {
    let mut first: HashMap<Reference, u64> = HashMap::new();
    for source in sources {
        if let Some(followed) = source.followed() {
            first.entry(followed).or_insert(source.entry.line);
        }
    }
    let asked: Vec<_> = first.into_iter().map(|(from, line)| digest(client, from, line)).collect();
    stream::iter(asked).buffer_unordered(QUESTIONS).try_collect().await
}

async fn digest(client: &Client, from: Reference, line: u64) -> Result<(Reference, Digest)> {
    let found = Registry::new(client, &from.repository, Role::Source).resolve(&from.name()).await;
    let explained = |error: Error| explain::explained(error.at(Side::Source), &from).during(format!("line {line}"), "");
    let digest = found.map_err(explained)?.digest;
    Ok((from, digest))
}

fn entry(source: &PinnableSource, digest: Option<Digest>) -> PinnedEntry {
    let PinnableSource { entry, left, .. } = source;
    let (from, digest) = (entry.from.clone(), digest.or(entry.from.digest));
    let status = match (left, from.digest) {
        (Some(_), _) => PinStatus::Left,
        (None, None) => PinStatus::Pinned,
        (None, former) if former == digest && source.needs_key => PinStatus::Pinned,
        (None, former) if former == digest => PinStatus::Unchanged,
        (None, _) => PinStatus::Moved,
    };
    PinnedEntry { line: entry.line, from, digest, status, reason: *left }
}

fn difference(name: &str, former: &str, text: &str) -> String {
    let diff = similar::TextDiff::configure().timeout(DIFF_TIME).diff_lines(former, text);
    diff.unified_diff().context_radius(3).header(name, name).to_string()
}
