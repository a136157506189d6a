//! Accepts connections up to a limit and drains them at shutdown.
//!
//! When all slots are taken, connections without a request make room first, then idle ones are closed, and busy ones
//! close after their current response (`connection_slots.rs`). At shutdown it accepts no more connections and gives the
//! open ones a grace period to end; then it closes them. No connection outlives [`Acceptor::run`].

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming as Received;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Incoming, Unread, WatchedConnection};
use super::connection_slots::{ConnectionSlot, ConnectionSlots, Full, Phase, PhaseCell, Word};
use super::limits::{Limits, MAX_BUFFER_BYTES, MAX_HEAD_BYTES, NARROW_BUFFER_BYTES};
use super::tls::ServerTls;

/// Longest time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Pause after an accept error that is not the peer's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(500);

/// Most connections that wait for a slot of their network; further ones are closed. Each holds a socket.
const WAITING: usize = 64;

/// The address that sent a request; an extension of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// State that all connections share.
#[derive(Debug, Clone)]
pub(crate) struct Acceptor {
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) limits: Limits,
    /// Number of open connections, for the metrics.
    pub(crate) open: Arc<AtomicU64>,
}

impl Acceptor {
    /// Serves connections until `shutdown` resolves and all of them have ended, or the grace period is over.
    pub(crate) async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        let places = ConnectionSlots::new(self.limits.connections, Arc::clone(&self.open));
        let mut inside = JoinSet::new();
        loop {
            while inside.try_join_next().is_some() {}
            let (stream, peer) = tokio::select! {
                () = &mut shutdown => break,
                came = accept(&listener) => came,
            };
            let place = match places.take(peer.ip()) {
                // Connections behind this one have to wait, too.
                Err(Full::All) => {
                    let place = tokio::select! {
                        () = &mut shutdown => break,
                        place = places.wait_for_any(peer.ip()) => place,
                    };
                    let Some(place) = place else { break };
                    place
                }
                taken => taken,
            };
            match place {
                Ok(place) => {
                    inside.spawn(self.clone().attend(stream, peer, place));
                }
                // Connections behind this one must not wait because its network has used its share.
                Err(_) => {
                    let mut seat = places.queue(WAITING);
                    let (acceptor, places) = (self.clone(), Arc::clone(&places));
                    inside.spawn(async move {
                        let place = tokio::select! {
                            place = places.wait(peer.ip()) => place,
                            _ = &mut seat.sent_away => None,
                        };
                        drop(seat);
                        let Some(place) = place else { return };
                        acceptor.attend(stream, peer, place).await;
                    });
                }
            }
        }
        drop(listener);
        places.close();
        let all_gone = async { while inside.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.grace, all_gone).await.is_err() {
            tracing::warn!(connections = inside.len(), "requests were cut off: they took longer than the grace");
        }
    }

    /// Serves one connection, from its first byte to its last.
    async fn attend(self, stream: TcpStream, peer: SocketAddr, place: ConnectionSlot) {
        // The head of a response must not wait until its body fills a packet.
        let _ = stream.set_nodelay(true);
        let (unread, progress, mut word) = (Unread::default(), place.progress.clone(), place.word.clone());
        let stream = WatchedConnection::new(stream, unread.clone(), progress.clone());
        let (router, peer_ip) = (TowerToHyperService::new(self.router), PeerAddress(peer.ip()));
        let answers = Answers { router, peer: peer_ip, unread, asked: watch::Sender::new(false), progress };
        let buffer = if place.is_wide { MAX_BUFFER_BYTES } else { NARROW_BUFFER_BYTES };
        let Some(tls) = self.tls else { return converse(stream, answers, self.limits.head, buffer, word).await };
        let greeted = tokio::select! {
            greeted = tokio::time::timeout(HANDSHAKE, tls.accept(stream)) => greeted,
            _ = word.wait_for(|word| [Word::Go, Word::Close].contains(word)) => return,
        };
        match greeted {
            Ok(Ok(stream)) => converse(stream, answers, self.limits.head, buffer, word).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS with"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }
}

/// Serves HTTP over one connection.
async fn converse<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    answers: Answers,
    head: Duration,
    buffer: usize,
    mut word: watch::Receiver<Word>,
) {
    let mut asked = answers.asked.subscribe();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(buffer)
        .serve_connection(TokioIo::new(stream), answers);
    let mut connection = pin!(connection);
    let (mut is_leaving, mut is_told, mut is_deaf) = (false, false, false);
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            told = word.changed(), if !is_deaf => {
                is_deaf = told.is_err();
                is_leaving = true;
                match *word.borrow_and_update() {
                    Word::Go => return,
                    Word::Close if !*asked.borrow() => return,
                    _ => {}
                }
            }
            // Its first request may be in transit; hyper would close the connection before it arrives.
            () = first_request(&mut asked), if is_leaving && !is_told => {
                connection.as_mut().graceful_shutdown();
                is_told = true;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke");
    }
}

async fn first_request(asked: &mut watch::Receiver<bool>) {
    if asked.wait_for(|has_asked| *has_asked).await.is_err() {
        // There will be none: the connection is ending.
        std::future::pending::<()>().await;
    }
}

/// Returns the next connection. Ignores errors of one peer; waits after errors of this machine.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Hands the requests of one connection to the router.
#[derive(Debug, Clone)]
struct Answers {
    router: TowerToHyperService<Router>,
    peer: PeerAddress,
    unread: Unread,
    /// Whether there was any request yet.
    asked: watch::Sender<bool>,
    progress: PhaseCell,
}

impl hyper::service::Service<Request<Received>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as hyper::service::Service<Request<Body>>>::Future;

    fn call(&self, request: Request<Received>) -> Self::Future {
        self.progress.reach(Phase::Asked);
        self.asked.send_replace(true);
        let mut request = request.map(|body| Body::new(Incoming::new(body, self.unread.clone())));
        request.extensions_mut().insert(self.peer);
        hyper::service::Service::call(&self.router, request)
    }
}
