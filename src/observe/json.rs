//! One JSON object a line, for machines. The form is described in the header of [`observe`](super).

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::progress::ProgressTotals;
use super::teller::Teller;
use super::terminal::Screen;
use crate::copy::{Event, PlanTotals};
use crate::error::printable;
use crate::oci::Digest;
use crate::store::Put;

/// Shortest time between two `progress` lines.
const PACE: Duration = Duration::from_millis(500);

/// One line. Names and fields are stable; see the header of [`observe`](super).
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum JsonLine {
    Stage {
        time: String,
        stage: &'static str,
    },
    Planned {
        time: String,
        #[serde(flatten)]
        totals: PlanTotals,
    },
    Image {
        time: String,
        to: String,
        outcome: &'static str,
    },
    Started {
        time: String,
        digest: Digest,
        media_type: String,
        size: u64,
    },
    Progress {
        time: String,
        bytes_done: u64,
        bytes_to_move: u64,
        bytes_moved: u64,
        bytes_per_second: Option<u64>,
        blobs_done: u64,
        blobs_to_put: u64,
    },
    Finished {
        time: String,
        digest: Digest,
        media_type: String,
        size: u64,
        how: &'static str,
        bytes_sent: u64,
    },
    LeftOut {
        time: String,
        digest: Digest,
        media_type: String,
        size: u64,
    },
    Warning {
        time: String,
        text: String,
    },
    Log {
        time: String,
        text: String,
    },
}

impl JsonLine {
    fn text(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Writes one object for each event, and samples in between.
#[derive(Debug)]
pub(super) struct Json {
    screen: Screen,
    clock: fn() -> Timestamp,
    /// The time of the last sample, and its bytes done, bytes moved and blobs done.
    last: Option<(Instant, [u64; 3])>,
}

impl Json {
    pub(super) fn new(screen: Screen, clock: fn() -> Timestamp) -> Self {
        screen.dress_logs(log_line);
        Self { screen, clock, last: None }
    }

    fn sample(&mut self, tally: &ProgressTotals) {
        let state = [tally.bytes_done(), tally.bytes_moved(), tally.blobs_done];
        if !tally.is_planned || self.last.is_some_and(|(_, last)| last == state) {
            return;
        }
        self.last = Some((Instant::now(), state));
        let line = JsonLine::Progress {
            time: stamp((self.clock)()),
            bytes_done: tally.bytes_done(),
            bytes_to_move: tally.bytes_to_move,
            bytes_moved: tally.bytes_moved(),
            bytes_per_second: tally.per_second(),
            blobs_done: tally.blobs_done,
            blobs_to_put: tally.blobs_to_put,
        };
        self.screen.line(&line.text());
    }
}

impl Teller for Json {
    fn hear(&mut self, event: &Event, _: &ProgressTotals) {
        self.screen.line(&told(event, stamp((self.clock)())).text());
    }

    fn tick(&mut self, tally: &ProgressTotals) {
        if self.last.is_none_or(|(at, _)| at.elapsed() >= PACE) {
            self.sample(tally);
        }
    }

    fn end(&mut self, tally: &ProgressTotals) {
        self.sample(tally);
    }
}

fn told(event: &Event, time: String) -> JsonLine {
    match event {
        Event::Stage(stage) => JsonLine::Stage { time, stage: stage.as_str() },
        Event::Planned(totals) => JsonLine::Planned { time, totals: totals.clone() },
        Event::Started { node, .. } => JsonLine::Started {
            time,
            digest: node.digest,
            media_type: printable(node.media_type.as_str()),
            size: node.size,
        },
        Event::Finished { node, put } => {
            let (how, bytes_sent) = match *put {
                Put::Present => ("present", 0),
                Put::Mounted => ("mounted", 0),
                Put::Sent(bytes) => ("sent", bytes),
            };
            let media_type = printable(node.media_type.as_str());
            JsonLine::Finished { time, digest: node.digest, media_type, size: node.size, how, bytes_sent }
        }
        Event::LeftOut(node) => JsonLine::LeftOut {
            time,
            digest: node.digest,
            media_type: printable(node.media_type.as_str()),
            size: node.size,
        },
        Event::Image { to, end } => JsonLine::Image { time, to: printable(to), outcome: end.as_str() },
        Event::Warning(text) => JsonLine::Warning { time, text: printable(text) },
    }
}

/// A line of the log as an object, so that the output stays one object a line.
fn log_line(text: &str) -> String {
    JsonLine::Log { time: stamp(Timestamp::now()), text: text.to_owned() }.text()
}

/// RFC 3339, UTC, milliseconds.
fn stamp(time: Timestamp) -> String {
    format!("{time:.3}")
}
