//! Answers: status, headers and a body that is read within bounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap, LINK, LOCATION, RETRY_AFTER};
use jiff::Timestamp;
use url::Url;

use super::fault::deepest;
use super::header;
use super::problem::{MAX_PROBLEM_BYTES, Problem};
use super::request::{Context, Stream};
use super::tally::Counters;
use crate::error::{Error, Kind, Result};

/// Longest silence inside a small body.
const SILENCE: Duration = Duration::from_secs(30);

/// What a host answered.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    /// The beginning of the body, where somebody had to look at it already.
    read: Option<Bytes>,
    url: Url,
    context: Context,
    counters: Arc<Counters>,
    hint: Option<String>,
}

impl Answer {
    pub(super) fn new(response: reqwest::Response, url: Url, context: &Context, counters: &Arc<Counters>) -> Self {
        Self { response, read: None, url, context: context.clone(), counters: Arc::clone(counters), hint: None }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header, if it is there and plain text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The announced length of the body: also in answer to HEAD.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// The URL that answered, after redirects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The last segment but one of the path that answered: what sort of thing was asked for.
    #[must_use]
    pub fn collection(&self) -> Option<&str> {
        self.url.path_segments()?.nth_back(1)
    }

    /// Where the answer points: an upload session. Resolved; never from TLS to plain HTTP on another host.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) if there is no usable `Location`.
    pub fn location(&self) -> Result<Url> {
        self.header(LOCATION.as_str()).and_then(|location| header::resolve(&self.url, location)).ok_or_else(|| {
            self.context
                .error(Kind::Invalid)
                .because(format!("{} without a Location that can be used", self.status().as_u16()))
        })
    }

    /// The next page of a list, if there is one.
    #[must_use]
    pub fn next_page(&self) -> Option<Url> {
        header::resolve(&self.url, header::next_link(self.header(LINK.as_str())?)?)
    }

    /// Reads the whole body, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past `limit`, before anything is read if the length is announced;
    /// [`Unavailable`](Kind::Unavailable) if it breaks off.
    pub async fn bytes(self, limit: u64) -> Result<Bytes> {
        let over =
            |context: &Context| context.error(Kind::Limit).because(format!("the answer is longer than {limit} bytes"));
        let context = self.context.clone();
        if self.length().is_some_and(|length| length > limit) {
            return Err(over(&context));
        }
        let mut stream = self.stream();
        let mut bytes = BytesMut::new();
        loop {
            match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(None) => return Ok(bytes.freeze()),
                Ok(Some(piece)) => bytes.extend_from_slice(&piece?),
                Err(_) => {
                    let why = format!("silent for {} s", SILENCE.as_secs());
                    return Err(context.error(Kind::Unavailable).because(why));
                }
            }
            if bytes.len() as u64 > limit {
                return Err(over(&context));
            }
        }
    }

    /// The body as it comes, without a time limit. A break is [`Unavailable`](Kind::Unavailable).
    #[must_use]
    pub fn stream(self) -> Stream {
        let Self { response, read, context, counters, .. } = self;
        let rest = response.bytes_stream().map(move |piece| match piece {
            Ok(piece) => {
                counters.received(piece.len());
                Ok(piece)
            }
            Err(error) => {
                counters.retry();
                Err(context.error(Kind::Unavailable).because(deepest(&error)))
            }
        });
        Box::pin(stream::iter(read.map(Ok)).chain(rest))
    }

    /// Reads and forgets a short body, so that the connection can be used again.
    pub async fn discard(self) {
        // Beyond the bound a new connection is cheaper.
        let _ = self.bytes(MAX_PROBLEM_BYTES).await;
    }

    /// Takes the answer for a refusal and reads why.
    pub async fn problem(self) -> Problem {
        let status = self.status();
        let retry_after =
            self.header(RETRY_AFTER.as_str()).and_then(|value| header::retry_after(value, Timestamp::now()));
        let (context, hint) = (self.context.clone(), self.hint.clone());
        let mut body = BytesMut::new();
        // No more than the beginning, and whatever has come before it broke: the status says most.
        let mut stream = self.stream();
        while (body.len() as u64) < MAX_PROBLEM_BYTES {
            match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
                _ => break,
            }
        }
        Problem { retry_after, hint, ..Problem::new(status, &body, context) }
    }

    /// The answer, if its status is one of `expected`.
    ///
    /// # Errors
    ///
    /// What the peer says instead, by status and body.
    pub async fn expect(self, expected: &[u16]) -> Result<Self> {
        if expected.contains(&self.status().as_u16()) { Ok(self) } else { Err(self.problem().await.into()) }
    }

    /// An error about this answer.
    #[must_use]
    pub fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        self.context.error(kind).because(why.into())
    }

    pub(super) fn hinting(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Looks at the first piece of the body without losing it.
    pub(super) async fn peek(mut self) -> (Self, Bytes) {
        let first = match tokio::time::timeout(SILENCE, self.response.chunk()).await {
            Ok(Ok(Some(piece))) => piece,
            _ => Bytes::new(),
        };
        self.read = Some(first.clone());
        (self, first)
    }
}
