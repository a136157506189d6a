//! One JSON object a line, for machines. The form is described in the header of [`observe`](super).

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::progress::ProgressTotals;
use super::teller::Teller;
use super::terminal::Screen;
use crate::copy::{Event, Message, PlanTotals};
use crate::error::{Error, printable};
use crate::oci::Digest;
use crate::store::Put;

/// Shortest time between two `progress` lines.
const PACE: Duration = Duration::from_millis(500);

/// One line. Names and fields are stable; see the header of [`observe`](super).
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum JsonLine {
    Stage {
        time: String,
        stage: &'static str,
    },
    Images {
        time: String,
        images: u64,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    Started {
        time: String,
        digest: Digest,
        media_type: String,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        layer: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        layers: Option<usize>,
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
    Error {
        time: String,
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        side: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
    },
    Log {
        time: String,
        text: String,
    },
}

/// A line, and the image that it is about.
#[derive(Serialize)]
struct AboutImage<'a> {
    #[serde(flatten)]
    line: &'a JsonLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

impl JsonLine {
    pub(super) fn text(&self, image: Option<&str>) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(&AboutImage { line: self, image: image.map(printable) }).unwrap_or_default()
    }

    /// The error that ends the program.
    pub(super) fn error(error: &Error) -> Self {
        Self::Error {
            time: stamp(Timestamp::now()),
            text: printable(&error.chain()),
            kind: Some(error.kind().as_str()),
            side: error.side().map(|side| side.to_string()),
            hint: error.hint_text().map(printable),
            exit_code: Some(error.kind().exit_code()),
        }
    }

    /// A failure that is no single error, such as the number of images that failed.
    pub(super) fn failure(text: &str) -> Self {
        let time = stamp(Timestamp::now());
        Self::Error { time, text: text.to_owned(), kind: None, side: None, hint: None, exit_code: None }
    }

    pub(super) fn warning(text: &str) -> Self {
        Self::Warning { time: stamp(Timestamp::now()), text: text.to_owned() }
    }

    /// A line of the log, or any other message, so that the output stays one object a line.
    pub(super) fn log(text: &str) -> Self {
        Self::Log { time: stamp(Timestamp::now()), text: text.to_owned() }
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
        screen.use_json();
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
        self.screen.json(&line, None);
    }
}

impl Teller for Json {
    fn hear(&mut self, Message { image, event }: &Message, _: &ProgressTotals) {
        let image = if let Event::Image { to, .. } = event { Some(to.as_str()) } else { image.as_deref() };
        self.screen.json(&told(event, stamp((self.clock)())), image);
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
        Event::Images(images) => JsonLine::Images { time, images: *images },
        Event::Planned(totals) => JsonLine::Planned { time, totals: totals.clone() },
        Event::Started { node, place, .. } => JsonLine::Started {
            time,
            digest: node.digest,
            media_type: printable(node.media_type.as_str()),
            size: node.size,
            platform: place.as_ref().and_then(|place| place.platform.as_deref()).map(printable),
            layer: place.as_ref().map(|place| place.layer),
            layers: place.as_ref().map(|place| place.layers),
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
        Event::Image { to, end, error } => {
            let error = error.as_deref().map(printable);
            JsonLine::Image { time, to: printable(to), outcome: end.as_str(), error }
        }
        Event::Warning(text) => JsonLine::Warning { time, text: printable(text) },
    }
}

/// RFC 3339, UTC, milliseconds.
fn stamp(time: Timestamp) -> String {
    format!("{time:.3}")
}
