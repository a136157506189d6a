//! Connections that do not stay for ever: one on which nothing moves is closed.
//!
//! A peer that went away without a word, as peers on bad links do, and one that sends half a request and then nothing would
//! each hold a file descriptor until the server ends. HTTP itself sets no limit.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// Longest time in which nothing moves, in either direction. Longer than any answer takes to be worked out, and than the
/// limits on silence inside a body.
const IDLE: Duration = Duration::from_secs(300);

/// Accepts connections that are watched.
#[derive(Debug)]
pub(super) struct Watching(pub(super) TcpListener);

impl Listener for Watching {
    type Io = Watched<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // An answer's head must not wait for its body to fill a packet.
        let _ = stream.set_nodelay(true);
        (Watched::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A connection and when something last moved on it.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<T> Watched<T> {
    fn new(inner: T) -> Self {
        Self { inner, moved: Instant::now(), alarm: Box::pin(sleep(IDLE)) }
    }

    /// Takes note of what the connection says; in place of waiting for one that is idle, an error.
    fn watch<R>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        // Set anew only when it goes off, so that what moves costs a look at the clock and no more.
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

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
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
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed_and_a_slow_one_is_not() {
        let (mut peer, server) = tokio::io::duplex(64);
        let mut server = Watched::new(server);
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
            (peer, Watched::new(server))
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
        let error = Watched::new(server).write_all(&[7; 80]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "a peer that takes nothing is");
    }
}
