//! Plain lines, for logs and pipes: stages, plans, warnings, and a line of progress every few seconds. Each begins with the
//! time and the image that it is about.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::progress::ProgressTotals;
use super::teller::{Teller, event_line};
use super::terminal::Screen;
use crate::copy::{Event, Message};
use crate::error::printable;
use crate::quantity::human::{bytes, duration, rate};

/// Shortest time between two lines of progress.
const PACE: Duration = Duration::from_secs(5);

/// Writes the lines.
#[derive(Debug)]
pub(super) struct PlainLines {
    screen: Screen,
    clock: fn() -> Timestamp,
    next: Option<Instant>,
}

impl PlainLines {
    pub(super) fn new(screen: Screen, clock: fn() -> Timestamp) -> Self {
        Self { screen, clock, next: None }
    }

    /// Writes `text`, to the second: `2026-05-25T00:00:00Z site.example/app:v1: copying`.
    fn line(&self, image: Option<&str>, text: &str) {
        let image = image.map(|image| format!("{}: ", printable(image))).unwrap_or_default();
        self.screen.line(&format!("{:.0} {image}{}", (self.clock)(), self.screen.labelled(text)));
    }
}

impl Teller for PlainLines {
    fn hear(&mut self, Message { image, event }: &Message, _: &ProgressTotals) {
        if let Some(line) = event_line(event) {
            self.line(image.as_deref(), &line);
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
        let mut parts = vec![format!("{done} of {all} ({}%)", tally.percent())];
        parts.extend(tally.per_second().map(rate));
        parts.extend(tally.time_left().map(|left| format!("{} left", duration(left))));
        parts.extend(tally.images.map(|images| images.to_string()));
        self.line(tally.image.as_deref(), &parts.join(", "));
    }

    fn end(&mut self, _: &ProgressTotals) {}
}
