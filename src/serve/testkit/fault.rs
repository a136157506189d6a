//! What goes wrong, and when.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Kind;

/// Something that goes wrong with some requests.
///
/// Reads as a sentence: `Fault::next(Kind::BlobGet, What::CutBody { after: 4 }).at("sha256:ab").from_the(2).times(3)` cuts
/// three answers in a row, beginning with the second request for that blob.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Requests of this kind.
    pub on: Kind,
    /// Only those whose path, or what stands behind its question mark, holds this text.
    pub path_contains: Option<String>,
    /// Only those whose path ends in this text.
    pub path_ends: Option<String>,
    /// The first one that it befalls: 1 is the next one.
    pub nth: u32,
    /// How many in a row it befalls.
    pub times: u32,
    /// What happens to them.
    pub what: What,
}

impl Fault {
    /// Befalls the next request of that kind, once.
    #[must_use]
    pub fn next(on: Kind, what: What) -> Self {
        Self { on, path_contains: None, path_ends: None, nth: 1, times: 1, what }
    }

    /// Befalls every request of that kind from now on.
    #[must_use]
    pub fn always(on: Kind, what: What) -> Self {
        Self { times: u32::MAX, ..Self::next(on, what) }
    }

    /// Befalls only requests whose path or query holds `text`.
    #[must_use]
    pub fn at(self, text: impl Into<String>) -> Self {
        Self { path_contains: Some(text.into()), ..self }
    }

    /// Befalls only requests whose path ends in `text`.
    #[must_use]
    pub fn at_the_end(self, text: impl Into<String>) -> Self {
        Self { path_ends: Some(text.into()), ..self }
    }

    /// Spares the first ones: 2 begins with the second.
    #[must_use]
    pub fn from_the(self, nth: u32) -> Self {
        Self { nth, ..self }
    }

    /// Befalls so many in a row.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, path_contains, path_ends, nth, times, what } = self;
        write!(f, "{on:?}")?;
        if let Some(text) = path_contains {
            write!(f, " with {text:?}")?;
        }
        if let Some(text) = path_ends {
            write!(f, " at the end {text:?}")?;
        }
        match times {
            1 => write!(f, ", number {nth}")?,
            &u32::MAX => write!(f, ", from number {nth} on")?,
            times => write!(f, ", {times} from number {nth} on")?,
        }
        write!(f, ": {what:?}")
    }
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum What {
    /// This status with an error document, instead of what was asked for. The request's body is read and dropped.
    Status(u16),
    /// The same, with a pause to be kept: seconds or a date, as the header has it.
    StatusWith {
        /// The status.
        status: u16,
        /// The value of `Retry-After`.
        retry_after: Option<String>,
    },
    /// What is not there is refused with this status: GHCR, GitLab and ECR hide in this way that they do not hold it.
    RefuseAbsent(u16),
    /// The same path and query at another place, with a status that says so. The request's body is read and dropped.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Scheme, host and port, such as `http://127.0.0.1:5000`.
        to: String,
    },
    /// All is done as asked, and answered with this status in place of the right one.
    StatusAfter {
        /// The status.
        status: u16,
        /// Whether the answer keeps its headers. Without them it names nothing.
        keeps_headers: bool,
    },
    /// The connection is dropped before anything is answered; nothing is done.
    ResetBefore,
    /// All is done as asked, but the connection is dropped before anything is answered.
    ResetAfter,
    /// The connection is dropped after so many bytes of the answer's body.
    CutBody {
        /// How many.
        after: u64,
    },
    /// The connection is dropped after so many bytes of the request's body.
    CutRequest {
        /// How many.
        after: u64,
    },
    /// The answer's body comes as it should up to a point, and slowly from there on: never silent for long, never fast.
    Trickle {
        /// How many bytes come at once.
        after: u64,
        /// How fast the others come.
        bytes_per_second: u64,
    },
    /// One bit of the answer's body is turned over.
    FlipBit {
        /// In which byte.
        at: u64,
    },
    /// One bit of the request's body is turned over before the server sees it.
    FlipRequestBit {
        /// In which byte.
        at: u64,
    },
    /// One bit of the last character in a header of the answer is turned over.
    FlipHeaderBit(&'static str),
    /// A header of the answer says something else, or is there where it was not.
    SetHeader {
        /// Its name, in lower case.
        name: &'static str,
        /// What it says.
        value: String,
    },
    /// A header of the answer is not there.
    DropHeader(&'static str),
    /// `Content-Length` announces one byte more than there is.
    WrongLength,
    /// The answer's body ends early, and `Content-Length` says so too.
    Truncate {
        /// Its length.
        to: u64,
    },
    /// Nothing happens for a while.
    Delay(Duration),
    /// 200 and a web page, as captive portals have it.
    Html,
    /// Another body under the same headers.
    Replace(Bytes),
    /// What this server says to a request for another path, with that answer's own headers: a lie that contradicts
    /// nothing.
    AnswerOf(String),
    /// 200 and these bytes, with their own digest and length and this type: what a registry might say that checks nothing.
    Serve {
        /// The value of `Content-Type`.
        media_type: &'static str,
        /// The body.
        bytes: Bytes,
    },
    /// A list without its entries that hold this text.
    Hide(String),
    /// Status and headers as they should be, and a body that is made while it is sent: nobody holds it.
    Pour {
        /// How it begins.
        head: Bytes,
        /// What comes after that, over and over.
        unit: Bytes,
        /// How many bytes in all.
        total: u64,
        /// Whether `Content-Length` tells.
        is_length_told: bool,
    },
    /// This body, and a link to a next page, on every page.
    EndlessPages(Bytes),
}
