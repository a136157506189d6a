//! The lines of the bars: which parts a line has at a given width. A line that gets narrow loses its bar first, then its
//! label, then its rates, and never its percentage.

use super::progress::{MovingNode, ProgressTotals};
use crate::error::printable;
use crate::quantity::human::{bytes, duration, rate};

/// Narrowest and widest bar, in columns between its ends.
const BAR: std::ops::RangeInclusive<usize> = 6..=30;
/// Longest label of a blob, in columns.
const MAX_LABEL: usize = 32;
/// Columns around a bar: its ends, and a blank on each side.
const AROUND: usize = 4;

/// One line: a bar with texts on both sides, or a text alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BarLine {
    Bar { label: String, columns: usize, numbers: String },
    Text(String),
}

/// Returns the label of a blob: its platform and layer, else the beginning of its digest.
pub(super) fn label(flight: &MovingNode) -> String {
    let label =
        flight.place.as_ref().map_or_else(|| format!("blob {}", flight.node.digest.short()), ToString::to_string);
    cut(&printable(&label), MAX_LABEL)
}

/// Returns the line of a blob. The labels of all blobs are `label_columns` wide, so that the bars are aligned.
pub(super) fn blob(flight: &MovingNode, label: &str, label_columns: usize, columns: usize) -> BarLine {
    let percent = percent(flight.position(), flight.node.size);
    let (size, speed) = (bytes(flight.node.size), flight.per_second().map(rate).unwrap_or_default());
    let numbers = format!("{percent} {size:>10} {speed:>12}");
    let label = format!("{label:<label_columns$}");
    if let Some(room) = columns.checked_sub(label_columns + AROUND + numbers.len()).filter(|room| room >= BAR.start()) {
        let numbers = numbers.trim_end().to_owned();
        return BarLine::Bar { label, columns: room.min(*BAR.end()), numbers };
    }
    let texts = [
        format!("{label} {numbers}"),
        format!("{label} {percent} {size}"),
        format!("{label} {percent}"),
        format!("{percent} of {size}"),
    ];
    BarLine::Text(first_that_fits(texts, percent, columns))
}

/// Returns the line of the whole run.
pub(super) fn total(tally: &ProgressTotals, columns: usize) -> BarLine {
    let stage = tally.stage.unwrap_or_default();
    if !tally.is_planned || tally.bytes_to_move == 0 {
        return BarLine::Text(cut(stage, columns));
    }
    let percent = percent(tally.bytes_done(), tally.bytes_to_move);
    let amount = amount(tally.bytes_done(), tally.bytes_to_move);
    let speed = tally.per_second().map(|per_second| format!(", {}", rate(per_second))).unwrap_or_default();
    let left = tally.time_left().map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    let numbers = format!("{percent} {amount}{speed}{left}");
    // As wide as the numbers ever get, so that the bar keeps its place.
    let widest = percent.len() + 1 + self::amount(tally.bytes_to_move, tally.bytes_to_move).len() + 2;
    let widest = widest + ", 1023.9 MiB/s".len() + LONGEST_LEFT.len();
    if let Some(room) = columns.checked_sub(stage.len() + AROUND + widest).filter(|room| room >= BAR.start()) {
        return BarLine::Bar { label: stage.to_owned(), columns: room.min(*BAR.end()), numbers };
    }
    let texts =
        [format!("{stage} {numbers}"), numbers, format!("{percent} {amount}{speed}"), format!("{percent} {amount}")];
    BarLine::Text(first_that_fits(texts, percent, columns))
}

/// A time left of nearly two hours; longer ones are rare, and move the end of the bar once.
const LONGEST_LEFT: &str = ", 1 h 59 min left";

/// Returns ` 42%`.
fn percent(done: u64, all: u64) -> String {
    let percent = (u128::from(done) * 100).checked_div(u128::from(all)).unwrap_or(100);
    format!("{percent:>3}%")
}

/// Returns `118.3 of 245.1 MiB`: the unit once if both have the same.
fn amount(done: u64, all: u64) -> String {
    let (done, all) = (bytes(done), bytes(all));
    match (done.split_once(' '), all.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} of {all}"),
        _ => format!("{done} of {all}"),
    }
}

/// Returns the first of `texts` that fits into `columns`, else the beginning of `least`.
fn first_that_fits(texts: impl IntoIterator<Item = String>, least: String, columns: usize) -> String {
    let fits = |text: &String| text.trim().chars().count() <= columns;
    texts.into_iter().find(fits).map_or_else(|| cut(least.trim(), columns), |text| text.trim().to_owned())
}

pub(super) fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}
