//! The roll-up of a catalog: the result of each image, in one file that appears at the end.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::BatchEntry;
use crate::document::roll_up::{Attempt, EntryStatus, MAX_ROLLUP_BYTES, RollUp, RollUpTotals};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::Reference;
use crate::seed::now;
use crate::seed::record;
use crate::wire::Stats;

/// The roll-up's file, in a folder that is writable.
#[derive(Debug)]
pub(crate) struct RollUpFile {
    folder: PathBuf,
}

impl RollUpFile {
    /// Takes `folder`, after checking that files can be written to it.
    ///
    /// # Errors
    ///
    /// Fails like [`record::try_folder`].
    pub(crate) fn prepare(folder: &Path) -> Result<Self> {
        record::try_folder(folder, &[RollUp::FILE])?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes the results of `entries`; `choosing` is the cost of listing tags for them.
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
    ) -> Result<(RollUp, PathBuf)> {
        let entries: Vec<_> = entries.iter().map(attempt).collect();
        let mut totals = RollUpTotals::of(&entries);
        totals.source_requests += choosing.requests;
        totals.retries += choosing.retries;
        totals.seconds = (spent.as_secs_f64() * 1000.0).round() / 1000.0;
        let roll_up = RollUp::new(name.to_owned(), now()?, entries, totals);
        record::write_files(&self.folder, &[(RollUp::FILE, roll_up.to_json()?)])?;
        Ok((roll_up, self.folder.join(RollUp::FILE)))
    }
}

/// Reads the roll-up in the file `path`; returns its bytes too.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a file that cannot be read, or is not a roll-up.
pub fn read_roll_up(path: &Path) -> Result<(RollUp, Vec<u8>)> {
    let refused = |why: io::Error| {
        let error = Error::new(Kind::Usage, "read").on(path.display()).because(why);
        error.hint(format!("name the {} of a registry seed-catalog run", RollUp::FILE))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    // Reads one byte past the limit: `RollUp::read` then reports the excess.
    file.take(MAX_ROLLUP_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(refused)?;
    let roll_up = RollUp::read(&bytes).map_err(|error| error.during("use the roll-up", path.display()))?;
    Ok((roll_up, bytes))
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
            status: EntryStatus::Seeded,
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
