//! Makes connections: TCP, the proxy on the way, TLS.
//!
//! A host that should speak TLS gets a TLS hello first. A reply that is not TLS is reported separately from all other
//! failures.
//!
//! There are three ways through a proxy: an HTTP proxy gets plain-HTTP requests whole and opens a tunnel for TLS (RFC
//! 9110, section 9.3.6), and a SOCKS proxy gets the address to connect to (RFC 1928).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::first_bytes::Heard;
use super::proxy::{Proxy, ProxyProtocol};
use super::resolver::Resolver;
use crate::wire::flow::link::{Link, Linked};

/// Longest time to make a connection.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// Longest time that a peer may leave sent data or keep-alive probes unacknowledged, or its window closed, before TCP
/// closes the connection. A peer that works on a large upload acknowledges probes, so it is not taken for a dead one.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Keep-alive: the interval between probes of a silent peer, and how many may fail before the connection is closed.
const PROBE: (Duration, u32) = (Duration::from_secs(10), 2);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of bytes in both directions.
pub(crate) trait Io: Read + Write + Send {}

impl<T: Read + Write + Send> Io for T {}

/// A reply to a TLS hello that is not TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTls {
    /// Plain HTTP.
    #[error("the registry speaks plain HTTP where TLS was expected")]
    PlainHttp,
    /// The peer closed the connection.
    #[error("no TLS connection: it is closed in answer to the hello")]
    Closed,
    /// Silence for this long.
    #[error("no TLS connection: no answer to the hello for {} s", .0.as_secs())]
    Silence(Duration),
}

/// Makes connections to one host and port.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    way: Way,
    /// The target: the host, or a proxy that gets whole requests.
    to: Uri,
    /// The TLS configuration for the target, if it speaks TLS.
    tls: Option<Arc<ClientConfig>>,
    /// Whether the target ever sent any TLS.
    has_spoken_tls: Arc<AtomicBool>,
}

/// Makes TCP connections over the client's link.
#[derive(Debug, Clone)]
pub(crate) struct TcpConnector {
    tcp: HttpConnector<Resolver>,
    link: Arc<Link>,
}

impl TcpConnector {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(PROBE.0));
        tcp.set_keepalive_interval(Some(PROBE.0));
        tcp.set_keepalive_retries(Some(PROBE.1));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self { tcp, link: Arc::clone(link) }
    }
}

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<Linked<TcpStream>>;
    type Error = <HttpConnector<Resolver> as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, link) = (self.tcp.call(to), Arc::clone(&self.link));
        Box::pin(async move { Ok(TokioIo::new(Linked::new(connecting.await?.into_inner(), &link))) })
    }
}

#[derive(Debug, Clone)]
enum Way {
    Direct(TcpConnector),
    Tunnel(Tunnel<HttpsConnector<TcpConnector>>),
    Socks5(SocksV5<TcpConnector>),
    Socks4(SocksV4<TcpConnector>),
}

impl Connector {
    /// Connects to `to` directly.
    pub(crate) fn direct(tcp: TcpConnector, to: Uri, tls: Arc<ClientConfig>) -> Self {
        Self::over(Way::Direct(tcp), to, tls)
    }

    /// Connects to `to` through `proxy`; uses `proxy_tls` for the proxy itself if its address says so.
    pub(crate) fn by_way_of(
        proxy: &Proxy,
        tcp: TcpConnector,
        at: Uri,
        to: Uri,
        tls: Arc<ClientConfig>,
        proxy_tls: Arc<ClientConfig>,
    ) -> Self {
        let way = match proxy.protocol() {
            // Whole requests: no connection goes further than the proxy.
            ProxyProtocol::Http if to.scheme_str() == Some("http") => return Self::direct(tcp, at, proxy_tls),
            ProxyProtocol::Http => {
                let mut tunnel = Tunnel::new(at, HttpsConnector::from((tcp, proxy_tls)));
                if let Some(login) = proxy.authorization() {
                    tunnel = tunnel.with_auth(login);
                }
                Way::Tunnel(tunnel)
            }
            ProxyProtocol::Socks5 { names_here } => {
                let mut socks = SocksV5::new(at, tcp).local_dns(names_here);
                if let Some((name, password)) = proxy.login() {
                    socks = socks.with_auth(name, password);
                }
                Way::Socks5(socks)
            }
            ProxyProtocol::Socks4 { names_here } => Way::Socks4(SocksV4::new(at, tcp).local_dns(names_here)),
        };
        Self::over(way, to, tls)
    }

    fn over(way: Way, to: Uri, tls: Arc<ClientConfig>) -> Self {
        let tls = (to.scheme_str() == Some("https")).then_some(tls);
        Self { way, to, tls, has_spoken_tls: Arc::default() }
    }

    /// Returns whether the target ever sent any TLS, even a refusal.
    pub(crate) fn has_spoken_tls(&self) -> bool {
        self.has_spoken_tls.load(Ordering::Acquire)
    }

    /// Makes a connection. A TLS hello without any reply within `silence` fails.
    pub(crate) async fn dial(&self, silence: Duration) -> Result<Box<dyn Io + Unpin>, BoxError> {
        let to = self.to.clone();
        let dial = async {
            // Boxed before TLS, so that the program holds one copy of TLS for all ways.
            let connection: Box<dyn Io + Unpin> = match self.way.clone() {
                Way::Direct(mut way) => Box::new(way.call(to).await?),
                Way::Tunnel(mut way) => Box::new(way.call(to).await?),
                Way::Socks5(mut way) => Box::new(way.call(to).await?),
                Way::Socks4(mut way) => Box::new(way.call(to).await?),
            };
            self.greet(connection, silence).await
        };
        tokio::time::timeout(CONNECT, dial)
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
    }

    /// Starts TLS on a new connection, if the target speaks TLS.
    async fn greet(&self, connection: Box<dyn Io + Unpin>, silence: Duration) -> Result<Box<dyn Io + Unpin>, BoxError> {
        let Some(tls) = &self.tls else { return Ok(connection) };
        let host = self.to.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']'))?.to_owned();
        let (connection, heard) = Heard::record(TokioIo::new(connection));
        let hello = TlsConnector::from(Arc::clone(tls)).connect(name, connection);
        tokio::pin!(hello);
        let answered = match tokio::time::timeout(silence, &mut hello).await {
            Ok(answered) => answered,
            Err(_) if heard.is_nothing() => return Err(NoTls::Silence(silence).into()),
            Err(_) => hello.await,
        };
        if heard.is_tls() {
            self.has_spoken_tls.store(true, Ordering::Release);
        }
        match answered {
            Ok(stream) => Ok(Box::new(TokioIo::new(stream))),
            Err(why) => Err(no_tls(&why, &heard).map_or_else(|| why.into(), Into::into)),
        }
    }
}

/// Returns how a hello failed, or `None` if the peer failed it in TLS.
fn no_tls(why: &io::Error, heard: &Heard) -> Option<NoTls> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_end = matches!(why.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    if heard.is_http() {
        Some(NoTls::PlainHttp)
    } else if heard.is_nothing() && is_end {
        Some(NoTls::Closed)
    } else {
        None
    }
}
