//! Results on stdout, errors on stderr.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use crate::document::{Transfer, roll_up};
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

/// Prints the result of a seed, for people.
pub(crate) fn outcome(outcome: &Outcome) {
    let Outcome { status, seed, verification, files, .. } = outcome;
    line(&format!("{} {}", verb(*status), seed.dest_ref));
    let row = |name: &str, text: String| line(&format!("  {name:<10} {text}"));
    row("digest", seed.dest_digest.to_string());
    if let Some(Rewritten { source_digest, signed_with }) = &outcome.rewritten {
        let signed = signed_with.as_ref().map_or("NOT signed".to_owned(), |key| format!("signed with {key}"));
        row("rewritten", format!("a smaller index in the place of {source_digest}, {signed}"));
    }
    if !seed.platforms.is_empty() {
        row("platforms", printable(&seed.platforms.join(", ")));
    }
    if let Some(Verification { source, destination }) = verification {
        for (side, report) in [("source", source), ("site", destination)] {
            for (number, text) in report.to_string().lines().enumerate() {
                row(if number == 0 { side } else { "" }, printable(text));
            }
        }
    }
    for (number, weakness) in seed.weakened.iter().enumerate() {
        row(if number == 0 { "weakened" } else { "" }, printable(weakness));
    }
    if let Some(transfer) = &seed.transfer {
        let Transfer { bytes_moved, bytes_present, bytes_mounted, blobs, blobs_moved, .. } = *transfer;
        let [moved, present, mounted] = [bytes_moved, bytes_present, bytes_mounted].map(human::bytes);
        row("moved", format!("{moved}, {blobs_moved} of {blobs} blobs; {present} present, {mounted} mounted"));
        if transfer.bytes_spooled > 0 {
            row(
                "spool",
                format!("{} were kept from before and not fetched again", human::bytes(transfer.bytes_spooled)),
            );
        }
        if transfer.bytes_not_read_back > 0 {
            row("not read", not_read(transfer.bytes_not_read_back));
        }
        let Transfer { source_requests, dest_requests, retries, seconds, .. } = *transfer;
        row(
            "requests",
            format!("{source_requests} source, {dest_requests} destination, {retries} repeated; {seconds:.2} s"),
        );
        if transfer.foreign_layers_left_out > 0 {
            row(
                "left out",
                format!("{} foreign layers that the source does not serve", transfer.foreign_layers_left_out),
            );
        }
    }
    let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    row("record", files.join(", "));
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
    let totals = &roll_up.totals;
    let [moved, present, mounted] = [totals.bytes_moved, totals.bytes_present, totals.bytes_mounted].map(human::bytes);
    line(&format!("{} of {} images are in place", totals.seeded, totals.entries));
    line(&format!("  moved      {moved}, {} blobs; {present} present, {mounted} mounted", totals.blobs_moved));
    if totals.bytes_spooled > 0 {
        let kept = human::bytes(totals.bytes_spooled);
        line(&format!("  spool      {kept} were kept from before and not fetched again"));
    }
    let transfers = entries.iter().filter_map(|entry| entry.result.as_ref().ok()?.seed.transfer.as_ref());
    let unread: u64 = transfers.map(|transfer| transfer.bytes_not_read_back).sum();
    if unread > 0 {
        line(&format!("  not read   {}", not_read(unread)));
    }
    let roll_up::RollUpTotals { source_requests, dest_requests, retries, seconds, .. } = *totals;
    let requests = format!("{source_requests} source, {dest_requests} destination, {retries} repeated");
    line(&format!("  requests   {requests}; {seconds:.2} s"));
    line(&format!("  record     {}", file.display()));
}

/// Says how many bytes were compared only by length.
fn not_read(bytes: u64) -> String {
    let bytes = human::bytes(bytes);
    format!("{bytes} at the destination were compared by length and not read back; --deep=bytes reads them")
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
