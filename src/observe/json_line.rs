//! The JSON lines: their names and fields. They are described in the header of [`observe`](super).

use jiff::Timestamp;
use serde::Serialize;

use crate::copy::PlanTotals;
use crate::error::{Error, printable};
use crate::oci::Digest;

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
    Outage {
        time: String,
        host: String,
        since: String,
        why: String,
        next_try: String,
        give_up: String,
    },
    OutageOver {
        time: String,
        host: String,
        since: String,
        seconds: u64,
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

/// RFC 3339, UTC, milliseconds.
pub(super) fn stamp(time: Timestamp) -> String {
    format!("{time:.3}")
}
