//! Connections in the making: TCP, what lies on the way, TLS.
//!
//! A host that is thought to speak TLS is greeted in it, and may show that it does not: what it answers to the hello is
//! told apart from every other failure.
//!
//! A proxy is gone through in one of three ways: plain HTTP is handed to an HTTP proxy whole, TLS goes through a tunnel
//! that it is asked for (RFC 9110, section 9.3.6), and a SOCKS proxy is told where to connect to (RFC 1928).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::first_bytes::{Heard, Overheard};
use super::proxy::{Manner, Proxy};
use super::resolver::Resolver;

/// Longest time for a connection to be made.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// Longest time that a peer may leave what it was sent unacknowledged, or its window shut, before TCP gives it up: a slow
/// disk behind a registry can take half a minute.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// How often a silent peer is asked whether it is there, and how often in vain before it is given up.
const PROBE: (Duration, u32) = (Duration::from_secs(15), 3);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What bytes are sent and received over.
pub(crate) trait Io: Read + Write + Send {}

impl<T: Read + Write + Send> Io for T {}

/// A TLS hello that was answered otherwise than in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTls {
    /// In plain HTTP.
    PlainHttp,
    /// By an end of the connection.
    Closed,
    /// Not at all, for so long.
    Silence(Duration),
}

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => f.write_str("the registry speaks plain HTTP where TLS was expected"),
            Self::Closed => f.write_str("no TLS connection: it is closed in answer to the hello"),
            Self::Silence(limit) => write!(f, "no TLS connection: no answer to the hello for {} s", limit.as_secs()),
        }
    }
}

impl std::error::Error for NoTls {}

/// Makes connections to one host and port.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    way: Way,
    /// Where to: the host, or a proxy that is handed whole requests.
    to: Uri,
    /// How TLS is spoken at the end of the way, if it is.
    tls: Option<Arc<ClientConfig>>,
    /// Whether anything in TLS was ever heard from there.
    has_spoken_tls: Arc<AtomicBool>,
}

type TcpConnector = HttpConnector<Resolver>;

#[derive(Debug, Clone)]
enum Way {
    Direct(TcpConnector),
    Tunnel(Tunnel<HttpsConnector<TcpConnector>>),
    Socks5(SocksV5<TcpConnector>),
    Socks4(SocksV4<TcpConnector>),
}

impl Connector {
    /// Goes to `to` itself.
    pub(crate) fn direct(to: Uri, tls: Arc<ClientConfig>) -> Self {
        Self::over(Way::Direct(plain()), to, tls)
    }

    /// Goes to `to` by way of `proxy`, which is itself spoken to with `proxy_tls` where its address says so.
    pub(crate) fn by_way_of(
        proxy: &Proxy,
        at: Uri,
        to: Uri,
        tls: Arc<ClientConfig>,
        proxy_tls: Arc<ClientConfig>,
    ) -> Self {
        let way = match proxy.manner() {
            // Whole requests: there is no way on from the proxy's door.
            Manner::Http if to.scheme_str() == Some("http") => return Self::direct(at, proxy_tls),
            Manner::Http => {
                let mut tunnel = Tunnel::new(at, HttpsConnector::from((plain(), proxy_tls)));
                if let Some(login) = proxy.authorization() {
                    tunnel = tunnel.with_auth(login);
                }
                Way::Tunnel(tunnel)
            }
            Manner::Socks5 { names_here } => {
                let mut socks = SocksV5::new(at, plain()).local_dns(names_here);
                if let Some((name, password)) = proxy.login() {
                    socks = socks.with_auth(name, password);
                }
                Way::Socks5(socks)
            }
            Manner::Socks4 { names_here } => Way::Socks4(SocksV4::new(at, plain()).local_dns(names_here)),
        };
        Self::over(way, to, tls)
    }

    fn over(way: Way, to: Uri, tls: Arc<ClientConfig>) -> Self {
        let tls = (to.scheme_str() == Some("https")).then_some(tls);
        Self { way, to, tls, has_spoken_tls: Arc::default() }
    }

    /// Whether the other end was ever heard to speak TLS, be it to refuse.
    pub(crate) fn has_spoken_tls(&self) -> bool {
        self.has_spoken_tls.load(Ordering::Acquire)
    }

    /// Makes a connection. A TLS hello to which nothing at all is heard for as long as `silence` has failed.
    pub(crate) async fn dial(&self, silence: Duration) -> Result<Box<dyn Io + Unpin>, BoxError> {
        let to = self.to.clone();
        let dial = async {
            match self.way.clone() {
                Way::Direct(mut way) => self.greet(way.call(to).await?, silence).await,
                Way::Tunnel(mut way) => self.greet(way.call(to).await?, silence).await,
                Way::Socks5(mut way) => self.greet(way.call(to).await?, silence).await,
                Way::Socks4(mut way) => self.greet(way.call(to).await?, silence).await,
            }
        };
        tokio::time::timeout(CONNECT, dial)
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
    }

    /// Begins to speak TLS over a connection that stands, where that is what is spoken.
    async fn greet<T: Io + Unpin + 'static>(
        &self,
        connection: T,
        silence: Duration,
    ) -> Result<Box<dyn Io + Unpin>, BoxError> {
        let Some(tls) = &self.tls else { return Ok(Box::new(connection)) };
        let host = self.to.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']'))?.to_owned();
        let (connection, heard) = Overheard::new(TokioIo::new(connection));
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

/// How a hello failed, if it was not for anything that was said in TLS.
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

fn plain() -> TcpConnector {
    let mut plain = HttpConnector::new_with_resolver(Resolver::default());
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(Some(CONNECT));
    plain.set_keepalive(Some(PROBE.0));
    plain.set_keepalive_interval(Some(PROBE.0));
    plain.set_keepalive_retries(Some(PROBE.1));
    #[cfg(target_os = "linux")]
    plain.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    plain
}
