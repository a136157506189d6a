//! Connections: names, proxies, TLS, pools, and why connecting failed.

pub(super) mod connector;
pub(super) mod failure;
pub(super) mod first_bytes;
pub(super) mod pool;
pub(super) mod proxy;
pub(super) mod resolver;
pub(super) mod tls;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::Uri;
use http::header::HeaderValue;
use http::uri::Scheme;
use rustls::ClientConfig;
use url::Url;

use self::connector::{Connector, TcpConnector};
use self::pool::{Forwarded, Pool};
use self::proxy::{Proxies, Proxy, ProxyProtocol};
use self::tls::{ClientTls, Roots};
use super::address::{PlainHost, host_port, is_loopback};
use super::flow::link::Link;
use crate::error::{Error, Kind, Result};
use crate::sync::lock;

/// The connections of a run, to all hosts, and the rules for making them.
#[derive(Debug)]
pub(super) struct Connections {
    rules: ConnectionRules,
    tls: ClientTls,
    /// By scheme, host and port: each has its own TLS configuration and pool.
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    user_agent: HeaderValue,
    link: Arc<Link>,
}

/// Rules for connections; they come from [`ClientOptions`](super::ClientOptions).
#[derive(Debug)]
pub(super) struct ConnectionRules {
    pub(super) allow_plain_http: bool,
    pub(super) plain_http_hosts: Vec<PlainHost>,
    pub(super) proxies: Proxies,
    pub(super) bytes_per_second: Option<NonZeroU64>,
}

impl Connections {
    /// Prepares connections. Connects to nothing; reads no file but `ca_file`.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `ca_file`, a proxy or `user_agent` cannot be used.
    pub(super) fn new(
        rules: ConnectionRules,
        ca_file: Option<&Path>,
        cert_dir: Option<&Path>,
        user_agent: &str,
    ) -> Result<Self> {
        rules.proxies.check()?;
        let user_agent = HeaderValue::from_str(user_agent)
            .map_err(|why| Error::new(Kind::Usage, "call this program").on(user_agent).because(why))?;
        let (tls, link) = (ClientTls::new(ca_file, cert_dir)?, Link::new(rules.bytes_per_second));
        Ok(Self { rules, tls, pools: Mutex::default(), user_agent, link })
    }

    /// Returns whether plain HTTP is permitted for the host of `url`.
    pub(super) fn permits_plain_http(&self, url: &Url) -> bool {
        self.rules.allow_plain_http || self.is_named(url)
    }

    /// Returns whether plain HTTP is expected for the host of `url`: this machine itself, or a host that the operator
    /// named.
    pub(super) fn expects_plain_http(&self, url: &Url) -> bool {
        is_loopback(url) || self.is_named(url)
    }

    fn is_named(&self, url: &Url) -> bool {
        self.rules.plain_http_hosts.iter().any(|host| host.is(url))
    }

    /// Returns whether credentials may be sent to `url`: over TLS, or where plain HTTP is expected and the host has not
    /// spoken TLS.
    pub(super) fn may_log_in_at(&self, url: &Url) -> bool {
        let mut over_tls = url.clone();
        let is_https = over_tls.set_scheme("https").is_ok() && over_tls == *url;
        is_https || (self.expects_plain_http(url) && !self.has_spoken_tls(&over_tls))
    }

    /// Returns whether the host of `url`, an `https` address, has spoken TLS in this run, even as another host's token
    /// service.
    pub(super) fn has_spoken_tls(&self, url: &Url) -> bool {
        lock(&self.pools).get(&pool_key(url)).is_some_and(|pool| pool.has_spoken_tls())
    }

    pub(super) fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Returns the proxy for `url`; `None` for this machine itself.
    pub(super) fn proxy(&self, url: &Url) -> Option<&Proxy> {
        if is_loopback(url) { None } else { self.rules.proxies.on_the_way_to(url) }
    }

    /// Returns the `User-Agent` of all requests.
    pub(super) fn user_agent(&self) -> &HeaderValue {
        &self.user_agent
    }

    /// Returns the link that all connections share.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Returns the pool of connections to the scheme, host and port of `url`.
    pub(super) async fn pool(&self, url: &Url) -> Result<Arc<Pool>> {
        let key = pool_key(url);
        if let Some(found) = lock(&self.pools).get(&key) {
            return Ok(Arc::clone(found));
        }
        let pool = self.make_pool(url, &host_port(url)).await?;
        Ok(Arc::clone(lock(&self.pools).entry(key).or_insert(pool)))
    }

    async fn make_pool(&self, url: &Url, authority: &str) -> Result<Arc<Pool>> {
        let wrong = |why: http::Error| Error::new(Kind::Invalid, "connect to").on(authority).because(why);
        let host = HeaderValue::from_str(authority).map_err(|why| wrong(why.into()))?;
        let (tls, to) = (self.tls_for(url).await?, origin_uri(url).map_err(wrong)?);
        let tcp = TcpConnector::new(&self.link);
        let Some(proxy) = self.proxy(url) else { return Ok(Pool::new(Connector::direct(tcp, to, tls), host, None)) };
        let (proxy_tls, at) = (self.tls_for(proxy.url()).await?, origin_uri(proxy.url()).map_err(wrong)?);
        let forwarded = match url.scheme() {
            "http" if proxy.protocol() == ProxyProtocol::Http => Some(Forwarded {
                authority: authority.parse().map_err(|why: http::uri::InvalidUri| wrong(why.into()))?,
                login: proxy.authorization(),
            }),
            _ => None,
        };
        Ok(Pool::new(Connector::by_way_of(proxy, tcp, at, to, tls, proxy_tls), host, forwarded))
    }

    async fn tls_for(&self, url: &Url) -> Result<Arc<ClientConfig>> {
        let tls = &self.tls;
        let roots = if is_loopback(url) { Roots::AtNeed } else { Roots::Now };
        Ok(Arc::new(if url.scheme() == "https" { tls.config(&host_port(url), roots).await? } else { tls.unused()? }))
    }
}

fn pool_key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_port(url))
}

/// Returns scheme, host and port of `url`, always with the port.
fn origin_uri(url: &Url) -> Result<Uri, http::Error> {
    let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    // Only SOCKS proxies have no known default port.
    let port = url.port_or_known_default().unwrap_or(1080);
    let authority = format!("{}:{port}", url.host_str().unwrap_or_default());
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
}
