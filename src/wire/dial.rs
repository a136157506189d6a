//! Connections in the making: TCP, what lies on the way, TLS.
//!
//! A proxy is gone through in one of three ways: plain HTTP is handed to an HTTP proxy whole, TLS goes through a tunnel
//! that it is asked for (RFC 9110, section 9.3.6), and a SOCKS proxy is told where to connect to (RFC 1928).

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use rustls::ClientConfig;
use tower_service::Service;

use super::names::Names;
use super::proxy::{Manner, Proxy};

/// Longest time for a connection to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// Longest time that a peer may leave what it was sent unacknowledged, or its window shut, before TCP gives it up: a slow
/// disk behind a registry can take half a minute.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// How often a silent peer is asked whether it is there, and how often in vain before it is given up.
const PROBE: (Duration, u32) = (Duration::from_secs(15), 3);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What bytes are sent and received over.
pub(super) trait Io: Read + Write + Send {}

impl<T: Read + Write + Send> Io for T {}

/// Makes connections to one host and port.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    way: Way,
    /// Where to: the host, or a proxy that is handed whole requests.
    to: Uri,
}

type Plain = HttpConnector<Names>;

#[derive(Debug, Clone)]
enum Way {
    Direct(HttpsConnector<Plain>),
    Tunnel(HttpsConnector<Tunnel<HttpsConnector<Plain>>>),
    Socks5(HttpsConnector<SocksV5<Plain>>),
    Socks4(HttpsConnector<SocksV4<Plain>>),
}

impl Dialler {
    /// Goes to `to` itself.
    pub(super) fn direct(to: Uri, tls: Arc<ClientConfig>) -> Self {
        Self { way: Way::Direct((plain(), tls).into()), to }
    }

    /// Goes to `to` by way of `proxy`, which is itself spoken to with `proxy_tls` where its address says so.
    pub(super) fn by_way_of(
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
                Way::Tunnel((tunnel, tls).into())
            }
            Manner::Socks5 { names_here } => {
                let mut socks = SocksV5::new(at, plain()).local_dns(names_here);
                if let Some((name, password)) = proxy.login() {
                    socks = socks.with_auth(name, password);
                }
                Way::Socks5((socks, tls).into())
            }
            Manner::Socks4 { names_here } => Way::Socks4((SocksV4::new(at, plain()).local_dns(names_here), tls).into()),
        };
        Self { way, to }
    }

    /// Makes a connection.
    pub(super) async fn dial(&self) -> Result<Box<dyn Io + Unpin>, BoxError> {
        let to = self.to.clone();
        let dial = async {
            Ok::<Box<dyn Io + Unpin>, BoxError>(match self.way.clone() {
                Way::Direct(mut way) => Box::new(way.call(to).await?),
                Way::Tunnel(mut way) => Box::new(way.call(to).await?),
                Way::Socks5(mut way) => Box::new(way.call(to).await?),
                Way::Socks4(mut way) => Box::new(way.call(to).await?),
            })
        };
        tokio::time::timeout(CONNECT, dial)
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
    }
}

fn plain() -> Plain {
    let mut plain = HttpConnector::new_with_resolver(Names::default());
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
