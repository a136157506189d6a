//! Connections that time out when idle, and that close in a way that lets the client read the last response.
//!
//! A peer that disappears without closing, as peers on bad links do, or one that sends half a request and then nothing,
//! would hold a file descriptor until the server ends. HTTP itself sets no limit.
//!
//! If a request is refused before its body was read, such as a layer that does not fit on the disk, the peer is still
//! sending. Closing at that moment makes the peer's system drop the response (RFC 9112 §9.6, "Tear-down"), so the
//! server reads and drops the peer's data for a moment after the response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connection_slots::{Phase, PhaseCell};

/// Longest time without any bytes in either direction. Longer than any response takes to compute, and than the limits
/// on silence inside a body.
const IDLE: Duration = Duration::from_secs(300);

/// How long a peer may go on sending after its request was refused.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the last request was answered before all of it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request's body that reports if it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Incoming<B: HttpBody> {
    inner: B,
    is_over: bool,
    unread: Unread,
}

impl<B: HttpBody> Incoming<B> {
    pub(crate) fn new(inner: B, unread: Unread) -> Self {
        // A new request means that the connection survived the last one.
        unread.0.store(false, Ordering::Relaxed);
        Self { is_over: inner.is_end_stream(), inner, unread }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Incoming<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        // After an error no client is left to read a response.
        self.is_over |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.inner.size_hint()
    }
}

impl<B: HttpBody> Drop for Incoming<B> {
    fn drop(&mut self) {
        if !self.is_over && !self.inner.is_end_stream() {
            self.unread.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A connection, and the time of its last activity.
#[derive(Debug)]
pub(crate) struct WatchedConnection<T> {
    inner: T,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
    unread: Unread,
    progress: PhaseCell,
    /// Set once the response has been sent.
    is_lingering: bool,
}

impl<T> WatchedConnection<T> {
    pub(crate) fn new(inner: T, unread: Unread, progress: PhaseCell) -> Self {
        let (moved, alarm) = (Instant::now(), Box::pin(sleep(IDLE)));
        Self { inner, moved, alarm, unread, progress, is_lingering: false }
    }

    /// Records activity; for an idle connection, returns an error instead of waiting.
    fn watch<R>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        // Reset only when it fires, so that activity costs only a look at the clock.
        while self.alarm.as_mut().poll(context).is_ready() {
            let due = self.moved + IDLE;
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedConnection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if !buffer.filled().is_empty() {
            self.progress.reach(Phase::Begun);
        }
        self.watch(context, polled)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedConnection<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_lingering {
            ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
            if !self.unread.is_so() {
                return Poll::Ready(Ok(()));
            }
            self.is_lingering = true;
            self.alarm.as_mut().reset(Instant::now() + LINGER);
        }
        if self.alarm.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 16 << 10];
        loop {
            let mut dropped = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(context, &mut dropped) {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed_and_a_slow_one_is_not() {
        let (mut peer, server) = tokio::io::duplex(64);
        let mut server = WatchedConnection::new(server, Unread::default(), PhaseCell::default());
        let mut byte = [0];
        for _ in 0..5 {
            tokio::time::sleep(IDLE / 2).await;
            peer.write_all(b"x").await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
        }
        let begun = Instant::now();
        assert_eq!(server.read_exact(&mut byte).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((IDLE..IDLE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_its_answer_is_not_idle_however_little_it_says() {
        let (mut peer, mut server) = {
            let (peer, server) = tokio::io::duplex(8);
            (peer, WatchedConnection::new(server, Unread::default(), PhaseCell::default()))
        };
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            let mut piece = [0; 8];
            while let Ok(count @ 1..) = peer.read(&mut piece).await {
                all.extend_from_slice(&piece[..count]);
                tokio::time::sleep(IDLE / 2).await;
            }
            all.len()
        });
        server.write_all(&[7; 80]).await.unwrap();
        drop(server);
        assert_eq!(reading.await.unwrap(), 80);

        let (_peer, server) = tokio::io::duplex(8);
        let error = WatchedConnection::new(server, Unread::default(), PhaseCell::default())
            .write_all(&[7; 80])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "a peer that takes nothing is");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_peer_still_sends_is_dropped_for_a_moment_and_no_longer() {
        for (is_unread, least, most) in [(true, LINGER, LINGER * 2), (false, Duration::ZERO, LINGER / 2)] {
            let (mut peer, server) = tokio::io::duplex(8);
            let unread = Unread::default();
            drop(Incoming::new(
                if is_unread { axum::body::Body::from("x") } else { axum::body::Body::empty() },
                unread.clone(),
            ));
            let mut server = WatchedConnection::new(server, unread, PhaseCell::default());
            tokio::spawn(async move {
                while peer.write_all(&[7; 80]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let begun = Instant::now();
            server.shutdown().await.unwrap();
            assert!((least..most).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }
}
