//! `autonomy registry serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::args::duration;
use crate::cli::context::{Run, RunContext};
use crate::cli::interrupt::interrupted;
use crate::cli::terminal::print;
use crate::error::{Error, Kind, Result};
use crate::serve::{Limits, ServeOptions, ServedContent, Server, ServerCertificates, name_of};

/// Serves a folder as an OCI registry until Ctrl-C or SIGTERM.
///
/// Certificates and passwords are read again when their files change; no signal is needed. At shutdown it finishes
/// requests in flight within --grace; a second signal stops it at once.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Data folder for the images; created if it does not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Answer every write with 405 UNSUPPORTED
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    access: LoginArgs,
    #[command(flatten)]
    bounds: Bounds,
}

/// Which clients have access, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
struct LoginArgs {
    /// Serve TLS with this certificate (PEM, with intermediate certificates)
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Accept only clients with a certificate from these CAs
    #[arg(long, value_name = "PEM", requires = "tls_cert", visible_alias = "tls-client-ca")]
    client_ca: Option<PathBuf>,
    /// Accept only these users: lines of USER:HASH from htpasswd -nB (bcrypt only). /healthz stays open, /metrics does
    /// not
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Also accept this host name, on a loopback address behind a reverse proxy (repeatable)
    #[arg(long = "host", value_name = "NAME", value_parser = host)]
    hosts: Vec<String>,
    /// Permit plain HTTP on an address that other machines can reach
    #[arg(long)]
    allow_insecure_registry: bool,
}

/// Limits for clients.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds")]
struct Bounds {
    /// Most connections at once, half of them for one address; more connections wait, and idle ones are closed for them
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Remove unfinished uploads after this long
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    upload_expiry: Duration,
    /// Grace period for requests in flight at shutdown
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    grace: Duration,
}

/// Reads a host name; ports are not compared.
fn host(text: &str) -> std::result::Result<String, &'static str> {
    name_of(text).ok_or("is not the name of a host")
}

#[derive(Serialize)]
struct Listening {
    listening_on: String,
}

impl Run for ServeArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let is_plain = self.access.tls_cert.is_none();
        let is_reachable = !self.listen.ip().is_loopback();
        if is_reachable && is_plain && !self.access.allow_insecure_registry {
            return Err(Error::new(Kind::Usage, "plain-HTTP registry refused").on(format!("on {}", self.listen)).hint(
                "name --tls-cert and --tls-key, listen on a loopback address, or pass --allow-insecure-registry",
            ));
        }
        if is_reachable && is_plain && self.access.htpasswd.is_some() {
            context.warn("passwords cross the network in plain text: name --tls-cert and --tls-key");
        }
        let server = Server::bind(self.options()).await?;
        let listening = Listening { listening_on: server.url() };
        let shown =
            context.show(&listening, |listening| print::line(&format!("listening on {}", listening.listening_on)))?;
        let (told, stopped) = tokio::sync::oneshot::channel();
        let twice = async {
            interrupted().await;
            let _ = told.send(());
            interrupted().await;
        };
        tokio::select! {
            ended = server.run(async { stopped.await.unwrap_or_default() }) => ended?,
            () = twice => {}
        }
        Ok(shown)
    }
}

impl ServeArgs {
    fn options(&self) -> ServeOptions {
        let LoginArgs { tls_cert, tls_key, client_ca, htpasswd, .. } = &self.access;
        let Bounds { max_connections, upload_expiry, grace } = self.bounds;
        let folder = self.data_dir.clone();
        let content =
            if self.read_only { ServedContent::ReadOnlyDataDir(folder) } else { ServedContent::DataDir(folder) };
        let mut options = ServeOptions::serving(content, self.listen);
        options.hosts = self.access.hosts.clone();
        let pair = tls_cert.clone().zip(tls_key.clone());
        options.tls = pair.map(|(chain, key)| ServerCertificates { chain, key, client_ca: client_ca.clone() });
        options.htpasswd = htpasswd.clone();
        options.limits = Limits { connections: max_connections.into(), upload_expiry, grace, ..Limits::default() };
        options
    }
}
