//! The link: all bytes pass here, between the sockets and the rest of the client, to be counted and held to a rate.
//!
//! A tariff counts every byte, so this does too: heads, TLS and the words to a proxy as well as bodies.
//!
//! A connection takes one turn of a few kilobytes at a time. After a turn it waits until the bytes of all turns before
//! have had their time, so N bytes take N / rate seconds over however many connections. A small answer fits into a few
//! turns: it does not wait behind the large ones.

use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::sync::lock;

/// Fewest and most bytes of a turn. Sixteen connections are then at most 128 KiB ahead of the rate.
const TURN: (u64, u64) = (512, 8 << 10);

/// A turn takes this part of a second, within [`TURN`].
const TURNS_PER_SECOND: u64 = 64;

/// Waits shorter than this are left out: the timer is no finer, and would halve a fast link.
const LEEWAY: Duration = Duration::from_millis(2);

/// Bytes between this client and the network, over all connections: heads, bodies, TLS and proxies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// The link of a client, which all its connections share.
#[derive(Debug)]
pub(crate) struct Link {
    received: OneWay,
    sent: OneWay,
}

/// One direction of the link.
#[derive(Debug)]
struct OneWay {
    bytes: AtomicU64,
    rate: Option<ByteRate>,
}

#[derive(Debug)]
struct ByteRate {
    per_second: NonZeroU64,
    /// When the turns of all bytes that have passed are over.
    free: Mutex<Instant>,
}

impl Link {
    /// Creates a link that carries at most `rate` bytes per second each way.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Arc<Self> {
        Arc::new(Self { received: OneWay::new(rate), sent: OneWay::new(rate) })
    }

    /// Returns the number of bytes that have passed.
    pub(crate) fn traffic(&self) -> Traffic {
        let read = |way: &OneWay| way.bytes.load(Ordering::Relaxed);
        Traffic { received: read(&self.received), sent: read(&self.sent) }
    }
}

impl OneWay {
    fn new(rate: Option<NonZeroU64>) -> Self {
        let rate = rate.map(|per_second| ByteRate { per_second, free: Mutex::new(Instant::now()) });
        Self { bytes: AtomicU64::new(0), rate }
    }

    /// Returns the most bytes of one turn; `None` without a limit.
    fn turn(&self) -> Option<u64> {
        let rate = self.rate.as_ref()?;
        Some((rate.per_second.get() / TURNS_PER_SECOND).clamp(TURN.0, TURN.1))
    }

    /// Counts `bytes`, and returns until when the connection that moved them has to wait, if it has to.
    fn passed(&self, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        if bytes == 0 {
            return None;
        }
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let rate = self.rate.as_ref()?;
        let takes = Duration::from_secs(bytes as u64).div_f64(rate.per_second.get() as f64);
        let now = Instant::now();
        let over = {
            let mut free = lock(&rate.free);
            *free = (*free).max(now) + takes;
            *free
        };
        (over > now + LEEWAY).then(|| Box::pin(sleep_until(over)))
    }
}

