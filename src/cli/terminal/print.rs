//! Results on stdout, errors on stderr.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use crate::document::roll_up::RollUpTotals;
use crate::error::{Error, Kind, Result, printable};
use crate::observe::human;
use crate::workflow::{DryRunCost, Forecast, Forecasts, Outcome, Rewritten, SeedStatus, Seeded, Verification};

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Human,
    Json,
}

/// Prints one line of the result. A closed stdout is not an error.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints one named line below the first line of a result.
pub(crate) fn row(name: &str, text: impl std::fmt::Display) {
    line(&format!("  {name:<10} {text}"));
}

/// Prints one line for the user on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Prints `value` as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|why| Error::new(Kind::Local, "print").because(why))?;
    line(&text);
    Ok(())
}

/// A named line below the first line of a result.
type Row = (&'static str, String);

/// Prints the result of a seed, for people.
pub(crate) fn outcome(outcome: &Outcome) {
    line(&format!("{} {}", verb(outcome.status), outcome.seed.dest_ref));
    summary(outcome).iter().for_each(|(name, text)| row(name, text));
}

fn summary(Outcome { seed, verification, rewritten, files, .. }: &Outcome) -> Vec<Row> {
    let mut rows = vec![("digest", seed.dest_digest.to_string())];
    if let Some(Rewritten { source_digest, signed_with }) = rewritten {
        let signed = signed_with.as_ref().map_or("NOT signed".to_owned(), |key| format!("signed with {key}"));
        rows.push(("rewritten", format!("a smaller index in the place of {source_digest}, {signed}")));
    }
    if !seed.platforms.is_empty() {
        rows.push(("platforms", printable(&seed.platforms.join(", "))));
    }
    if let Some(Verification { source, destination }) = verification {
        rows.extend(block("source", source.to_string().lines()));
        rows.extend(block("site", destination.to_string().lines()));
    }
    rows.extend(block("weakened", seed.weakened.iter().map(String::as_str)));
    if let Some(transfer) = &seed.transfer {
        let mut totals = RollUpTotals { seconds: transfer.seconds, ..RollUpTotals::default() };
        totals += transfer;
        rows.extend(traffic(&totals, &format!(" of {}", transfer.blobs), transfer.bytes_not_read_back));
        if transfer.foreign_layers_left_out > 0 {
            let count = transfer.foreign_layers_left_out;
            rows.push(("left out", format!("{count} foreign layers that the source does not serve")));
        }
    }
    let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    rows.push(("record", files.join(", ")));
    rows
}

/// Names the first of several lines.
fn block<'a>(name: &'static str, lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Row> {
    lines.enumerate().map(move |(number, text)| (if number == 0 { name } else { "" }, printable(text)))
}

/// Says what was moved, and with how many requests. `of_blobs` follows the number of blobs that were moved; `not_read` is
/// the number of bytes that were compared only by length.
fn traffic(totals: &RollUpTotals, of_blobs: &str, not_read: u64) -> Vec<Row> {
    let RollUpTotals { blobs_moved, source_requests, dest_requests, retries, seconds, .. } = *totals;
    let [moved, present, mounted] = [totals.bytes_moved, totals.bytes_present, totals.bytes_mounted].map(human::bytes);
    let mut rows =
        vec![("moved", format!("{moved}, {blobs_moved}{of_blobs} blobs; {present} present, {mounted} mounted"))];
    let [kept, unread] = [totals.bytes_spooled, not_read].map(human::bytes);
    if totals.bytes_spooled > 0 {
        rows.push(("spool", format!("{kept} were kept from before and not fetched again")));
    }
    if not_read > 0 {
        let how = "at the destination were compared by length and not read back; --deep=bytes reads them";
        rows.push(("not read", format!("{unread} {how}")));
    }
    let requests = format!("{source_requests} source, {dest_requests} destination, {retries} repeated; {seconds:.2} s");
    rows.push(("requests", requests));
    rows
}

/// Prints the results of a catalog.
pub(crate) fn catalog(seeded: &Seeded) {
    let Seeded { roll_up, entries, file } = seeded;
    for entry in entries {
        let to = &entry.seed.to;
        match &entry.result {
            Ok(outcome) => {
                let Outcome { status, seed, .. } = outcome.as_ref();
                let moved = seed.transfer.as_ref().map_or(0, |transfer| transfer.bytes_moved);
                let (verb, digest) = (verb(*status), seed.dest_digest.short());
                line(&format!("{verb:<9} {to}  {digest}  {} moved", human::bytes(moved)));
            }
            Err(error) => line(&printable(&format!("{:<9} {to}  {}", "failed", error.chain()))),
        }
    }
    line(&format!("{} of {} images are in place", roll_up.totals.seeded, roll_up.totals.entries));
    let transfers = entries.iter().filter_map(|entry| entry.result.as_ref().ok()?.seed.transfer.as_ref());
    let not_read = transfers.map(|transfer| transfer.bytes_not_read_back).sum();
    traffic(&roll_up.totals, "", not_read).iter().for_each(|(name, text)| row(name, text));
    row("record", file.display());
}

/// Prints the cost of a dry run.
pub(crate) fn forecasts(forecasts: &Forecasts) {
    let [move_, present, mounted] = ["to move", "present", "mountable"];
    line(&format!("{move_:>12} {present:>12} {mounted:>12} {:>9}", "requests"));
    for Forecast { to, cost, .. } in &forecasts.images {
        line(&format!("{}  {to}", costs(cost)));
    }
    line(&format!("{}  in all, of {}", costs(&forecasts.totals), human::bytes(forecasts.totals.bytes_total)));
    line("nothing was moved");
}

fn costs(cost: &DryRunCost) -> String {
    let [to_move, present, mountable] =
        [cost.bytes_to_move, cost.bytes_present, cost.bytes_mountable].map(human::bytes);
    format!("{to_move:>12} {present:>12} {mountable:>12} {:>9}", cost.requests)
}

fn verb(status: SeedStatus) -> &'static str {
    match status {
        SeedStatus::Seeded => "seeded",
        SeedStatus::Unchanged => "unchanged",
    }
}

#[derive(Serialize)]
struct FailureJson {
    error: Told,
}

#[derive(Serialize)]
struct Told {
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    exit_code: u8,
}

/// Prints an error and its hint; as JSON too, if requested. Returns the exit code.
pub(crate) fn failure(error: &Error, form: Output) -> ExitCode {
    note(&format!("error: {}", error.chain()));
    if let Some(hint) = error.hint_text() {
        note(&format!("  hint: {hint}"));
    }
    let exit_code = error.kind().exit_code();
    if form == Output::Json {
        let told = Told {
            kind: error.kind().as_str(),
            message: printable(&error.chain()),
            side: error.side().map(|side| side.to_string()),
            hint: error.hint_text().map(printable),
            exit_code,
        };
        // If this fails, there is no other place to report it.
        let _ = json(&FailureJson { error: told });
    }
    ExitCode::from(exit_code)
}
