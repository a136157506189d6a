//! Request bodies, in the form that the HTTP library takes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream as _;
use hyper::body::{Body, Frame, SizeHint};

use super::upload_watch::WatchedBody;
use crate::error::Error;

/// The body of one request.
pub(crate) struct RequestBody {
    carries: Carries,
    /// Whether the HTTP library has taken all of it.
    is_sent: Arc<AtomicBool>,
}

enum Carries {
    Nothing,
    Bytes(Bytes),
    /// Boxed: a connection has space for 32 requests, whatever their bodies.
    Stream(u64, Box<WatchedBody>),
}

impl RequestBody {
    pub(crate) fn nothing() -> Self {
        Self::of(Carries::Nothing)
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self::of(if bytes.is_empty() { Carries::Nothing } else { Carries::Bytes(bytes) })
    }

    /// Returns a body that streams `length` bytes.
    pub(crate) fn stream(length: u64, stream: WatchedBody) -> Self {
        Self::of(Carries::Stream(length, Box::new(stream)))
    }

    fn of(carries: Carries) -> Self {
        let is_sent = Arc::new(AtomicBool::new(matches!(carries, Carries::Nothing)));
        Self { carries, is_sent }
    }

    /// Returns a flag that is set once all of the body was taken: before that, its connection cannot carry another
    /// request.
    pub(crate) fn is_sent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_sent)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = match &mut this.carries {
            Carries::Nothing => Poll::Ready(None),
            Carries::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.carries = Carries::Nothing;
                this.is_sent.store(true, Ordering::Release);
                Poll::Ready(Some(Ok(bytes)))
            }
            Carries::Stream(left, stream) => match Pin::new(stream).poll_next(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    *left = left.saturating_sub(piece.len() as u64);
                    if *left == 0 {
                        this.is_sent.store(true, Ordering::Release);
                    }
                    Poll::Ready(Some(Ok(piece)))
                }
                other => other,
            },
        };
        polled.map(|next| next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        // A stream is polled to its end: an error there, such as a wrong digest, must not be lost.
        matches!(self.carries, Carries::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.carries {
            Carries::Nothing => SizeHint::with_exact(0),
            Carries::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Carries::Stream(left, _) => SizeHint::with_exact(*left),
        }
    }
}
