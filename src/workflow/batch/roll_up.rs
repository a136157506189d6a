//! The roll-up of a catalog: the result of each image, in one file that appears at the end, and in the history of runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::BatchEntry;
use super::history::History;
use crate::copy::{Event, Events};
use crate::document::roll_up::{Attempt, EntryStatus, RollUp, RollUpTotals};
use crate::error::{Result, printable};
use crate::oci::Reference;
use crate::seed::record;
use crate::seed::{SeedStatus, now};
use crate::wire::Stats;

/// The roll-up's file, in a folder that is writable.
#[derive(Debug)]
pub(crate) struct RollUpFile {
    folder: PathBuf,
    /// How long former runs are kept; zero keeps none.
    kept_for: Duration,
}

impl RollUpFile {
    /// Takes `folder`, after checking that files can be written to it.
    ///
    /// # Errors
    ///
    /// Fails like [`record::try_folder`] and [`History::check`].
    pub(crate) fn prepare(folder: &Path, kept_for: Duration) -> Result<Self> {
        record::try_folder(folder, &[RollUp::FILE])?;
        if !kept_for.is_zero() {
            History::below(folder).check()?;
        }
        Ok(Self { folder: folder.to_owned(), kept_for })
    }

    /// Writes the results of `entries`, first to the history; `choosing` is the cost of listing tags for them. Old runs
    /// that cannot be removed are a warning.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub(crate) fn write(
        self,
        name: &str,
        entries: &[BatchEntry],
        choosing: Stats,
        spent: Duration,
        events: &Events,
    ) -> Result<(RollUp, PathBuf)> {
        let attempts: Vec<_> = entries.iter().map(attempt).collect();
        let mut totals = RollUpTotals::of(&attempts);
        entries.iter().flat_map(|entry| &entry.result).for_each(|outcome| totals += &outcome.transfer);
        totals.source_requests += choosing.requests;
        totals.retries += choosing.retries;
        totals.seconds = (spent.as_secs_f64() * 1000.0).round() / 1000.0;
        let roll_up = RollUp::new(name.to_owned(), now()?, attempts, totals);
        let (history, bytes) = (History::below(&self.folder), roll_up.to_json()?);
        if !self.kept_for.is_zero() {
            history.add(&roll_up, &bytes)?;
        }
        record::write_files(&self.folder, &[(RollUp::FILE, bytes)])?;
        if let Err(error) = history.prune(roll_up.seeded_at, self.kept_for) {
            events.send(Event::Warning(error.chain()));
        }
        Ok((roll_up, self.folder.join(RollUp::FILE)))
    }
}

fn attempt(entry: &BatchEntry) -> Attempt {
    let BatchEntry { seed, directory, is_pinned_late, result } = entry;
    let (from, to, dir) = (seed.from.clone(), seed.to.clone(), directory.clone());
    match result {
        Ok(outcome) => Attempt {
            from: match is_pinned_late {
                true => Reference { digest: Some(outcome.seed.source_digest), ..from },
                false => from,
            },
            to,
            dir,
            status: match outcome.status {
                SeedStatus::Seeded => EntryStatus::Seeded,
                SeedStatus::Unchanged => EntryStatus::Unchanged,
            },
            error: None,
            previous_digest: outcome.previous_digest,
            sidecars: outcome.sidecars.clone(),
            seed: Some(outcome.seed.clone()),
        },
        Err(error) => {
            let error = Some(printable(&error.chain()));
            let (previous_digest, sidecars, seed) = (None, Vec::new(), None);
            Attempt { from, to, dir, status: EntryStatus::Failed, error, previous_digest, sidecars, seed }
        }
    }
}
