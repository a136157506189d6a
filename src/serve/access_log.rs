//! The access log: one record for each request. Handed in with the server's options.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use hyper::body::{Frame, SizeHint};

use super::auth::{address_of, named_user};
use super::reply::CONTENT_DIGEST;
use super::route::Route;
use super::upload_quota::SessionOwner;
use crate::oci::Digest;

/// Takes the records of a server.
#[async_trait]
pub trait AccessLog: fmt::Debug + Send + Sync {
    /// Takes the record of a request: after the last byte of the answer to a request that reads, and before the answer
    /// to one that writes. Must not block.
    fn record(&self, record: &AccessRecord);

    /// Returns once the records so far are as durable as this log promises. The server waits for it before it answers that a write is done, and
    /// for no other answer: a client that may not write must not make the disk busy.
    async fn flush(&self);
}

/// A request and its answer. Holds no secrets: no password, no token, no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRecord {
    /// The address that the request came from.
    pub from: IpAddr,
    /// The user who has logged in.
    pub user: Option<String>,
    /// The user name of a login that was refused, as the client sent it: it may be a token in the wrong place.
    pub refused_user: Option<String>,
    /// The method.
    pub method: String,
    /// The endpoint, with the repository and the reference. None for a path that is no endpoint. In place of the name of
    /// an upload it has the start of that name's hash: a client that knows the name can go on with the upload.
    pub route: Option<Route>,
    /// The digest of the content that was sent or taken.
    pub digest: Option<Digest>,
    /// The status. None if the client was gone before there was an answer.
    pub status: Option<u16>,
    /// The bytes of the answer's body that were sent, or of the request's body that came if the request writes.
    pub bytes: u64,
}

/// A request on its way into the log: it is recorded when this is dropped. None without a log.
pub(super) struct Recording(Option<PendingRecord>);

struct PendingRecord {
    log: Arc<dyn AccessLog>,
    record: AccessRecord,
    /// The user name that the request gives, whether the password is right or not.
    named_user: Option<String>,
    /// Bytes of the body so far.
    bytes: Arc<AtomicU64>,
}

impl Recording {
    pub(super) fn begin(log: Option<&Arc<dyn AccessLog>>, head: &Parts, route: Option<&Route>) -> Self {
        Self(log.map(|log| PendingRecord {
            log: Arc::clone(log),
            record: AccessRecord {
                from: address_of(head),
                user: None,
                refused_user: None,
                method: head.method.to_string(),
                route: route.cloned().map(without_secret),
                digest: None,
                status: None,
                bytes: 0,
            },
            named_user: named_user(&head.headers),
            bytes: Arc::default(),
        }))
    }

    /// Counts the bytes of the request's body.
    pub(super) fn count(&self, body: Body) -> Body {
        match &self.0 {
            Some(pending) if !pending.is_reading() => Body::new(pending.counted(body)),
            _ => body,
        }
    }

    /// Adds the client.
    pub(super) fn admitted(&mut self, client: &SessionOwner) {
        if let Some(pending) = &mut self.0 {
            pending.record.user = client.user().map(str::to_owned);
        }
    }

    /// Adds the answer, and returns it to be sent.
    pub(super) async fn answered(self, response: Response<Body>) -> Response<Body> {
        let Some(mut pending) = self.0 else { return response };
        let digest = response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse().ok());
        (pending.record.status, pending.record.digest) = (Some(response.status().as_u16()), digest);
        if response.status() == StatusCode::UNAUTHORIZED {
            pending.record.refused_user = pending.named_user.take();
        }
        if pending.is_reading() {
            return response.map(|body| {
                let mut counted = pending.counted(body);
                counted._pending = Some(pending);
                Body::new(counted)
            });
        }
        let log = Arc::clone(&pending.log);
        drop(pending);
        if response.status().is_success() {
            log.flush().await;
        }
        response
    }
}

fn without_secret(route: Route) -> Route {
    match route {
        Route::Upload(repository, name) => Route::Upload(repository, Digest::sha256(name.as_bytes()).short()),
        other => other,
    }
}

impl PendingRecord {
    fn is_reading(&self) -> bool {
        [Method::GET.as_str(), Method::HEAD.as_str()].contains(&self.record.method.as_str())
    }

    fn counted(&self, body: Body) -> CountedBody {
        CountedBody { body, bytes: Arc::clone(&self.bytes), _pending: None }
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        self.record.bytes = self.bytes.load(Ordering::Relaxed);
        self.log.record(&self.record);
    }
}

/// A body whose bytes are counted.
struct CountedBody {
    body: Body,
    bytes: Arc<AtomicU64>,
    /// Recorded when the body has ended or its connection has broken.
    _pending: Option<PendingRecord>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
