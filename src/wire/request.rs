//! Requests to a host, in a form that can be sent more than once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::scope::Scopes;
use crate::error::{Error, Kind};
use crate::stream::ByteStream;

/// The payload of a request. It can always be sent again: after a login, after a redirect.
#[derive(Clone, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A stream of exactly `length` bytes, opened anew each time that it is sent.
    Stream {
        /// Number of bytes in the stream; sent as `Content-Length`.
        length: u64,
        /// Opens the stream from its start.
        open: Arc<dyn Fn() -> ByteStream + Send + Sync>,
    },
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length})"),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum RequestTarget {
    /// A path with its query, relative to the host's root.
    Path(String),
    /// A URL that the host gave out.
    Url(Url),
}

/// One request to a host, and its description for errors.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) target: RequestTarget,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) scopes: Scopes,
    pub(super) context: Context,
    /// Whether the payload is a secret for its target: never redirected to another host.
    pub(super) is_secret: bool,
    /// Time that the host may need for work before it answers, beyond the usual limit.
    pub(super) work: Duration,
}

/// The operation and its subject, for errors.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) op: &'static str,
    pub(super) subject: String,
}

impl Context {
    pub(super) fn error(&self, kind: Kind) -> Error {
        Error::new(kind, self.op).on(&self.subject)
    }
}

impl Request {
    /// Returns a request for `path` (with its query), described in errors as doing `op` on `subject`.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>, op: &'static str, subject: impl fmt::Display) -> Self {
        Self::to(method, RequestTarget::Path(path.into()), op, subject)
    }

    /// Returns a request for a URL that the host gave out: an upload session, the next page.
    #[must_use]
    pub fn at(method: Method, url: Url, op: &'static str, subject: impl fmt::Display) -> Self {
        Self::to(method, RequestTarget::Url(url), op, subject)
    }

    fn to(method: Method, target: RequestTarget, op: &'static str, subject: impl fmt::Display) -> Self {
        let context = Context { op, subject: subject.to_string() };
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            payload: Payload::Empty,
            scopes: Scopes::default(),
            context,
            is_secret: false,
            work: Duration::ZERO,
        }
    }

    /// Sets the scopes that the request needs, if the host requires a token.
    #[must_use]
    pub fn needing(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Adds a header. Drops a value that is not valid in a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Marks the payload as one that must not go to any other host.
    pub(super) fn secretly(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Lets the host work for so long before it answers, beyond the usual limit of 30 s.
    #[must_use]
    pub fn working_for(mut self, work: Duration) -> Self {
        self.work = work;
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn carrying(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }
}
