//! Answers: status, headers and a body with bounds on size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, LINK, LOCATION, RETRY_AFTER};
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::address::is_same_origin;
use super::connect::failure::deepest;
use super::connect::pool::{Arriving, BrokenExchange};
use super::flow::rate_limit::RateLimit;
use super::flow::slow_stream::{Flow, Slow, Speed};
use super::flow::stats::Counters;
use super::header;
use super::problem::{MAX_PROBLEM_BYTES, Problem};
use super::registry_resource::Resource;
use super::request::Context;
use crate::error::{Error, Kind, Result};
use crate::retry::{Contact, OtherServer};
use crate::stream::ByteStream;

/// Longest silence inside a body.
const SILENCE: Duration = Duration::from_secs(30);

/// Largest buffer that is allocated for a body before any of it has arrived, in bytes.
const MAX_LAID_OUT: u64 = 64 << 10;

/// The answer of a host.
#[derive(Debug)]
pub struct Response {
    response: Arriving,
    /// The beginning of the body, if `peek` has read it already.
    read: Option<Bytes>,
    url: Url,
    /// The host that the request was meant for, if it was redirected to another one.
    away_from: Option<Url>,
    context: Context,
    counters: Arc<Counters>,
    speed: Arc<Speed>,
    hint: Option<String>,
    /// The contact with the host that answered; none in tests without a host.
    contact: Option<Contact>,
}

impl Response {
    pub(super) fn new(
        response: Arriving,
        url: Url,
        context: &Context,
        counters: &Arc<Counters>,
        speed: &Arc<Speed>,
    ) -> Self {
        let (counters, speed) = (Arc::clone(counters), Arc::clone(speed));
        let context = context.clone();
        Self { response, read: None, url, away_from: None, context, counters, speed, hint: None, contact: None }
    }

    /// Sets the contact with the host that answered.
    pub(super) fn of(self, contact: Contact) -> Self {
        Self { contact: Some(contact), ..self }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status
    }

