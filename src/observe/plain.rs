//! Plain lines, for logs and pipes: stages, plans, warnings, and a line of progress every few seconds.

use std::time::Duration;

use tokio::time::Instant;

use super::human::{bytes, duration, rate};
use super::progress::ProgressTotals;
use super::teller::{Teller, event_line};
use super::terminal::Screen;
use crate::copy::Event;

/// Shortest time between two lines of progress.
const PACE: Duration = Duration::from_secs(5);

/// Writes the lines.
#[derive(Debug)]
pub(super) struct PlainLines {
    screen: Screen,
    next: Option<Instant>,
}

impl PlainLines {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, next: None }
    }
}

impl Teller for PlainLines {
    fn hear(&mut self, event: &Event, _: &ProgressTotals) {
        if let Some(line) = event_line(event) {
            self.screen.line(&line);
        }
        // No progress line for a copy that is shorter than the pace.
        if matches!(event, Event::Planned(_)) {
            self.next.get_or_insert_with(|| Instant::now() + PACE);
        }
    }

    fn tick(&mut self, tally: &ProgressTotals) {
        let now = Instant::now();
        if tally.flights().is_empty() || self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + PACE);
        let (done, all) = (bytes(tally.bytes_done()), bytes(tally.bytes_to_move));
        let mut line = format!("{done} of {all} ({}%)", tally.percent());
        if let Some(per_second) = tally.per_second() {
            line = format!("{line}, {}", rate(per_second));
        }
        if let Some(left) = tally.time_left() {
            line = format!("{line}, {} left", duration(left));
        }
        self.screen.line(&line);
    }

    fn end(&mut self, _: &ProgressTotals) {}
}
