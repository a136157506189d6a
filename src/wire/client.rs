//! The client of a run: connections, TLS, logins and what is known of each host, shared by everybody.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use http::header::HeaderValue;
use http::uri::Scheme;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use url::Url;

use super::auth::keychain::{Account, Environment, Keychain};
use super::connect::connector::Dialler;
use super::connect::plain_http::PlainHost;
use super::connect::pool::{Forwarded, Pool};
use super::connect::proxy::{Manner, Proxies, Proxy};
use super::connect::tls::{Roots, Tls};
use super::flow::stats::Tally;
use super::host::{Host, Peer};
use super::retry::Retry;
use crate::error::{Error, Kind, Result};

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether plain HTTP is permitted at every host that speaks it, without credentials but for this machine itself.
    /// Never excuses a certificate that does not verify. Default no.
    pub allow_plain_http: bool,
    /// Hosts where it is permitted, with credentials. Default none.
    pub plain_http_hosts: Vec<PlainHost>,
    /// A file of credentials to look into before all others. Must be readable. Default none.
    pub authfile: Option<PathBuf>,
    /// Where else credentials may lie: what the process environment says. Default nowhere, so that nothing is read that
    /// the caller did not name; a program passes [`Environment::of_process`].
    pub environment: Environment,
    /// Longest time that a credential helper may take; it may have to ask a person or a cloud. One that does not answer
    /// is not asked again in this run. Default 30 s.
    pub helper_limit: Duration,
    /// Proxies to go through. Default none; a program passes [`Proxies::of_process`].
    pub proxies: Proxies,
    /// Certificates (PEM) of authorities to trust beside the system's. Default none.
    pub ca_file: Option<PathBuf>,
    /// A folder in the layout of `certs.d`, looked into before the system's. Default none.
    pub cert_dir: Option<PathBuf>,
    /// How failures in passing are met. Default [`Retry::default`].
    pub retry: Retry,
    /// What this program calls itself. Default name and version of the package.
    pub user_agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_plain_http: false,
            plain_http_hosts: Vec::new(),
            authfile: None,
            environment: Environment::default(),
            helper_limit: Duration::from_secs(30),
            proxies: Proxies::default(),
            ca_file: None,
            cert_dir: None,
            retry: Retry::default(),
            user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The client of a run. Clones are one client.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    tls: Tls,
    keychain: Keychain,
    /// By scheme, host and port: TLS set-up and pool belong to one of each.
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    user_agent: HeaderValue,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    leftovers: Mutex<JoinSet<()>>,
}

impl Client {
    /// Prepares a client. Nothing is contacted, and of all files only `ca_file` is read.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `ca_file`, a proxy or the name of the program cannot be used.
    pub fn new(options: Options) -> Result<Self> {
        let keychain = Keychain::new(options.authfile.clone(), &options.environment, options.helper_limit);
        Self::with(options, keychain)
    }

    /// A client that logs in with one account and looks for no other.
    pub(super) fn with_account(options: Options, account: Account) -> Result<Self> {
        Self::with(options, Keychain::of(account))
    }

    fn with(options: Options, keychain: Keychain) -> Result<Self> {
        options.proxies.check()?;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|why| Error::new(Kind::Usage, "call this program").on(&options.user_agent).because(why))?;
        let inner = Inner {
            tls: Tls::new(options.ca_file.as_deref(), options.cert_dir.as_deref())?,
            keychain,
            user_agent,
            options,
            pools: Mutex::default(),
            peers: Mutex::default(),
            leftovers: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads the files of credentials that were named: one that is missing or wrong is better told before anything else.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for a file that cannot be used.
    pub async fn check_credentials(&self) -> Result<()> {
        self.inner.keychain.check().await
    }

    /// Whether `account`, or the identity token that stands for it, is what would be shown to `host`; else where
    /// something else comes from.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for a file that cannot be used.
    pub async fn finds(&self, host: &str, account: &Account, identity: Option<&str>) -> Result<Option<String>> {
        let found = self.inner.keychain.find(host, "", None).await?;
        Ok(if found.is(account, identity) { None } else { Some(found.told()) })
    }

    /// Where the credentials for `host` come from, if there are any.
    ///
    /// # Errors
    ///
    /// As [`finds`](Self::finds).
    pub async fn has_login(&self, host: &str) -> Result<Option<String>> {
        let found = self.inner.keychain.find(host, "", None).await?;
        Ok(found.credentials.is_some().then(|| found.told()))
    }

    /// The host `name[:port]`, spoken to on behalf of the repository `path`, whose credentials are used.
    ///
    /// Each call gives a handle that counts its own requests; what is known of the host is shared.
    #[must_use]
    pub fn host(&self, name: &str, path: &str) -> Host {
        let peer = Arc::clone(lock(&self.inner.peers).entry(name.to_owned()).or_insert_with(|| Peer::new(name)));
        Host::new(self.clone(), peer, path)
    }

    /// What was sent and received, by host.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<String, Tally> {
        lock(&self.inner.peers).iter().map(|(name, peer)| (name.clone(), peer.tally())).collect()
    }

