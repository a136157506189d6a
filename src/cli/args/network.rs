//! Flags for connections to registries.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::copy::{self, Lanes};
use crate::error::Result;
use crate::keychain;
use crate::oci::Repository;
use crate::quantity::{duration, size};
use crate::retry::Retry;
use crate::spool::Spool;
use crate::wire;

/// How to connect to registries.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct AccessArgs {
    /// Permit plain-HTTP registries; with HOST or HOST:PORT, only these. TLS is tried first; credentials go over plain
    /// HTTP only to this machine itself and to the named hosts; never excuses a certificate
    #[arg(long, value_name = "HOST,…", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, value_parser = PlainHttp::parse)]
    pub(crate) allow_insecure_registry: PlainHttp,
    /// Credentials file (docker config or podman auth.json), read before the usual files
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Longest time for a credential helper (docker-credential-*); one that does not answer is not run again
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub(super) helper_timeout: Duration,
    /// Trust these certificate authorities (PEM) besides the system's
    #[arg(long, value_name = "PEM")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder of certificates: DIR/host[:port]/{ca.crt,client.cert,client.key}, or the files in DIR itself, for every host
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// How long to wait for a registry that does not answer (no connection, silence, 502, 503, 504), such as 90s, 30m or
    /// 1d; 0s never waits [default: 10m, and 20s for a registry that is not reached at first]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) retry_for: Option<Duration>,
}

/// Where plain HTTP is permitted: the value of --allow-insecure-registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    Nowhere,
    Anywhere,
    At(Vec<wire::PlainHost>),
}

impl PlainHttp {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "true" => Self::Anywhere,
            "false" => Self::Nowhere,
            hosts => Self::At(hosts.split(',').map(|host| host.trim().parse()).collect::<Result<_, _>>()?),
        })
    }
}

impl AccessArgs {
    pub(crate) fn client(&self) -> wire::ClientOptions {
        wire::ClientOptions {
            allow_plain_http: self.allow_insecure_registry == PlainHttp::Anywhere,
            plain_http_hosts: match &self.allow_insecure_registry {
                PlainHttp::At(hosts) => hosts.clone(),
                PlainHttp::Nowhere | PlainHttp::Anywhere => Vec::new(),
            },
            authfile: self.authfile.clone(),
            ca_file: self.ca_file.clone(),
            cert_dir: self.cert_dir.clone(),
            environment: keychain::Environment::of_process(),
            helper_limit: self.helper_timeout,
            proxies: wire::Proxies::of_process(),
            retry: self.retry(),
            ..wire::ClientOptions::default()
        }
    }

    /// Returns how long to wait for registries.
    pub(crate) fn retry(&self) -> Retry {
        let usual = Retry::default();
        let Some(limit) = self.retry_for else { return usual };
        // A registry may ask for as long a pause as the user allows.
        Retry { first_contact: limit, outage: limit, longest_requested: usual.longest_requested.max(limit), ..usual }
    }

    /// Returns options for the `bundle` commands: on this machine itself plain HTTP needs no flag (contract §8).
    pub(crate) fn client_for(&self, repository: &Repository) -> wire::ClientOptions {
        let mut client = self.client();
        if repository.is_loopback() {
            client.plain_http_hosts.extend(repository.host.parse::<wire::PlainHost>());
        }
        client
    }
}

/// How the commands that move images connect to registries.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// Most large blobs in flight at once; also most images of a catalog at once
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least_one)]
    pub(crate) jobs: NonZeroUsize,
}

fn at_least_one(text: &str) -> Result<NonZeroUsize, &'static str> {
    let number: usize = text.parse().map_err(|_| "is not a whole number")?;
    NonZeroUsize::new(number).ok_or("1 is the least, and moves one large blob after the other")
}

impl Network {
    pub(crate) fn engine(&self) -> copy::Options {
        let small = self.jobs.saturating_mul(NonZeroUsize::MIN.saturating_add(3));
        copy::Options { lanes: Lanes::new(self.jobs, small), ..copy::Options::default() }
    }
}

/// Where unfinished downloads are kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Spooling {
    /// Keep unfinished downloads in this folder: a later run with the same folder resumes them, even after a power
    /// failure
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// Largest size of the spool, such as 500MB; beyond it the least recently used files are removed
    #[arg(long, value_name = "SIZE", default_value = "10GiB", requires = "spool", value_parser = size::parse)]
    spool_max: u64,
}

impl Spooling {
    /// Opens the spool, if the flag is given.
    pub(crate) async fn open(&self) -> Result<Option<Spool>> {
        match &self.spool {
            Some(folder) => Spool::open(folder, self.spool_max).await.map(Some),
            None => Ok(None),
        }
    }
}
