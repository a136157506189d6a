//! `autonomy registry serve`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::access_log::JsonAccessLog;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::quantity::duration;
use crate::serve::{Limits, ServeOptions, ServedContent, Server, ServerCertificates, ServerFiles, name_of};
use crate::terminal::interrupt::{Hangups, terminated};
use crate::terminal::print;

/// Serves a folder as an OCI registry until Ctrl-C or SIGTERM.
///
/// Certificates and passwords are read again when their files change, and on SIGHUP, which also opens the access log
/// again. At shutdown it finishes requests in flight within --grace; a second signal stops it at once.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    listen: SocketAddr,
    /// Port to listen on at 127.0.0.1: short for --listen 127.0.0.1:N
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    port: Option<u16>,
    /// Data folder for the images; created if it does not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Answer every write with 405 UNSUPPORTED
    #[arg(long)]
    read_only: bool,
    /// Write a JSON line for each request to this file, or to stdout for -
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
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
    /// Accept only these users: lines of USER:HASH from registry htpasswd (bcrypt only). /healthz and /readyz stay
    /// open, /metrics does not
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

/// Reads an address and a port.
fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or(match text.parse::<u16>() {
            Ok(_) => ("", text),
            Err(_) => (text, "5000"),
        });
        let port = if port.parse::<u16>().is_ok() { port } else { "5000" };
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        match is_address {
            true => format!("an address and a port are needed: write {host}:{port}"),
            false => format!(
                "an IP address and a port are needed: write 127.0.0.1:{port} for this machine alone, 0.0.0.0:{port} for all \
                 networks"
            ),
        }
    })
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
    async fn run(mut self, context: &RunContext) -> Result<ExitCode> {
        if let Some(port) = self.port {
            self.listen = (Ipv4Addr::LOCALHOST, port).into();
        }
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
        let log = self.access_log.as_deref().map(JsonAccessLog::open).transpose()?.map(Arc::new);
        let mut options = self.options();
        options.hooks.access_log = log.clone().map(|log| log as _);
        let server = Server::bind(options).await?;
        // Caught before anybody knows that the server runs: a hangup would end the program.
        let again = read_again(Hangups::start()?, server.files(), log.clone());
        let listening = Listening { listening_on: server.url() };
        let shown =
            context.report(&listening, |listening| print::line(&format!("listening on {}", listening.listening_on)))?;
        let (told, stopped) = tokio::sync::oneshot::channel();
        let twice = async {
            terminated().await;
            let _ = told.send(());
            terminated().await;
        };
        tokio::select! {
            ended = server.run(async { stopped.await.unwrap_or_default() }) => ended?,
            () = twice => {}
            never = again => match never {},
        }
        if let Some(log) = log {
            log.end().await;
        }
        Ok(shown)
    }
}

/// Reads the files again at each hangup: the server's own, and the access log under its name.
async fn read_again(mut hangups: Hangups, files: ServerFiles, log: Option<Arc<JsonAccessLog>>) -> Infallible {
    loop {
        hangups.next().await;
        if let Some(log) = &log {
            log.reopen();
        }
        let faults = files.read_again().await;
        tracing::debug!(faults = faults.len(), "the files were read again");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_the_error_for_others_has_the_one_to_write() {
        for text in ["127.0.0.1:5000", "0.0.0.0:0", "[::]:5000"] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        for (text, write) in [
            (":5001", "write 127.0.0.1:5001 for this machine alone, 0.0.0.0:5001 for all networks"),
            ("localhost:5002", "write 127.0.0.1:5002 for this machine alone"),
            ("5003", "write 127.0.0.1:5003 for this machine alone"),
            ("site.example", "write 127.0.0.1:5000 for this machine alone"),
            ("", "write 127.0.0.1:5000 for this machine alone"),
            ("localhost:http", "write 127.0.0.1:5000 for this machine alone"),
            ("10.0.0.1", "write 10.0.0.1:5000"),
            ("[::1]:99999", "write [::1]:5000"),
        ] {
            assert!(address(text).unwrap_err().contains(write), "{text}: {:?}", address(text));
        }
    }
}
