//! The roll-up of a catalog: what became of each image, in one file that appears when all is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::Entry;
use super::record;
use super::seed::now;
use crate::document::rollup::{Attempt, RollUp, Status, Totals};
use crate::error::{Result, printable};
use crate::oci::Reference;
use crate::wire::Tally;

/// The file, in a folder that takes it.
#[derive(Debug)]
pub(super) struct File {
    folder: PathBuf,
}

impl File {
    /// Takes `folder`, after trying that it takes files.
    ///
    /// # Errors
    ///
    /// Those of [`record::try_folder`].
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        record::try_folder(folder, &[RollUp::FILE])?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes what became of `entries`; `choosing` is what it took to list tags for them.
    ///
    /// # Errors
    ///
    /// [`Local`](crate::Kind::Local) if the disk refuses.
    pub(super) fn write(
        self,
        name: &str,
        entries: &[Entry],
        choosing: Tally,
        spent: Duration,
    ) -> Result<(RollUp, PathBuf)> {
        let entries: Vec<_> = entries.iter().map(attempt).collect();
        let mut totals = Totals::of(&entries);
        totals.source_requests += choosing.requests;
        totals.retries += choosing.retries;
        totals.seconds = (spent.as_secs_f64() * 1000.0).round() / 1000.0;
        let roll_up = RollUp::new(name.to_owned(), now()?, entries, totals);
        record::write_files(&self.folder, &[(RollUp::FILE, roll_up.to_json()?)])?;
        Ok((roll_up, self.folder.join(RollUp::FILE)))
    }
}

fn attempt(entry: &Entry) -> Attempt {
    let Entry { seed, directory, is_pinned_late, result } = entry;
    let (from, to, dir) = (seed.from.clone(), seed.to.clone(), directory.clone());
    match result {
        Ok(outcome) => Attempt {
            from: match is_pinned_late {
                true => Reference { digest: Some(outcome.seed.source_digest), ..from },
                false => from,
            },
            to,
            dir,
            status: Status::Seeded,
            error: None,
            previous_digest: outcome.previous_digest,
            sidecars: outcome.sidecars.clone(),
            seed: Some(outcome.seed.clone()),
        },
        Err(error) => {
            let error = Some(printable(&error.chain()));
            let (previous_digest, sidecars, seed) = (None, Vec::new(), None);
            Attempt { from, to, dir, status: Status::Failed, error, previous_digest, sidecars, seed }
        }
    }
}
