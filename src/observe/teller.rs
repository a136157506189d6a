//! The events that every form of display handles, and the lines that several of them show.

use std::fmt;

use super::progress::ProgressTotals;
use super::terminal::Screen;
use crate::copy::{Event, Message, PlanTotals};
use crate::error::printable;
use crate::quantity::human;

/// One form of display.
pub(super) trait Teller: fmt::Debug + Send {
    /// Handles `message`, which `tally` already includes.
    fn hear(&mut self, message: &Message, tally: &ProgressTotals);
    /// Updates the display; called ten times a second.
    fn tick(&mut self, tally: &ProgressTotals);
    /// Finishes the display after the last event.
    fn end(&mut self, tally: &ProgressTotals);
}

/// Shows warnings, and no progress.
#[derive(Debug)]
pub(super) struct Warnings(pub(super) Screen);

impl Teller for Warnings {
    fn hear(&mut self, message: &Message, tally: &ProgressTotals) {
        if matches!(message.event, Event::Warning(_) | Event::Outage(_)) {
            above(&self.0, message, tally);
        }
    }

    fn tick(&mut self, _: &ProgressTotals) {}

    fn end(&mut self, _: &ProgressTotals) {}
}

/// Writes the line about an event above the bars. Names the image if the run has several.
pub(super) fn above(screen: &Screen, Message { image, event }: &Message, tally: &ProgressTotals) {
    let image = image.as_deref().filter(|_| tally.images.is_some());
    let line = match (event, image) {
        (Event::Warning(text), Some(image)) => Some(format!("warning: {image}: {text}")),
        _ => event_line(event),
    };
    line.iter().for_each(|line| screen.line(&screen.labelled(&printable(line))));
}

/// Returns the line for people about `event`, if it has one.
pub(super) fn event_line(event: &Event) -> Option<String> {
    match event {
        Event::Stage(stage) => Some(stage.as_str().to_owned()),
        Event::Planned(totals) => Some(planned_line(totals)),
        Event::Warning(text) => Some(format!("warning: {}", printable(text))),
        Event::Outage(news) => Some(printable(&news.to_string())),
        Event::LeftOut(node) => {
            Some(format!("left out: foreign layer {}, which the source does not serve", node.digest))
        }
        Event::Image { to, end, .. } => Some(format!("{} {}", end.as_str(), printable(to))),
        Event::Images(_) | Event::Started { .. } | Event::Finished { .. } => None,
    }
}

fn planned_line(totals: &PlanTotals) -> String {
    if totals.bytes_to_move == 0 {
        return "nothing to move".to_owned();
    }
    let (blobs, manifests) = (human::count(totals.blobs, "blob"), human::count(totals.manifests, "manifest"));
    let mut line = format!("{blobs}, {manifests}, {} to move", human::bytes(totals.bytes_to_move));
    if totals.bytes_mountable > 0 {
        line = format!("{line}, {} shared", human::bytes(totals.bytes_mountable));
    }
    line
}
