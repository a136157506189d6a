//! Faults to inject: which, and into which requests.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Kind;

/// A fault in some requests.
///
/// Reads as a sentence: `Fault::next(Kind::BlobGet, What::CutBody { after: 4 }).at("sha256:ab").from_the(2).times(3)` cuts
/// three answers in a row, beginning with the second request for that blob.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Requests of this kind.
    pub on: Kind,
    /// Only requests whose path or query contains this text.
    pub path_contains: Option<String>,
    /// Only requests whose path ends in this text.
    pub path_ends: Option<String>,
    /// The first matching request that it affects: 1 is the next one.
    pub nth: u32,
    /// How many matching requests in a row it affects.
    pub times: u32,
    /// The fault in them.
    pub what: What,
}

impl Fault {
    /// Affects the next request of that kind, once.
    #[must_use]
    pub fn next(on: Kind, what: What) -> Self {
        Self { on, path_contains: None, path_ends: None, nth: 1, times: 1, what }
    }

    /// Affects every request of that kind from now on.
    #[must_use]
    pub fn always(on: Kind, what: What) -> Self {
        Self { times: u32::MAX, ..Self::next(on, what) }
    }

    /// Affects only requests whose path or query contains `text`.
    #[must_use]
    pub fn at(self, text: impl Into<String>) -> Self {
        Self { path_contains: Some(text.into()), ..self }
    }

    /// Affects only requests whose path ends in `text`.
    #[must_use]
    pub fn at_the_end(self, text: impl Into<String>) -> Self {
        Self { path_ends: Some(text.into()), ..self }
    }

    /// Skips the first requests: 2 begins with the second.
    #[must_use]
    pub fn from_the(self, nth: u32) -> Self {
        Self { nth, ..self }
    }

    /// Affects that many requests in a row.
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

/// The ways in which a request goes wrong.
#[derive(Debug, Clone)]
pub enum What {
    /// This status with an error document, instead of the requested content. The request's body is read and dropped.
    Status(u16),
    /// The same, with a pause: seconds or a date, as in the header.
    StatusWith {
        /// The status.
        status: u16,
        /// The value of `Retry-After`.
        retry_after: Option<String>,
    },
    /// Missing content is refused with this status: GHCR, GitLab and ECR hide in this way that they do not hold it.
    RefuseAbsent(u16),
    /// A redirect with the same path and query to another host. The request's body is read and dropped.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Scheme, host and port, such as `http://127.0.0.1:5000`.
        to: String,
    },
    /// The request is carried out, and answered with this status instead of the right one.
    StatusAfter {
        /// The status.
        status: u16,
        /// Whether the answer keeps its headers. Without them it names nothing.
        keeps_headers: bool,
    },
    /// The connection is dropped before an answer; nothing is done.
    ResetBefore,
    /// The request is carried out, but the connection is dropped before an answer.
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
    /// The answer's body is normal up to a point, and slow from there on: never silent for long, never fast.
    Trickle {
        /// How many bytes come at once.
        after: u64,
        /// How fast the others come.
        bytes_per_second: u64,
    },
    /// One bit of the answer's body is flipped.
    FlipBit {
        /// In which byte.
        at: u64,
    },
    /// One bit of the request's body is flipped before the server sees it.
    FlipRequestBit {
        /// In which byte.
        at: u64,
    },
    /// One bit of the last character in a header of the answer is flipped.
    FlipHeaderBit(&'static str),
    /// A header of the answer is added or has another value.
    SetHeader {
        /// Its name, in lower case.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A header of the answer is missing.
    DropHeader(&'static str),
    /// `Content-Length` announces one byte more than there is.
    WrongLength,
    /// The answer's body ends early, and `Content-Length` says so too.
    Truncate {
        /// Its length.
        to: u64,
    },
    /// A pause.
    Delay(Duration),
    /// 200 and a web page, as captive portals send it.
    Html,
    /// Another body under the same headers.
    Replace(Bytes),
    /// This server's answer to a request for another path, with that answer's own headers: a wrong answer without a
    /// contradiction.
    AnswerOf(String),
    /// 200 and these bytes, with their own digest and length and this type: the answer of a registry that checks
    /// nothing.
    Serve {
        /// The value of `Content-Type`.
        media_type: &'static str,
        /// The body.
        bytes: Bytes,
    },
    /// A list without the entries that contain this text.
    Hide(String),
    /// Correct status and headers, and a body that is generated while it is sent: it is never in memory whole.
    Pour {
        /// How it begins.
        head: Bytes,
        /// The bytes that follow, repeated.
        unit: Bytes,
        /// How many bytes in all.
        total: u64,
        /// Whether there is a `Content-Length`.
        is_length_told: bool,
    },
    /// This body, and a link to a next page, on every page.
    EndlessPages(Bytes),
}
