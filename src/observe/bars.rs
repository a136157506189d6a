//! Bars on a terminal: one for each large blob in flight, and a line for everything together.

use super::human::{bytes, count, duration, rate};
use super::progress::{MovingNode, ProgressTotals};
use super::terminal::Screen;
use super::{LARGE, Teller, event_line};
use crate::copy::Event;

/// Most bars at a time. What more there is stands in the total only.
const MOST: usize = 8;
/// Widest bar, in columns.
const WIDEST: usize = 24;
/// Narrowest bar that is worth its place.
const NARROWEST: usize = 8;
/// Assumed where bars were asked for and the output is no terminal.
const COLUMNS: u16 = 80;

/// Draws, and clears up when it goes.
#[derive(Debug)]
pub(super) struct Bars {
    screen: Screen,
    columns: usize,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let columns = screen.columns().unwrap_or(COLUMNS).into();
        Self { screen, columns }
    }
}

impl Teller for Bars {
    fn hear(&mut self, event: &Event, tally: &ProgressTotals) {
        match event {
            Event::Warning(_) | Event::LeftOut(_) | Event::Image { .. } => {
                event_line(event).iter().for_each(|line| self.screen.line(line))
            }
            // The stages are few, and a short one would pass unseen between two ticks.
            Event::Stage(_) => self.tick(tally),
            _ => {}
        }
    }

    fn tick(&mut self, tally: &ProgressTotals) {
        self.screen.draw(frame(tally, self.columns));
    }

    fn end(&mut self, _: &ProgressTotals) {}
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.screen.draw(Vec::new());
    }
}

/// The lines to show, each at most `columns - 1` wide.
fn frame(tally: &ProgressTotals, columns: usize) -> Vec<String> {
    let large = tally.flights().iter().filter(|flight| flight.node.size >= LARGE && !flight.node.is_manifest());
    let mut lines: Vec<_> = large.take(MOST).map(|flight| blob_line(flight, columns)).collect();
    if let Some(total) = total_line(tally) {
        lines.push(cut(&total, columns));
    }
    lines
}

fn blob_line(flight: &MovingNode, columns: usize) -> String {
    let (position, size) = (flight.position(), flight.node.size);
    let head = format!("{} ", flight.node.digest.short());
    let mut tail = format!("{} of {}", bytes(position), bytes(size));
    if let Some(per_second) = flight.per_second() {
        tail = format!("{tail}, {}", rate(per_second));
    }
    // Room for the longest tail, so that the bars of all lines end in one column.
    let room = columns.saturating_sub(head.len() + " 1023.9 MiB of 1023.9 MiB, 1023.9 MiB/s".len() + 3).min(WIDEST);
    let line = if room >= NARROWEST { format!("{head}{} {tail}", bar(position, size, room)) } else { head + &tail };
    cut(&line, columns)
}

fn bar(position: u64, size: u64, width: usize) -> String {
    let filled = (u128::from(position) * width as u128).checked_div(u128::from(size)).unwrap_or_default() as usize;
    let filled = filled.min(width);
    format!("[{}{}]", "=".repeat(filled), " ".repeat(width - filled))
}

fn total_line(tally: &ProgressTotals) -> Option<String> {
    let mut parts = Vec::new();
    if tally.is_planned && tally.bytes_to_move > 0 {
        parts.push(format!("{} of {}", bytes(tally.bytes_done()), bytes(tally.bytes_to_move)));
        parts.extend(tally.per_second().map(rate));
        parts.extend(tally.time_left().map(|left| format!("{} left", duration(left))));
        parts.push(format!("{}/{}", tally.blobs_done, count(tally.blobs_to_put, "blob")));
    }
    match (tally.stage, parts.is_empty()) {
        (None, true) => None,
        (Some(stage), true) => Some(stage.to_owned()),
        (None, false) => Some(parts.join(", ")),
        (Some(stage), false) => Some(format!("{stage}: {}", parts.join(", "))),
    }
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1)).collect()
}
