//! Connections to one host: one request on each at a time; reuses the one used last, makes a new one if none is free.
//!
//! A connection is free again once its answer has been read and its request sent, both to the end. If the host has
//! closed it meanwhile, a request of which nothing was sent goes to another connection (RFC 9112, section 9.3.1). The
//! caller retries a request that may have been sent.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, StatusCode, Uri};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use tokio::time::Instant;

use super::connector::{BoxError, CONNECT, Connector};
use crate::error::find_cause;
use crate::sync::lock;
use crate::wire::flow::request_body::RequestBody;

/// Most bytes that a connection buffers in each direction. Larger buffers would take more at once, in larger steps:
/// that would matter at 100 Gbit/s.
const BUFFER: usize = 256 << 10;

/// The same for each connection beyond [`FEW`]: so many are only for small content from far away, and large buffers
/// would take tens of megabytes together.
const SMALL_BUFFER: usize = 32 << 10;

/// Number of connections that may have large buffers: twice the number of lanes for large blobs.
const FEW: usize = 8;

/// Longest time that a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(90);

/// The connections to one host.
#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    host: HeaderValue,
    /// Set if a proxy gets whole requests: their authority, and the proxy's login.
    forwarded: Option<Forwarded>,
    idle: Mutex<Vec<Idle>>,
    /// Number of connections, free or not, including those being made.
    count: Arc<AtomicUsize>,
}

/// How to address requests that a proxy forwards: all requests in plain HTTP.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) authority: Authority,
    pub(crate) login: Option<HeaderValue>,
}

#[derive(Debug)]
struct Idle {
    connection: SendRequest<RequestBody>,
    since: Instant,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", if *.is_connect { "connect" } else { "exchange" })]
pub(crate) struct BrokenExchange {
    /// Whether no connection was made at all.
    pub(crate) is_connect: bool,
    #[source]
    cause: BoxError,
}

impl BrokenExchange {
    /// Returns whether the connection is missing or broke, and not that the peer sent something that is not HTTP.
    pub(crate) fn is_break(&self) -> bool {
        let http = find_cause::<hyper::Error>(self);
        let io = find_cause::<io::Error>(self).map(io::Error::kind);
        !http.is_some_and(hyper::Error::is_parse)
            && !matches!(io, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
    }
}

impl Pool {
    /// Creates an empty pool; does not connect yet.
    pub(crate) fn new(connector: Connector, host: HeaderValue, forwarded: Option<Forwarded>) -> Arc<Self> {
        Arc::new(Self { connector, host, forwarded, idle: Mutex::default(), count: Arc::default() })
    }

