//! The result of a seed, for people.

use std::path::PathBuf;

use super::print::{Row, columns, line, traffic, verb, wrapped};
use crate::document::Transfer;
use crate::document::roll_up::RollUpTotals;
use crate::error::printable;
use crate::quantity::human;
use crate::workflow::{Outcome, Rewritten, Verification};

/// How much a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultDetail {
    /// Five lines, if nothing is out of the ordinary.
    Short,
    /// Every step of the verification, every number (`-v`).
    Full,
}

/// Prints the result of a seed.
pub(crate) fn outcome(outcome: &Outcome, detail: ResultDetail) {
    lines(outcome, detail, columns()).iter().for_each(|text| line(text));
}

/// Returns the lines of a result, wrapped at `columns`.
pub(crate) fn lines(outcome: &Outcome, detail: ResultDetail, columns: Option<usize>) -> Vec<String> {
    let first = format!("{} {}", verb(outcome.status), outcome.seed.dest_ref);
    let rows = rows(outcome, detail).into_iter().map(|(name, text)| wrapped(name, &printable(&text), columns));
    [first].into_iter().chain(rows).collect()
}

fn rows(Outcome { seed, transfer, verification, rewritten, files, .. }: &Outcome, detail: ResultDetail) -> Vec<Row> {
    let mut rows = vec![("digest", seed.dest_digest.to_string())];
    if let Some(Rewritten { source_digest, signed_with }) = rewritten {
        let signed = signed_with.as_ref().map_or("NOT signed".to_owned(), |key| format!("signed with {key}"));
        rows.push(("rewritten", format!("a smaller index in the place of {source_digest}, {signed}")));
    }
    if detail == ResultDetail::Full && !seed.platforms.is_empty() {
        rows.push(("platforms", seed.platforms.join(", ")));
    }
    rows.extend(verification.iter().flat_map(|both| verified(both, detail)));
    rows.extend(block("weakened", seed.weakened.iter().cloned()));
    rows.extend(moved(transfer, &seed.platforms, detail));
    rows.push(("record", record(files)));
    rows
}

/// Says what was verified: once if it is the same at both ends.
fn verified(Verification { source, destination }: &Verification, detail: ResultDetail) -> Vec<Row> {
    let is_full = detail == ResultDetail::Full;
    let told = |report: &crate::verify::VerifyReport| match is_full {
        true => report.to_string(),
        false => report.brief(),
    };
    let (source, site) = (told(source), told(destination));
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    match (source == site, is_full) {
        (true, true) => block("both ends", lines(source).into_iter()).collect(),
        (true, false) => vec![("verified", format!("both ends: {source}"))],
        (false, true) => {
            block("source", lines(source).into_iter()).chain(block("site", lines(site).into_iter())).collect()
        }
        (false, false) => {
            block("verified", [format!("source: {source}"), format!("site: {site}")].into_iter()).collect()
        }
    }
}

/// Names the first of several lines.
fn block(name: &'static str, lines: impl Iterator<Item = String>) -> impl Iterator<Item = Row> {
    lines.enumerate().map(move |(number, text)| (if number == 0 { name } else { "" }, text))
}

/// Says what was moved, and names what is out of the ordinary.
fn moved(transfer: &Transfer, platforms: &[String], detail: ResultDetail) -> Vec<Row> {
    let mut rows = match detail {
        ResultDetail::Full => {
            let mut totals = RollUpTotals { seconds: transfer.seconds, ..RollUpTotals::default() };
            totals += transfer;
            traffic(&totals, &format!(" of {}", transfer.blobs), transfer.bytes_not_read_back)
        }
        ResultDetail::Short => {
            let mut rows = vec![("moved", brief_moved(transfer, platforms))];
            if transfer.bytes_not_read_back > 0 {
                let unread = human::bytes(transfer.bytes_not_read_back);
                rows.push((
                    "not read",
                    format!("{unread} at the destination were not read back; --deep=bytes reads them"),
                ));
            }
            rows
        }
    };
    if transfer.foreign_layers_left_out > 0 {
        let count = transfer.foreign_layers_left_out;
        rows.push(("left out", format!("{count} foreign layers that the source does not serve")));
    }
    rows
}

fn brief_moved(transfer: &Transfer, platforms: &[String]) -> String {
    let Transfer { blobs_moved, blobs, seconds, .. } = transfer;
    let mut parts =
        vec![human::bytes(transfer.bytes_moved), format!("{blobs_moved} of {}", human::count(*blobs, "blob"))];
    match platforms {
        [] => {}
        [one] => parts.push(one.clone()),
        several => parts.push(human::count(several.len() as u64, "platform")),
    }
    parts.push(format!("{seconds:.1} s"));
    let elsewhere = [
        (transfer.bytes_present, "present"),
        (transfer.bytes_mounted, "mounted"),
        (transfer.bytes_spooled, "from the spool"),
    ];
    let elsewhere = elsewhere.into_iter().filter(|(count, _)| *count > 0);
    let elsewhere: Vec<_> = elsewhere.map(|(count, how)| format!("{} {how}", human::bytes(count))).collect();
    if elsewhere.is_empty() { parts.join(", ") } else { format!("{}; {}", parts.join(", "), elsewhere.join(", ")) }
}

/// Names the files; those in the folder of the first without the folder.
fn record(files: &[PathBuf]) -> String {
    let Some((first, others)) = files.split_first() else { return String::new() };
    let name = |file: &PathBuf| match (file.parent() == first.parent(), file.file_name()) {
        (true, Some(name)) => name.display().to_string(),
        _ => file.display().to_string(),
    };
    [first.display().to_string()].into_iter().chain(others.iter().map(name)).collect::<Vec<_>>().join(", ")
}
