//! The client of a run: connections, TLS, logins and the known state of each host, shared by all callers.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::address::PlainHost;
use super::cleanup::Cleanup;
use super::connect::proxy::Proxies;
use super::connect::{ConnectionRules, Connections};
use super::flow::link::Traffic;
use super::flow::stats::Stats;
use super::host::{Host, PeerState};
use crate::error::Result;
use crate::keychain::{Account, Environment, Keychain};
use crate::retry::{Outages, Retry};
use crate::sync::lock;

/// How to talk to registries.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Whether plain HTTP is permitted for every host that speaks it; credentials are then sent only to this machine
    /// itself. Never accepts an invalid certificate. Default no.
    pub allow_plain_http: bool,
    /// Hosts for which plain HTTP is permitted, with credentials. Default none.
    pub plain_http_hosts: Vec<PlainHost>,
    /// A credentials file to read before all others. Must be readable. Default none.
    pub authfile: Option<PathBuf>,
    /// Other places that may hold credentials, from the process environment. Default none, so that nothing is read that
    /// the caller did not name; a program passes [`Environment::of_process`].
    pub environment: Environment,
    /// Longest time that a credential helper may take; it may have to ask a person or a cloud. One that does not answer
    /// is not called again in this run. Default 30 s.
    pub helper_limit: Duration,
    /// Proxies to use. Default none; a program passes [`Proxies::of_process`].
    pub proxies: Proxies,
    /// Certificates (PEM) of CAs to trust in addition to the system's. Default none.
    pub ca_file: Option<PathBuf>,
    /// A folder in the layout of `certs.d`, searched before the system's. Default none.
    pub cert_dir: Option<PathBuf>,
    /// Most bytes per second, each way, over all connections together. Default no limit.
    pub bytes_per_second: Option<NonZeroU64>,
    /// How to retry transient failures, and how long to wait for hosts that do not answer. Default [`Retry::default`].
    pub retry: Retry,
    /// The `User-Agent`. Default name and version of the package.
    pub user_agent: String,
}

impl Default for ClientOptions {
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
            bytes_per_second: None,
            retry: Retry::default(),
            user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The client of a run. Clones share all state.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
}

#[derive(Debug)]
struct ClientInner {
    connections: Arc<Connections>,
    keychain: Arc<Keychain>,
    retry: Retry,
    outages: Outages,
    peers: Mutex<BTreeMap<String, Arc<PeerState>>>,
    cleanup: Arc<Cleanup>,
}

impl Client {
    /// Prepares a client. Contacts no host; reads no file but `ca_file`.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) if `ca_file`, a proxy or the user agent cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let keychain = Keychain::new(options.authfile.clone(), &options.environment, options.helper_limit);
        Self::with(options, keychain)
    }

    /// Returns a client that logs in with one account and looks for no other.
    pub(super) fn with_account(options: ClientOptions, account: Account) -> Result<Self> {
        Self::with(options, Keychain::of(account))
    }

    fn with(options: ClientOptions, keychain: Keychain) -> Result<Self> {
        let ClientOptions { allow_plain_http, plain_http_hosts, proxies, bytes_per_second, .. } = options;
        let ClientOptions { ca_file, cert_dir, retry, user_agent, .. } = options;
        let rules = ConnectionRules { allow_plain_http, plain_http_hosts, proxies, bytes_per_second };
        let connections = Connections::new(rules, ca_file.as_deref(), cert_dir.as_deref(), &user_agent)?;
        let inner = ClientInner {
            connections: Arc::new(connections),
            keychain: Arc::new(keychain),
            retry,
            outages: retry.outages(),
            peers: Mutex::default(),
            cleanup: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads the credentials files that the operator named, so that a missing or invalid one is reported before any
    /// other work.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) for a file that cannot be used.
    pub async fn check_credentials(&self) -> Result<()> {
        self.inner.keychain.check().await
    }

    /// Returns `None` if `account`, or the identity token that replaces its password, would be sent to `host`; else
    /// where the other credentials come from.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::Kind::Usage) for a file that cannot be used.
    pub async fn finds(&self, host: &str, account: &Account, identity: Option<&str>) -> Result<Option<String>> {
        let found = self.inner.keychain.find(host, "", None).await?;
        Ok(if found.is(account, identity) { None } else { Some(found.told()) })
    }

    /// Returns where the credentials for `host` come from, if there are any.
    ///
    /// # Errors
    ///
    /// Fails as [`finds`](Self::finds) does.
    pub async fn has_login(&self, host: &str) -> Result<Option<String>> {
        let found = self.inner.keychain.find(host, "", None).await?;
        Ok(found.credentials.is_some().then(|| found.told()))
    }

    /// Returns the host `name[:port]`, for requests with the credentials of the repository `path`.
    ///
    /// Each call returns a handle that counts its own requests; all handles share the known state of the host.
    #[must_use]
    pub fn host(&self, name: &str, path: &str) -> Host {
        let ClientInner { connections, keychain, retry, outages, peers, cleanup } = &*self.inner;
        let mut peers = lock(peers);
        let peer = peers.entry(name.to_owned()).or_insert_with(|| PeerState::new(name, keychain, outages));
        Host::new(peer, path, connections, *retry, cleanup)
    }

    /// Returns the counts of requests and bytes, by host.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<String, Stats> {
        lock(&self.inner.peers).iter().map(|(name, peer)| (name.clone(), peer.tally())).collect()
    }

    /// Returns the bytes that all connections have moved, as a budget counts them: heads, TLS and proxies included.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.inner.connections.link().traffic()
    }

    /// Returns the longest round trip of all hosts that have answered.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        lock(&self.inner.peers).values().filter_map(|peer| peer.tally().fastest).max()
    }

    /// Waits until the cleanup at peers is done, for at most `limit`. Called before a program ends.
    pub async fn settle(&self, limit: Duration) {
        self.inner.cleanup.settle(limit).await;
    }

    /// Returns the outages that the hosts of this client have had.
    #[must_use]
    pub fn outages(&self) -> &Outages {
        &self.inner.outages
    }

    /// Returns how transient failures are retried.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.inner.retry
    }
}
