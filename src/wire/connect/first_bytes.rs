//! Records the first bytes of a connection: the reply to a TLS hello shows which protocol the peer speaks.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::lock;

/// Enough bytes to tell TLS from HTTP.
const ENOUGH: usize = 5;

/// The first bytes from a peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Returns whether nothing has arrived yet.
    pub(super) fn is_nothing(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Returns whether this is the start of a TLS record (RFC 8446, section 5.1): a handshake message or an alert.
    pub(super) fn is_tls(&self) -> bool {
        matches!(lock(&self.0).as_slice(), [0x15 | 0x16, 3, ..])
    }

    /// Returns whether this is the start of an HTTP/1 answer.
    pub(super) fn is_http(&self) -> bool {
        *lock(&self.0) == *b"HTTP/"
    }
}

/// A connection that records the first bytes it receives.
#[derive(Debug)]
pub(crate) struct Overheard<T> {
    connection: T,
    heard: Heard,
    is_listening: bool,
}

impl<T> Overheard<T> {
    pub(crate) fn new(connection: T) -> (Self, Heard) {
        let heard = Heard::default();
        (Self { connection, heard: heard.clone(), is_listening: true }, heard)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Overheard<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.connection).poll_read(context, buf);
        if self.is_listening {
            let mut heard = lock(&self.heard.0);
            let missing = ENOUGH - heard.len();
            heard.extend(buf.filled()[before..].iter().take(missing));
            let is_listening = heard.len() < ENOUGH;
            drop(heard);
            self.is_listening = is_listening;
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Overheard<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
