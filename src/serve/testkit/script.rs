//! The layer around the server: writes down what is asked, and lets go wrong what was ordered.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};

use super::fault::{Fault, What};
use super::lie;
use super::log::{Entry, Seen};
use crate::serve::problem::Problem;

/// Log and faults of one server.
#[derive(Debug, Default)]
pub(super) struct Script {
    log: Mutex<Vec<Arc<Entry>>>,
    faults: Mutex<Vec<Pending>>,
}

#[derive(Debug)]
struct Pending {
    fault: Fault,
    /// Requests that it might have befallen so far.
    met: u32,
}

impl Script {
    pub(super) fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|entry| entry.seen()).collect()
    }

    pub(super) fn clear(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn add(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(Pending { fault, met: 0 });
    }

    pub(super) fn heal(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn record(&self, request: &Request) -> Arc<Entry> {
        let entry = Arc::new(Entry::of(request));
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        entry
    }

    /// The first fault that befalls this request. All that might have count it.
    fn draw(&self, entry: &Entry) -> Option<What> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drawn = None;
        for Pending { fault, met } in faults.iter_mut() {
            let is_meant = fault.on == entry.kind()
                && fault.path_contains.as_ref().is_none_or(|text| entry.path().contains(text.as_str()))
                && fault.path_ends.as_ref().is_none_or(|text| entry.path().ends_with(text.as_str()));
            if is_meant {
                *met += 1;
                let is_due = *met >= fault.nth && *met - fault.nth < fault.times;
                drawn = drawn.or_else(|| is_due.then(|| fault.what.clone()));
            }
        }
        drawn
    }
}

/// Handles one request.
pub(super) async fn intercept(State(script): State<Arc<Script>>, request: Request, next: Next) -> Response<Body> {
    let entry = script.record(&request);
    let what = script.draw(&entry);
    let (head, body) = request.into_parts();
    let after = if let Some(What::CutRequest { after }) = what { after } else { u64::MAX };
    let body = Body::from_stream(incoming(body, Arc::clone(&entry), after));
    let request = Request::from_parts(head, body);
    let mut answer = match what {
        None => next.run(request).await,
        Some(what) => strike(what, request, next).await,
    };
    if !is_broken(&answer) {
        entry.answered(answer.status().as_u16());
    }
    // Streams do not tell their length; it is told in the header, as the server would have had it.
    let length = answer.body().size_hint().exact();
    if length != Some(0) {
        if let Some(length) = length.filter(|_| !answer.headers().contains_key(header::CONTENT_LENGTH)) {
            answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        let count = Arc::clone(&entry);
        return answer.map(|body| Body::from_stream(counted(body, move |n| add(&count.bytes_out, n))));
    }
    answer
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

async fn strike(what: What, mut request: Request, next: Next) -> Response<Body> {
    match what {
        What::Status(status) => refuse(request, status, None).await,
        What::StatusWith { status, retry_after } => refuse(request, status, retry_after).await,
        What::Html => {
            drain(request).await;
            let mut answer = Response::new(Body::from("<!doctype html><title>Please log in</title>"));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            answer
        }
        What::ResetBefore => broken(),
        What::ResetAfter | What::CutRequest { .. } => {
            next.run(request).await;
            broken()
        }
        What::Delay(pause) => {
            tokio::time::sleep(pause).await;
            next.run(request).await
        }
        What::WrongLength => resize(next.run(request).await, |length| length + 1),
        What::Truncate { to } => {
            let answer = resize(next.run(request).await, |length| length.min(to));
            answer.map(|body| Body::from_stream(taken(body, to)))
        }
        What::CutBody { after } => {
            let answer = resize(next.run(request).await, |length| length);
            answer.map(|body| Body::from_stream(taken(body, after).chain(stream::once(cut()))))
        }
        What::FlipBit { at } => {
            let answer = resize(next.run(request).await, |length| length);
            answer.map(|body| Body::from_stream(flipped(body, at)))
        }
        What::Replace(bytes) => {
            let answer = next.run(request).await.map(|_| Body::empty());
            resize(answer, |_| bytes.len() as u64).map(|_| Body::from(bytes.clone()))
        }
        What::AnswerOf(path) => match path.parse() {
            Ok(uri) => {
                *request.uri_mut() = uri;
                next.run(request).await
            }
            Err(_) => broken(),
        },
        What::Serve { media_type, bytes } => lie::served(media_type, bytes),
        What::Hide(text) => lie::hidden(next.run(request).await, &text).await,
        What::Pour { head, unit, total, is_length_told } => {
            lie::poured(next.run(request).await, head, unit, total, is_length_told)
        }
        What::EndlessPages(bytes) => {
            let uri = request.uri().clone();
            lie::paged(next.run(request).await, &uri, bytes)
        }
    }
}

async fn refuse(request: Request, status: u16, retry_after: Option<String>) -> Response<Body> {
    drain(request).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "DENIED",
        _ => "UNKNOWN",
    };
    let problem = Problem::new(status, code, "ordered by the test");
    retry_after.into_iter().fold(problem, |problem, pause| problem.with(header::RETRY_AFTER, pause)).response()
}

/// Reads a request to its end, so that its sender is sure to read the answer.
async fn drain(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}

/// An answer in whose place the connection is dropped: the first look at its body fails, before its head has left.
fn broken() -> Response<Body> {
    let mut answer = Response::new(Body::from_stream(stream::once(async { dropped() })));
    answer.extensions_mut().insert(Broken);
    answer.headers_mut().insert(header::CONTENT_LENGTH, 1.into());
    answer
}

#[derive(Clone)]
struct Broken;

fn is_broken(answer: &Response<Body>) -> bool {
    answer.extensions().get::<Broken>().is_some()
}

fn dropped() -> io::Result<Bytes> {
    Err(io::Error::new(io::ErrorKind::ConnectionAborted, "dropped by the test"))
}

/// The drop, after what came before it has left.
async fn cut() -> io::Result<Bytes> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    dropped()
}

