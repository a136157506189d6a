//! A link in user space, in front of a registry: delays the traffic, limits its rate, counts it.
//!
//! The round trip is split between the two directions. Bytes are stamped on arrival and leave when they are due, so a delay
//! alone does not limit throughput; a rate does, for all connections of one direction together, as on a real line. A
//! connection's first bytes wait one round trip more: its handshake, which loopback does not show.
//!
//! Counting reads every request, unless the traffic is encrypted, and is for runs that are not timed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::tally::{Reader, Traffic};

/// Largest piece taken in at once.
const PIECE: usize = 64 << 10;
/// Pieces on their way in one direction of one connection: room for 1 GB/s over 60 ms.
const IN_FLIGHT: usize = 1024;

/// The distance of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub round_trip: Duration,
    /// In each direction. None for no limit.
    pub bits_per_second: Option<u64>,
}

impl Link {
    pub fn is_near(&self) -> bool {
        self.round_trip.is_zero() && self.bits_per_second.is_none()
    }
}

/// The counted events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    Requests,
    /// No requests: the traffic is encrypted.
    Connections,
    Off,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    pub host: String,
    traffic: Arc<Mutex<Traffic>>,
    serving: JoinHandle<()>,
}

impl Proxy {
    pub fn start(runtime: &Handle, upstream: &str, link: Link, counting: Counting) -> Self {
        let requests = (counting == Counting::Requests).then(BTreeMap::new);
        let traffic = Arc::new(Mutex::new(Traffic { requests, ..Traffic::default() }));
        let upstream: SocketAddr = upstream.parse().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let counted = (counting != Counting::Off).then(|| Arc::clone(&traffic));
        let serving = runtime.spawn(serve(listener, upstream, link, counted));
        Self { host, traffic, serving }
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, link: Link, traffic: Option<Arc<Mutex<Traffic>>>) {
    let lines = [Arc::new(Line::new(link)), Arc::new(Line::new(link))];
    // Owned here: all connections end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let came = Instant::now();
        if let Some(traffic) = &traffic {
            traffic.lock().unwrap().connections += 1;
        }
        let ([up, down], traffic) = (lines.clone(), traffic.clone());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(upstream).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let to = Counter { traffic: traffic.clone(), requests: Some(Reader::default()) };
            let back = Counter { traffic, requests: None };
            let handshake = came + link.round_trip;
            tokio::join!(
                pump(from_client, to_server, up, handshake, to),
                pump(from_server, to_client, down, came, back)
            );
        });
    }
}

/// One direction, shared by all its connections.
#[derive(Debug)]
struct Line {
    delay: Duration,
    bytes_per_second: Option<f64>,
    /// Time when the line has sent all queued bytes.
    free: Mutex<Instant>,
}

impl Line {
    fn new(link: Link) -> Self {
        let bytes_per_second = link.bits_per_second.map(|bits| bits as f64 / 8.0);
        Self { delay: link.round_trip / 2, bytes_per_second, free: Mutex::new(Instant::now()) }
    }

    /// Time when `length` bytes that are there at `begin` have been put on the line.
    fn departure(&self, begin: Instant, length: usize) -> Instant {
        let Some(rate) = self.bytes_per_second else { return begin };
        let mut free = self.free.lock().unwrap();
        *free = begin.max(*free) + Duration::from_secs_f64(length as f64 / rate);
        *free
    }
}

struct Counter {
    traffic: Option<Arc<Mutex<Traffic>>>,
    /// Set for the direction to the server.
    requests: Option<Reader>,
}

impl Counter {
    fn count(&mut self, bytes: &[u8]) {
        let Some(traffic) = &self.traffic else { return };
        let mut traffic = traffic.lock().unwrap();
        let Some(reader) = &mut self.requests else {
            traffic.bytes_from_server += bytes.len() as u64;
            return;
        };
        traffic.bytes_to_server += bytes.len() as u64;
        if let Some(requests) = &mut traffic.requests {
            reader.feed(bytes, &mut |method| *requests.entry(method.to_owned()).or_default() += 1);
        }
    }
}

async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, line: Arc<Line>, earliest: Instant, counter: Counter) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::join!(take(from, sender, &line, earliest, counter), deliver(receiver, to));
}

async fn take(
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<(Instant, Bytes)>,
    line: &Line,
    earliest: Instant,
    mut counter: Counter,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        // An end and a break are forwarded alike: the other side is closed after the last delivery.
        if !matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        let piece = buffer.split().freeze();
        counter.count(&piece);
        let departure = line.departure(Instant::now().max(earliest), piece.len());
        if line.bytes_per_second.is_some() {
            // Reading waits for sending: so the sender is limited to the rate.
            sleep_until(departure).await;
        }
        if sender.send((departure + line.delay, piece)).await.is_err() {
            return;
        }
    }
}

async fn deliver(mut receiver: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) {
    while let Some((due, piece)) = receiver.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