/// A connection over the link.
#[derive(Debug)]
pub(crate) struct Linked<T> {
    /// Limits one read to a turn.
    connection: Take<T>,
    link: Arc<Link>,
    /// Ends with the turn of the bytes read last; the same for those written.
    read: Option<Pin<Box<Sleep>>>,
    written: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead> Linked<T> {
    pub(crate) fn new(connection: T, link: &Arc<Link>) -> Self {
        Self { connection: connection.take(0), link: Arc::clone(link), read: None, written: None }
    }
}

/// Waits for the end of a turn.
fn turn_over(turn: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(wait) = turn {
        ready!(wait.as_mut().poll(context));
        *turn = None;
    }
    Poll::Ready(())
}

impl<T: AsyncRead + Unpin> AsyncRead for Linked<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(turn_over(&mut this.read, context));
        let before = buf.filled().len();
        this.connection.set_limit(this.link.received.turn().unwrap_or(u64::MAX));
        let polled = Pin::new(&mut this.connection).poll_read(context, buf);
        this.read = this.link.received.passed(buf.filled().len() - before);
        polled
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Linked<T> {
    /// Writes in one turn; `write` gets the most bytes that it may write, `None` if there is no limit.
    fn write(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>, Option<usize>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        ready!(turn_over(&mut self.written, context));
        let most = self.link.sent.turn().map(|most| most as usize);
        let count = ready!(write(Pin::new(self.connection.get_mut()), context, most))?;
        self.written = self.link.sent.passed(count);
        Poll::Ready(Ok(count))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linked<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |connection, context, most| {
            connection.poll_write(context, &buf[..buf.len().min(most.unwrap_or(usize::MAX))])
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |connection, context, most| match most {
            None => connection.poll_write_vectored(context, bufs),
            Some(most) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                connection.poll_write(context, &first[..first.len().min(most)])
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.connection.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.connection.get_mut()).poll_shutdown(context)
    }
}

impl<T: AsyncRead + Connection> Connection for Linked<T> {
    fn connected(&self) -> Connected {
        self.connection.get_ref().connected()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::io::{AsyncWriteExt as _, Join, Repeat, Sink, join, repeat, sink};

    use super::*;

    const RATE: u64 = 1_000_000;

    fn link(rate: u64) -> Arc<Link> {
        Link::new(NonZeroU64::new(rate))
    }

    /// Returns a connection whose peer sends and takes as fast as it can.
    fn connect(link: &Arc<Link>) -> Linked<Join<Repeat, Sink>> {
        Linked::new(join(repeat(7), sink()), link)
    }

    async fn receive(link: &Arc<Link>, bytes: usize) {
        connect(link).read_exact(&mut vec![0; bytes]).await.unwrap();
    }

    async fn send(link: &Arc<Link>, bytes: usize) {
        connect(link).write_all(&vec![7; bytes]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_together_move_no_more_than_the_rate_each_way() {
        for (rate, each) in [(2_000, 20_000), (RATE, 1_000_000), (50 * RATE, 6_250_000)] {
            let (link, begun) = (link(rate), Instant::now());
            let timed = async |moved: Vec<_>| {
                join_all(moved).await;
                begun.elapsed().as_secs_f64()
            };
            let received = (0..16).map(|_| receive(&link, each).boxed()).collect();
            let sent = (0..8).map(|_| send(&link, each).boxed()).collect();
            let took: (f64, f64) = tokio::join!(timed(received), timed(sent));
            let each = each as u64;
            assert_eq!(link.traffic(), Traffic { received: 16 * each, sent: 8 * each });
            for (bytes, took) in [(16 * each, took.0), (8 * each, took.1)] {
                let expected = bytes as f64 / rate as f64;
                assert!((0.95..1.05).contains(&(took / expected)), "{rate}: {took} s, and not {expected} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_answers_do_not_wait_behind_large_ones() {
        let link = link(RATE);
        let large = join_all((0..8).map(|_| receive(&link, 10 << 20)));
        let small = async {
            let mut longest = Duration::ZERO;
            for bytes in [200, 4_000, 30_000].repeat(20) {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let begun = Instant::now();
                receive(&link, bytes).await;
                if bytes <= 4_000 {
                    assert!(begun.elapsed() < Duration::from_millis(5), "a head: {:?}", begun.elapsed());
                }
                longest = longest.max(begun.elapsed());
            }
            longest
        };
        tokio::select! {
            _ = large => panic!("the large ones were to take longer"),
            longest = small => assert!(longest < Duration::from_millis(500), "a manifest: {longest:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_traffic_is_not_saved_up() {
        let (link, begun) = (link(RATE), Instant::now());
        tokio::time::sleep(Duration::from_secs(60)).await;
        receive(&link, 5 * usize::try_from(RATE).unwrap()).await;
        assert!(begun.elapsed() > Duration::from_millis(64_900), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_bytes_are_counted_and_nothing_waits() {
        let (link, begun) = (Link::new(None), Instant::now());
        tokio::join!(receive(&link, 1 << 20), send(&link, 3 << 20));
        assert_eq!((begun.elapsed(), link.traffic()), (Duration::ZERO, Traffic { received: 1 << 20, sent: 3 << 20 }));
    }
}