/// Sets the length that the header tells.
fn resize(mut answer: Response<Body>, change: impl FnOnce(u64) -> u64) -> Response<Body> {
    let told = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(length) = told.or(answer.body().size_hint().exact()) {
        answer.headers_mut().insert(header::CONTENT_LENGTH, change(length).into());
    }
    answer
}

type Piece = io::Result<Bytes>;

fn counted(body: Body, mut count: impl FnMut(usize) + Send + 'static) -> impl Stream<Item = Piece> + Send {
    body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        count(piece.len());
        Ok(piece)
    })
}

/// The request's body up to `after` bytes, and then a lost connection.
fn incoming(body: Body, entry: Arc<Entry>, after: u64) -> impl Stream<Item = Piece> + Send {
    let within = taken(body, after);
    let mut left = after;
    let mut is_lost = false;
    within
        .map(Some)
        .chain(stream::once(async { None }))
        .filter_map(move |piece| {
            let piece = match piece {
                Some(piece) => {
                    let length = piece.as_ref().map_or(0, Bytes::len);
                    left -= length as u64;
                    add(&entry.bytes_in, length);
                    Some(piece)
                }
                None if left == 0 && !is_lost => {
                    is_lost = true;
                    Some(dropped())
                }
                None => None,
            };
            std::future::ready(piece)
        })
        .boxed()
}

/// The first `limit` bytes.
fn taken(body: Body, limit: u64) -> impl Stream<Item = Piece> + Send {
    let state = (body.into_data_stream(), limit);
    stream::try_unfold(state, |(mut pieces, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(piece) = pieces.next().await else { return Ok(None) };
        let mut piece = piece.map_err(io::Error::other)?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (pieces, left))))
    })
}

fn flipped(body: Body, at: u64) -> impl Stream<Item = Piece> + Send {
    let mut seen = 0;
    body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        let index = usize::try_from(at.wrapping_sub(seen)).ok().filter(|index| *index < piece.len());
        seen += piece.len() as u64;
        let Some(index) = index else { return Ok(piece) };
        let mut piece = BytesMut::from(&piece[..]);
        piece[index] ^= 1;
        Ok(piece.freeze())
    })
}