    /// Returns a header, if it is present and plain text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.response.headers
    }

    /// Returns the announced length of the body: also in answer to HEAD.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Returns the URL that answered, after redirects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the last path segment but one of the URL that answered: the kind of resource requested.
    #[must_use]
    pub fn collection(&self) -> Option<&str> {
        self.url.path_segments()?.nth_back(1)
    }

    /// Returns the `Location` of an upload session, resolved. It never leads from TLS to plain HTTP on another host,
    /// never to a manifest, and never back to the original host if another one answered: credentials would go there.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) if there is no usable `Location`.
    pub fn location(&self) -> Result<Url> {
        let location = self.header(LOCATION.as_str()).and_then(|location| header::resolve(&self.url, location));
        let is_usable = |url: &Url| {
            let leads_back = self.away_from.as_ref().is_some_and(|home| is_same_origin(home, url));
            !leads_back && !Resource::of(url).is_manifest()
        };
        location.filter(is_usable).ok_or_else(|| {
            self.context
                .error(Kind::Invalid)
                .because(format!("{} without a Location that can be used", self.status().as_u16()))
        })
    }

    /// Returns the next page of a list at the same host, if there is one.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) if its URL cannot be used, or for a `Link` that cannot be read: the list would seem to end
    /// here.
    pub fn next_page(&self) -> Result<Option<Url>> {
        let links = self.headers().get_all(LINK).iter();
        let mut is_clear = true;
        for link in links {
            match link.to_str().map(header::next_link) {
                Ok(Ok(Some(link))) => {
                    let page = header::resolve(&self.url, link).filter(|page| is_same_origin(page, &self.url));
                    let why = "the list goes on at a place that cannot be gone to";
                    return page.map(Some).ok_or_else(|| self.error(Kind::Invalid, why));
                }
                Ok(Ok(None)) => {}
                _ => is_clear = false,
            }
        }
        let why = "the list may go on, at a Link that cannot be read";
        if is_clear { Ok(None) } else { Err(self.error(Kind::Invalid, why)) }
    }

    /// Reads the whole body, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past `limit`, before anything is read if the length is announced;
    /// [`Unavailable`](Kind::Unavailable) if it ends early.
    pub async fn bytes(self, limit: u64) -> Result<Bytes> {
        let over =
            |context: &Context| context.error(Kind::Limit).because(format!("the answer is longer than {limit} bytes"));
        let context = self.context.clone();
        if self.length().is_some_and(|length| length > limit) {
            return Err(over(&context));
        }
        // One buffer, no larger than the body: thousands of manifests are held at the same time. The peer chooses the
        // announced length, so it reserves only a little.
        let announced = self.length().unwrap_or_default().min(MAX_LAID_OUT);
        let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
        let mut stream = self.stream();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() as u64 > limit {
                return Err(over(&context));
            }
        }
        Ok(bytes.freeze())
    }

    /// Returns the body as a stream, which always ends: a broken connection, silence, and a slow stream from a host
    /// that can do better are [`Unavailable`](Kind::Unavailable); a stream too slow to ever end is
    /// [`Limit`](Kind::Limit). Only waiting counts: a slow reader does not make a stream slow.
    #[must_use]
    pub fn stream(self) -> ByteStream {
        let Self { response, read, context, counters, speed, contact, .. } = self;
        let mut flow = Flow::new(&speed);
        let outage_context = context.clone();
        let failed = move |counters: &Counters, kind: Kind, why: String| {
            if kind == Kind::Unavailable {
                counters.retry();
            }
            Err(context.error(kind).because(why))
        };
        let lost = move |counters: &Counters, why: String, since: Instant| {
            counters.retry();
            let error = outage_context.error(Kind::Unavailable);
            Err(match &contact {
                Some(contact) => error.because(contact.outage(why, since)),
                None => error.because(why),
            })
        };
        let rest = pieces(response).map(move |(piece, took)| match piece {
            Some(Ok(piece)) => {
                counters.received(piece.len());
                match flow.came(piece.len(), took) {
                    Ok(()) => Ok(piece),
                    Err(Slow::Stuck(how)) => failed(&counters, Kind::Unavailable, format!("it trickles: {how}")),
                    Err(Slow::Hopeless(how)) => {
                        failed(&counters, Kind::Limit, format!("{how} are too slow to wait for"))
                    }
                }
            }
            Some(Err(error)) if error.is_break() => lost(&counters, deepest(&error), Instant::now()),
            Some(Err(error)) => failed(&counters, Kind::Unavailable, deepest(&error)),
            None => lost(&counters, format!("silent for {} s", SILENCE.as_secs()), Instant::now() - SILENCE),
        });
        Box::pin(stream::iter(read.map(Ok)).chain(rest))
    }

    /// Reads and drops a short body, so that the connection can be used again.
    pub async fn discard(self) {
        // For a longer body, a new connection is cheaper.
        let _ = self.bytes(MAX_PROBLEM_BYTES).await;
    }

    /// Returns how long the host asks to wait. A date is compared with the host's own clock, if its `Date` header shows
    /// it: this machine's clock may be years off.
    pub(super) fn requested_pause(&self) -> Option<Duration> {
        let now = self.header(DATE.as_str()).and_then(header::moment).unwrap_or_else(Timestamp::now);
        header::retry_after(self.header(RETRY_AFTER.as_str())?, now)
    }

    /// Reads the answer as an error.
    pub async fn problem(self) -> Problem {
        let (status, retry_after) = (self.status(), self.requested_pause());
        let (context, hint, contact) = (self.context.clone(), self.hint.clone(), self.contact.clone());
        let quota =
            (status == StatusCode::TOO_MANY_REQUESTS).then(|| RateLimit::of(self.headers(), &self.url, retry_after));
        let mut body = BytesMut::new();
        // Reads only the beginning, and keeps the part that arrived if it breaks: the status matters most.
        let mut stream = self.stream();
        while (body.len() as u64) < MAX_PROBLEM_BYTES
            && let Some(Ok(piece)) = stream.next().await
        {
            body.extend_from_slice(&piece);
        }
        let problem = Problem { retry_after, hint, contact, ..Problem::new(status, &body, context) };
        quota.into_iter().fold(problem, Problem::over)
    }

    /// Returns the answer, if its status is one of `expected`.
    ///
    /// # Errors
    ///
    /// The peer's error, from status and body.
    pub async fn expect(self, expected: &[u16]) -> Result<Self> {
        if expected.contains(&self.status().as_u16()) { Ok(self) } else { Err(self.problem().await.into()) }
    }

    /// Returns an error about this answer.
    #[must_use]
    pub fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        self.context.error(kind).because(why.into())
    }

    /// Returns the error for a web page that is not from the host, which may answer itself the next time.
    #[must_use]
    pub fn page(&self, why: &str) -> Error {
        OtherServer(why.to_owned()).told(self.context.error(Kind::Unavailable))
    }

    /// Records that the answer comes from another host than `home`, or after a redirect through one.
    pub(super) fn away_from(mut self, home: Url) -> Self {
        self.away_from = Some(home);
        self
    }

    /// Returns whether its `Content-Type` is that of a web page.
    #[must_use]
    pub fn is_page(&self) -> bool {
        let served = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        served.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html")
    }

    pub(super) fn hinting(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Reads the first piece of the body without losing it.
    pub(super) async fn peek(mut self) -> (Self, Bytes) {
        let first = match tokio::time::timeout(SILENCE, self.response.piece()).await {
            Ok(Ok(Some(piece))) => piece,
            _ => Bytes::new(),
        };
        self.read = Some(first.clone());
        (self, first)
    }
}

