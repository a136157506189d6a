//! Results on stdout, errors on stderr.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::ValueEnum;
use serde::Serialize;

use crate::document::roll_up::RollUpTotals;
use crate::error::{Error, Kind, Result, printable};
use crate::observe::Screen;
use crate::quantity::human;
use crate::workflow::{DryRunCost, Forecast, Forecasts, SeedStatus};

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

/// Prints one named line below the first line of a result, wrapped at the width of the terminal.
pub(crate) fn row(name: &str, text: impl std::fmt::Display) {
    line(&wrapped(name, &text.to_string(), columns()));
}

/// Widest line of a result on a terminal: longer lines are hard to read.
const MAX_COLUMNS: u16 = 100;

/// Returns the width for results; none if stdout is not a terminal.
pub(crate) fn columns() -> Option<usize> {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map(|(width, _)| width.0.clamp(1, MAX_COLUMNS).into())
}

/// Returns a named line. If it is wider than `columns`, it is wrapped between words, and further lines are indented; a
/// first word that needs all the room, such as a digest, follows the name at once.
pub(super) fn wrapped(name: &str, text: &str, columns: Option<usize>) -> String {
    let first = format!("  {name:<10} ");
    let Some(columns) = columns else { return format!("{first}{text}") };
    let word = text.split(' ').next().unwrap_or_default();
    let is_tight = first.len() + word.len() > columns;
    let first = if is_tight { format!("  {name} ") } else { first };
    let indent = " ".repeat(13);
    let options = textwrap::Options::new(columns).initial_indent(&first).subsequent_indent(&indent);
    // A digest or a path that is broken cannot be copied.
    let options = options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// Returns the screen on stderr, which progress, messages and logs share.
pub(crate) fn stderr() -> &'static Screen {
    static STDERR: LazyLock<Screen> = LazyLock::new(|| {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        // Asked at every frame: the window may have another width by now.
        let size = move || terminal_size::terminal_size_of(std::io::stderr()).filter(|_| !is_dumb);
        let screen = Screen::new(std::io::stderr(), move || size().map(|(width, _)| width.0));
        // Decides as for clap's own messages: NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM. A variable CI does not make a
        // dumb terminal show colours.
        let is_forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        match anstream::AutoStream::choice(&std::io::stderr()) {
            anstream::ColorChoice::Never => screen,
            _ if is_dumb && !is_forced => screen,
            _ => screen.coloured(),
        }
    });
    &STDERR
}

/// Prints one message for the user on stderr, in the form of the progress.
pub(crate) fn note(text: &str) {
    stderr().message(text);
}

/// Prints `value` as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|why| Error::new(Kind::Local, "print").because(why))?;
    line(&text);
    Ok(())
}

/// A named line below the first line of a result.
pub(super) type Row = (&'static str, String);

/// Says what was moved, and with how many requests. `of_blobs` follows the number of blobs that were moved; `not_read` is
/// the number of bytes that were compared only by length.
pub(super) fn traffic(totals: &RollUpTotals, of_blobs: &str, not_read: u64) -> Vec<Row> {
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

pub(super) fn verb(status: SeedStatus) -> &'static str {
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

/// Prints an error and its hint on stderr, in the form of the progress.
pub(super) fn error_and_hint(error: &Error) {
    stderr().fail(error);
}

/// Prints an error and its hint; as JSON too, if requested. Returns the exit code.
pub(crate) fn failure(error: &Error, form: Output) -> ExitCode {
    error_and_hint(error);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_wrapped_between_words_at_the_width_of_the_terminal() {
        let text = "one two-three four";
        assert_eq!(wrapped("name", text, None), "  name       one two-three four");
        assert_eq!(wrapped("name", text, Some(31)), "  name       one two-three four");
        assert_eq!(wrapped("name", text, Some(30)), "  name       one two-three\n             four");
        assert_eq!(wrapped("name", text, Some(10)), "  name one\n             two-three\n             four");
        assert_eq!(wrapped("digest", &"a".repeat(71), Some(80)), format!("  digest {}", "a".repeat(71)));
    }
}
