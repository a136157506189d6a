//! The result of a catalog or sync run: what changed on stdout, failures last and whole on stderr.

use std::process::ExitCode;

use super::print::{error_and_hint, line, note, row, traffic, verb};
use crate::document::roll_up::RollUpTotals;
use crate::error::{Error, Kind};
use crate::quantity::human;
use crate::workflow::{BatchEntry, SeedStatus, Seeded};

/// Prints a line for each image that changed, and the sums. Unchanged images are only counted: most images of a nightly
/// run are unchanged.
pub(crate) fn print(Seeded { roll_up, entries, file }: &Seeded) {
    let done = || entries.iter().filter_map(|entry| Some((entry, entry.result.as_ref().ok()?)));
    for (entry, outcome) in done().filter(|(_, outcome)| outcome.status == SeedStatus::Seeded) {
        let (to, digest) = (&entry.seed.to, outcome.seed.dest_digest.short());
        let moved = human::bytes(outcome.transfer.bytes_moved);
        line(&format!("{:<9} {to}  {digest}  {moved} moved", verb(outcome.status)));
    }
    let RollUpTotals { seeded, unchanged, failed, .. } = roll_up.totals;
    line(&counts(seeded, unchanged, failed));
    let not_read = done().map(|(_, outcome)| outcome.transfer.bytes_not_read_back).sum();
    traffic(&roll_up.totals, "", not_read).iter().for_each(|(name, text)| row(name, text));
    row("record", file.display());
}

/// Returns the counts of a run in words.
pub(crate) fn counts(seeded: u64, unchanged: u64, failed: u64) -> String {
    format!("{seeded} changed, {unchanged} unchanged, {failed} failed")
}

/// Prints each failure with its hint, in either form of the result, and the first of `advice` about one. Returns the exit
/// code.
pub(crate) fn failures(
    Seeded { roll_up, entries, .. }: &Seeded,
    advice: impl Fn(&Error) -> Option<&'static str>,
) -> ExitCode {
    let errors: Vec<_> = entries.iter().filter_map(|BatchEntry { result, .. }| result.as_ref().err()).collect();
    if errors.is_empty() {
        return ExitCode::SUCCESS;
    }
    errors.iter().for_each(|error| error_and_hint(error));
    note(&format!("error: {} of {} images failed", errors.len(), roll_up.totals.entries));
    if let Some(hint) = errors.iter().find_map(|error| advice(error)) {
        note(&format!("  hint: {hint}"));
    }
    ExitCode::from(Kind::Partial.exit_code())
}