    /// How far away the host that is farthest is, of those that have answered.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        lock(&self.inner.peers).values().filter_map(|peer| peer.tally().fastest).max()
    }

    /// Has `work` done beside everything else: tidying up at a peer that nobody has to wait for.
    pub fn tidy(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Outside a runtime there is nobody to do it: the peer's own expiry will have to.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut leftovers = lock(&self.inner.leftovers);
        while leftovers.try_join_next().is_some() {}
        leftovers.spawn_on(work, &runtime);
    }

    /// Waits, at most for `limit`, until everything given to [`tidy`](Self::tidy) is done. Called before a program ends.
    pub async fn settle(&self, limit: Duration) {
        let all = async {
            loop {
                let mut leftovers = std::mem::take(&mut *lock(&self.inner.leftovers));
                if leftovers.is_empty() {
                    return;
                }
                // What ends may leave more to tidy up: an upload that was opened for nobody has to be cancelled.
                while leftovers.join_next().await.is_some() {}
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// How failures in passing are met.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.inner.options.retry
    }

    /// Whether the host of `url` may be spoken to in plain HTTP.
    pub(super) fn permits_plain_http(&self, url: &Url) -> bool {
        self.inner.options.allow_plain_http || self.is_named(url)
    }

    /// Whether plain HTTP is meant at the host of `url`: it is this machine itself, or was named.
    pub(super) fn expects_plain_http(&self, url: &Url) -> bool {
        is_loopback(url) || self.is_named(url)
    }

    fn is_named(&self, url: &Url) -> bool {
        self.inner.options.plain_http_hosts.iter().any(|host| host.is(url))
    }

    /// Whether credentials may be sent to `url`: over TLS, or where plain HTTP is meant and the host has not spoken TLS.
    pub(super) fn may_log_in_at(&self, url: &Url) -> bool {
        let mut over_tls = url.clone();
        let is_https = over_tls.set_scheme("https").is_ok() && over_tls == *url;
        is_https || (self.expects_plain_http(url) && !self.has_spoken_tls(&over_tls))
    }

    /// Whether the host of `url`, which is an address with TLS, was heard to speak it in this run, be it as another's
    /// token service.
    pub(super) fn has_spoken_tls(&self, url: &Url) -> bool {
        lock(&self.inner.pools).get(&pool_key(url)).is_some_and(|pool| pool.has_spoken_tls())
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.inner.tls
    }

    pub(super) fn keychain(&self) -> &Keychain {
        &self.inner.keychain
    }

    /// The proxy on the way to `url`. There is none on the way to this machine itself.
    pub(super) fn proxy(&self, url: &Url) -> Option<&Proxy> {
        if is_loopback(url) { None } else { self.inner.options.proxies.on_the_way_to(url) }
    }

    /// What requests are signed with.
    pub(super) fn user_agent(&self) -> &HeaderValue {
        &self.inner.user_agent
    }

    /// The pool of connections to the scheme, host and port of `url`.
    pub(super) async fn connections(&self, url: &Url) -> Result<Arc<Pool>> {
        let key = pool_key(url);
        if let Some(found) = lock(&self.inner.pools).get(&key) {
            return Ok(Arc::clone(found));
        }
        let pool = self.pool(url, &authority(url)).await?;
        Ok(Arc::clone(lock(&self.inner.pools).entry(key).or_insert(pool)))
    }

    async fn pool(&self, url: &Url, authority: &str) -> Result<Arc<Pool>> {
        let wrong = |why: http::Error| Error::new(Kind::Invalid, "connect to").on(authority).because(why);
        let host = HeaderValue::from_str(authority).map_err(|why| wrong(why.into()))?;
        let (tls, to) = (self.tls_for(url).await?, door(url).map_err(wrong)?);
        let Some(proxy) = self.proxy(url) else { return Ok(Pool::new(Dialler::direct(to, tls), host, None)) };
        let (proxy_tls, at) = (self.tls_for(proxy.url()).await?, door(proxy.url()).map_err(wrong)?);
        let forwarded = match url.scheme() {
            "http" if proxy.manner() == Manner::Http => Some(Forwarded {
                authority: authority.parse().map_err(|why: http::uri::InvalidUri| wrong(why.into()))?,
                login: proxy.authorization(),
            }),
            _ => None,
        };
        Ok(Pool::new(Dialler::by_way_of(proxy, at, to, tls, proxy_tls), host, forwarded))
    }

    async fn tls_for(&self, url: &Url) -> Result<Arc<ClientConfig>> {
        let tls = &self.inner.tls;
        let roots = if is_loopback(url) { Roots::AtNeed } else { Roots::Now };
        Ok(Arc::new(if url.scheme() == "https" { tls.config(&authority(url), roots).await? } else { tls.unused()? }))
    }
}

fn pool_key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), authority(url))
}

/// Scheme, host and port of `url`, whose port is always told.
fn door(url: &Url) -> Result<Uri, http::Error> {
    let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    // What has no port of its own is a SOCKS proxy.
    let port = url.port_or_known_default().unwrap_or(1080);
    let authority = format!("{}:{port}", url.host_str().unwrap_or_default());
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()
}

/// `host[:port]` of a URL.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether `url` leads to this machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these maps whole: every change is one insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