/// Returns the pieces of a body with the time that each took; `None` for one that did not arrive in time, which is the
/// last.
fn pieces(response: Arriving) -> impl futures_util::Stream<Item = (Option<Result<Bytes, BrokenExchange>>, Duration)> {
    stream::unfold(Some(response), |response| async {
        let mut response = response?;
        let begun = Instant::now();
        match tokio::time::timeout(SILENCE, response.piece()).await {
            Ok(Ok(None)) => None,
            Ok(Ok(Some(piece))) => Some(((Some(Ok(piece)), begun.elapsed()), Some(response))),
            Ok(Err(error)) => Some(((Some(Err(error)), begun.elapsed()), None)),
            Err(_) => Some(((None, begun.elapsed()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::slow_stream::GRACE;

    /// Returns an answer whose body is `pieces`, each after a pause.
    fn answer(pause: Duration, pieces: usize) -> Response {
        answer_of(&Arc::default(), pause, pieces)
    }

    fn answer_of(speed: &Arc<Speed>, pause: Duration, pieces: usize) -> Response {
        let body = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from_static(b"x"))
        });
        let response = Arriving::made(StatusCode::OK, Box::pin(body));
        let context = Context { op: "get", subject: "it".into() };
        Response::new(response, Url::parse("http://r.example/").unwrap(), &context, &Arc::default(), speed)
    }

    async fn read_raw(answer: Response) -> Result<usize> {
        let mut stream = answer.stream();
        let mut count = 0;
        while let Some(piece) = stream.next().await {
            count += piece?.len();
        }
        Ok(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_falls_silent_ends_however_it_is_read() {
        let hour = Duration::from_secs(3600);
        assert_eq!(answer(hour, 1).bytes(100).await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(read_raw(answer(hour, 1)).await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(answer(hour, 1).problem().await.status, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_opened_again_once_and_then_given_up() {
        let (begun, speed) = (Instant::now(), Arc::default());
        for kind in [Kind::Unavailable, Kind::Limit] {
            let trickle = answer_of(&speed, Duration::from_secs(20), usize::MAX);
            let error = read_raw(trickle).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{}", error.chain());
        }
        assert!(begun.elapsed() < 2 * GRACE, "{:?}", begun.elapsed());
        let slow = answer_of(&speed, Duration::from_millis(15), 20_000);
        assert_eq!(read_raw(slow).await.unwrap(), 20_000, "a slow line is read to the end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_readers_own_time_does_not_count() {
        let mut stream = answer(Duration::from_millis(1), 300).stream();
        let mut count = 0;
        while let Some(piece) = stream.next().await {
            count += piece.unwrap().len();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(count, 300);
    }

    #[test]
    fn a_moment_is_reckoned_by_the_clock_of_whoever_names_it() {
        let mut answer = answer(Duration::ZERO, 0);
        let headers = &mut answer.response.headers;
        headers.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:30 GMT".parse().unwrap());
        assert_eq!(answer.requested_pause(), Some(Duration::from_secs(7)));
        answer.response.headers.remove(DATE);
        assert_eq!(answer.requested_pause(), None, "long past");
    }
}