    /// Sends a request, and waits for the head of its answer.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        path: PathAndQuery,
    ) -> Result<Arriving, BrokenExchange> {
        self.address(&mut request, path)?;
        let is_sent = request.body().is_sent();
        loop {
            let (mut connection, is_new) = match self.take() {
                Some(connection) => (connection, false),
                None => (self.open().await.map_err(|cause| BrokenExchange { is_connect: true, cause })?, true),
            };
            if connection.ready().await.is_err() && !is_new {
                continue;
            }
            let begun = Instant::now();
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { pool: Arc::clone(self), connection, is_sent };
                    return Ok(Arriving::new(response, begun.elapsed(), lease));
                }
                Err(mut why) => match why.take_message() {
                    Some(back) if !is_new => request = back,
                    _ => return Err(BrokenExchange { is_connect: false, cause: why.into_error().into() }),
                },
            }
        }
    }

    fn address(&self, request: &mut Request<RequestBody>, path: PathAndQuery) -> Result<(), BrokenExchange> {
        request.headers_mut().insert(HOST, self.host.clone());
        *request.uri_mut() = match &self.forwarded {
            None => Uri::from(path),
            Some(Forwarded { authority, login }) => {
                if let Some(login) = login {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
                }
                let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority.clone()).path_and_query(path);
                uri.build().map_err(|why| BrokenExchange { is_connect: false, cause: why.into() })?
            }
        };
        Ok(())
    }

    /// Returns the free connection that was used last.
    fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = lock(&self.idle);
        while let Some(Idle { connection, since }) = idle.pop() {
            if since.elapsed() > IDLE {
                // All others have been idle for longer.
                idle.clear();
                break;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes all free connections.
    pub(crate) fn forget(&self) {
        lock(&self.idle).clear();
    }

    fn give_back(&self, connection: SendRequest<RequestBody>) {
        if !connection.is_closed() {
            let mut idle = lock(&self.idle);
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Makes the first connection and keeps it for the next request. Fails as that request would, and also if a TLS
    /// hello gets no reply within `silence`.
    pub(crate) async fn greet(&self, silence: Duration) -> Result<(), BrokenExchange> {
        if let Some(free) = self.take() {
            self.give_back(free);
            return Ok(());
        }
        let made = self.make(Counted::new(&self.count), silence).await;
        self.give_back(made.map_err(|cause| BrokenExchange { is_connect: true, cause })?);
        Ok(())
    }

    /// Returns whether the host has ever spoken TLS.
    pub(crate) fn has_spoken_tls(&self) -> bool {
        self.connector.has_spoken_tls()
    }

    /// Makes connections until there are `count`, ready for requests that follow soon.
    pub(crate) fn expect(self: &Arc<Self>, count: usize) {
        for _ in self.count.load(Ordering::Acquire)..count {
            let (pool, counted) = (Arc::clone(self), Counted::new(&self.count));
            tokio::spawn(async move {
                match pool.make(counted, CONNECT).await {
                    Ok(connection) => pool.give_back(connection),
                    // The request that needs a connection gets the error.
                    Err(why) => tracing::trace!(why, "no connection ahead of time"),
                }
            });
        }
    }

    async fn open(&self) -> Result<SendRequest<RequestBody>, BoxError> {
        self.make(Counted::new(&self.count), CONNECT).await
    }

    async fn make(&self, counted: Counted, silence: Duration) -> Result<SendRequest<RequestBody>, BoxError> {
        let io = self.connector.dial(silence).await?;
        let buffer = if self.count.load(Ordering::Acquire) <= FEW { BUFFER } else { SMALL_BUFFER };
        let (connection, work) = Builder::new().max_buf_size(buffer).handshake(io).await?;
        tokio::spawn(async move {
            if let Err(why) = work.await {
                tracing::trace!(%why, "connection ended");
            }
            drop(counted);
        });
        Ok(connection)
    }
}

/// Counts a connection in its pool, from the start of connecting until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection in use. If it is dropped early, the connection is closed.
#[derive(Debug)]
struct Lease {
    pool: Arc<Pool>,
    connection: SendRequest<RequestBody>,
    is_sent: Arc<AtomicBool>,
}

impl Lease {
    fn end(self) {
        // A host that answered before it received everything may never read the rest.
        if self.is_sent.load(Ordering::Acquire) {
            self.pool.give_back(self.connection);
        }
    }
}

/// An answer whose body has not been read yet.
pub(crate) struct Arriving {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Time until its head arrived, on an existing connection: making a connection does not count.
    pub(crate) took: Duration,
    body: ResponseBody,
}

enum ResponseBody {
    /// Received over a connection, and that connection's lease.
    Received(Incoming, Option<Lease>),
    #[cfg(test)]
    Made(Mutex<crate::stream::ByteStream>),
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arriving({})", self.status)
    }
}

impl Arriving {
    fn new(response: http::Response<Incoming>, took: Duration, lease: Lease) -> Self {
        let (head, body) = response.into_parts();
        let body = ResponseBody::Received(body, Some(lease));
        let mut arriving = Self { status: head.status, headers: head.headers, took, body };
        arriving.settle(false);
        arriving
    }

    /// Builds an answer without a host.
    #[cfg(test)]
    pub(crate) fn made(status: StatusCode, body: crate::stream::ByteStream) -> Self {
        Self { status, headers: HeaderMap::new(), took: Duration::ZERO, body: ResponseBody::Made(Mutex::new(body)) }
    }

    /// Returns the next piece of the body.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, BrokenExchange> {
        loop {
            let next = match &mut self.body {
                ResponseBody::Received(body, _) => poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await,
                #[cfg(test)]
                ResponseBody::Made(stream) => {
                    use futures_util::StreamExt as _;
                    let stream = stream.get_mut().expect("no test breaks off inside");
                    stream.next().await.map(|piece| Ok(Frame::data(piece.expect("no test makes a body fail"))))
                }
            };
            let next = next.transpose().map_err(|why| BrokenExchange { is_connect: false, cause: why.into() })?;
            self.settle(next.is_none());
            match next.map(Frame::into_data) {
                Some(Ok(piece)) => return Ok(Some(piece)),
                // Trailers.
                Some(Err(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Returns the connection to the pool once nothing more can arrive: a body of known length ends with its last
    /// piece, a chunked one only when it `has_ended`.
    fn settle(&mut self, has_ended: bool) {
        if let ResponseBody::Received(body, lease) = &mut self.body
            && (has_ended || body.is_end_stream())
        {
            lease.take().into_iter().for_each(Lease::end);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::wire::connect::connector::TcpConnector;
    use crate::wire::connect::proxy::Proxies;
    use crate::wire::flow::link::Link;
    use crate::wire::flow::upload_watch::UploadWatch;

    /// Starts a host that reads a head and sends `answer`, `times` on each connection, and counts connections.
    async fn host(answer: &'static str, times: usize) -> (Arc<Pool>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    for _ in 0..times {
                        read_head(&mut connection).await;
                        connection.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (pool_at(&authority), count)
    }

    fn pool_at(authority: &str) -> Arc<Pool> {
        let to = format!("http://{authority}/").parse().unwrap();
        Pool::new(Connector::direct(tcp(), to, no_tls()), HeaderValue::from_str(authority).unwrap(), None)
    }

    fn tcp() -> TcpConnector {
        TcpConnector::new(&Link::new(None))
    }

    fn no_tls() -> Arc<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
    }

    async fn read_head(connection: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                // The client is gone.
                Err(_) => return,
            }
        }
    }

    async fn ask(pool: &Arc<Pool>, body: RequestBody) -> Result<Arriving, BrokenExchange> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        pool.send(request, PathAndQuery::from_static("/v2/")).await
    }

    async fn read(mut answer: Arriving) -> usize {
        let mut length = 0;
        while let Some(piece) = answer.piece().await.unwrap() {
            length += piece.len();
        }
        length
    }

    #[tokio::test]
    async fn one_connection_serves_whoever_comes_after_the_other() {
        let (pool, connections) = host("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 9).await;
        for _ in 0..5 {
            assert_eq!(read(ask(&pool, RequestBody::nothing()).await.unwrap()).await, 2);
        }
        assert_eq!(connections.load(Ordering::Acquire), 1);
        let both = tokio::join!(ask(&pool, RequestBody::nothing()), ask(&pool, RequestBody::nothing()));
        assert!(both.0.is_ok() && both.1.is_ok());
        assert_eq!(connections.load(Ordering::Acquire), 2);
    }

    #[tokio::test]
    async fn who_is_expected_finds_connections_made_and_no_more_than_that() {
        let (pool, connections) = host("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 9).await;
        for count in [2, 3, 1] {
            pool.expect(count);
            while lock(&pool.idle).len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let held =
            [ask(&pool, RequestBody::nothing()).await.unwrap(), ask(&pool, RequestBody::nothing()).await.unwrap()];
        // Connections in use count as well.
        pool.expect(3);
        ask(&pool, RequestBody::nothing()).await.unwrap();
        assert_eq!(connections.load(Ordering::Acquire), 3);
        assert_eq!(pool.count.load(Ordering::Acquire), 3);
        // Closed connections do not count: these two are not kept, nor is the third once the pool is dropped.
        drop(held);
        let count = Arc::clone(&pool.count);
        drop(pool);
        while count.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_a_connection_took_to_be_made_is_no_part_of_an_answers_time() {
        // A proxy that takes its time to accept a connection, and then answers itself.
        const SLOW: Duration = Duration::from_secs(5);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_exact(&mut [0; 9]).await.unwrap();
            tokio::time::sleep(SLOW).await;
            connection.write_all(&[0, 0x5a, 0, 0, 0, 0, 0, 0]).await.unwrap();
            read_head(&mut connection).await;
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        });
        let proxies = Proxies::of(|name| (name == "ALL_PROXY").then(|| format!("socks4://{at}")));
        let proxy = proxies.on_the_way_to(&"http://192.0.2.1/".parse().unwrap()).unwrap();
        let (door, to) = (format!("http://{at}/"), Uri::from_static("http://192.0.2.1/"));
        let connector = Connector::by_way_of(proxy, tcp(), door.parse().unwrap(), to, no_tls(), no_tls());
        let pool = Pool::new(connector, HeaderValue::from_static("192.0.2.1"), None);
        let begun = Instant::now();
        let answer = ask(&pool, RequestBody::nothing()).await.unwrap();
        assert!(begun.elapsed() >= SLOW && answer.took < SLOW, "{:?}, {:?}", begun.elapsed(), answer.took);
    }

    #[tokio::test]
    async fn an_answer_in_chunks_frees_its_connection_at_its_end() {
        let (pool, connections) =
            host("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 9).await;
        for _ in 0..3 {
            assert_eq!(read(ask(&pool, RequestBody::nothing()).await.unwrap()).await, 2);
        }
        assert_eq!(connections.load(Ordering::Acquire), 1);
    }

    #[tokio::test]
    async fn an_answer_without_a_body_frees_its_connection_at_once() {
        let (pool, connections) = host("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 9).await;
        let held = ask(&pool, RequestBody::nothing()).await.unwrap();
        ask(&pool, RequestBody::bytes(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!((held.status, connections.load(Ordering::Acquire)), (StatusCode::CREATED, 1));
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_costs_another_and_no_failure() {
        let (pool, connections) = host("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 1).await;
        for round in 1..4 {
            assert_eq!(read(ask(&pool, RequestBody::nothing()).await.unwrap()).await, 2);
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(connections.load(Ordering::Acquire), round);
        }
    }

    #[tokio::test]
    async fn what_was_not_read_or_not_sent_to_the_end_is_not_used_again() {
        let (pool, connections) = host("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", 9).await;
        drop(ask(&pool, RequestBody::nothing()).await.unwrap());
        ask(&pool, RequestBody::nothing()).await.unwrap();
        assert_eq!(connections.load(Ordering::Acquire), 2, "the rest of an answer was to come");

        let (pool, connections) = host("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 9).await;
        let (endless, _) = UploadWatch::watch(Box::pin(stream::pending()), &Arc::default(), CONNECT);
        ask(&pool, RequestBody::stream(9, endless)).await.unwrap();
        ask(&pool, RequestBody::nothing()).await.unwrap();
        assert_eq!(connections.load(Ordering::Acquire), 2, "the rest of a request was to go");
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_somebody_who_hangs_up() {
        let (pool, _) = host("", 1).await;
        assert!(!ask(&pool, RequestBody::nothing()).await.unwrap_err().is_connect);
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(ask(&pool_at(&gone.to_string()), RequestBody::nothing()).await.unwrap_err().is_connect);
    }
}
