//! The second transport: the program `skopeo`, run as a subprocess.
//!
//! Copies one image, all platforms, digests unchanged, and turns what skopeo writes on its standard error into our
//! errors. Does not verify, does not tag twice, does not carry what is attached to an image: skopeo knows neither
//! referrers nor fallback tags, so signatures and sidecars, which are small, go by our own engine. A destination given by digest works (tried with skopeo 1.9.3
//! against distribution 2.8.2: images, indexes with all platforms, and nothing is tagged); one with tag and digest does
//! not exist for skopeo, and is put under its tag.
//!
//! # What it is given
//!
//! Its environment is cleared but for [`PASSED_ON`]; it reads the same `policy.json` and `registries.conf` as always.
//! Plain HTTP: skopeo's `--tls-verify=false` falls back to HTTP only after TLS, and then takes any certificate, which
//! ours never does. So it stands on one side only if the caller says [`LocationScheme::Http`] of that side, which it may only
//! after the user permitted plain HTTP *and* our own wire found that this host speaks it. Such a host has no certificate
//! that could be excused, and who can swap its answers could so before. It is given no credentials for a host that ours
//! would give none to ([`LocationScheme::HttpWithoutLogin`]).

mod arguments;
mod carry;
mod certificates;
mod outcome;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::error::{Error, Kind, Result, Side};
use crate::oci::Reference;
use crate::retry::Retry;

use super::LocationScheme;
use certificates::CertificateFolder;

/// Variables that skopeo and the credential helpers it starts need. Nothing else of the environment is theirs to know.
pub const PASSED_ON: [&str; 16] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// How much of its standard error is kept, from the end, in bytes.
const KEPT: usize = 16 << 10;
/// How long its standard error may stay open after it has ended: a helper that it started may hold on to it.
const LINGER: Duration = Duration::from_secs(1);

/// What skopeo is run with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Credentials, in docker's or podman's format. Default none: skopeo looks where we look (contract §10).
    pub authfile: Option<PathBuf>,
    /// Certificates to trust beside the system's, PEM. Default none.
    pub ca_file: Option<PathBuf>,
    /// A folder with a folder of certificates for each host, before `/etc/containers/certs.d` and `/etc/docker/certs.d`.
    /// Default none.
    pub cert_dir: Option<PathBuf>,
    /// The environment of this process, of which [`PASSED_ON`] is passed on. Default none of it.
    pub environment: Vec<(OsString, OsString)>,
    /// How often a copy is run that failed for a transient reason. What arrived before is not sent again.
    pub retry: Retry,
}

/// One end of a copy.
#[derive(Debug, Clone)]
pub struct End {
    /// Where. The source is read by digest if there is one; the destination is put under its tag if there is one.
    pub reference: Reference,
    /// How its registry is spoken to.
    pub scheme: LocationScheme,
}

/// The program, and what it is run with.
#[derive(Debug, Clone)]
pub struct Skopeo {
    program: PathBuf,
    options: Options,
}

impl Skopeo {
    /// Looks for `skopeo` in the folders of `path_variable`, the value of `PATH`.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if it is not there, or if an authfile was named that does not exist: skopeo would take
    /// that for "no credentials".
    pub fn find(path_variable: Option<&OsStr>, options: Options) -> Result<Self> {
        if let Some(authfile) = options.authfile.as_ref().filter(|authfile| !authfile.is_file()) {
            let error = Error::new(Kind::Usage, "find authfile").on(authfile.display());
            return Err(error.hint("name an existing file, or leave --authfile out"));
        }
        let folders = path_variable.into_iter().flat_map(std::env::split_paths);
        // A relative entry would run whatever lies in the folder we were started in.
        let mut programs = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join("skopeo"));
        match programs.find(|program| is_executable(program)) {
            Some(program) => Ok(Self { program, options }),
            None => Err(Error::new(Kind::Usage, "skopeo binary not found in PATH").hint(
                "install it (apt install skopeo, dnf install skopeo, brew install skopeo), or use --transport native, \
                 which needs no other program",
            )),
        }
    }

    /// Copies `from` to `to` with all its platforms, every digest unchanged.
    ///
    /// Dropping the future kills the program; what it has put so far stays, and is found again.
    ///
    /// # Errors
    ///
    /// Those that skopeo's last words amount to, with their side where it can be told; [`Local`](Kind::Local) for what
    /// is not understood, and if the program cannot be run.
    pub async fn copy(&self, from: &End, to: &End) -> Result<()> {
        self.options.retry.run(Retry::transient, || self.attempt(from, to)).await
    }

    async fn attempt(&self, from: &End, to: &End) -> Result<()> {
        // These live until the program has ended.
        let certificates = (
            CertificateFolder::of(from, &self.options).map_err(|error| error.at(Side::Source))?,
            CertificateFolder::of(to, &self.options).map_err(|error| error.at(Side::Destination))?,
        );
        let arguments = arguments::copy(
            self.options.authfile.as_deref(),
            (from, certificates.0.folder()),
            (to, certificates.1.folder()),
        );
        let (status, last_words) = self.run(&arguments).await?;
        if status.success() { Ok(()) } else { Err(outcome::error(&last_words, status, from, to)) }
    }

    async fn run(&self, arguments: &[OsString]) -> Result<(ExitStatus, String)> {
        let ours = self.options.environment.iter();
        let passed = ours.filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed));
        let cannot_run = |cause| Error::new(Kind::Local, "run").on(self.program.display()).because(cause);
        tracing::debug!(program = %self.program.display(), ?arguments, "running skopeo");
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(passed.map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot_run)?;
        let mut tail = VecDeque::new();
        let status = match child.stderr.take() {
            None => child.wait().await,
            Some(stderr) => {
                let mut reading = std::pin::pin!(keep_tail(stderr, &mut tail));
                tokio::select! {
                    biased;
                    () = &mut reading => child.wait().await,
                    status = child.wait() => {
                        let _ = tokio::time::timeout(LINGER, reading).await;
                        status
                    }
                }
            }
        };
        let last_words = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
        Ok((status.map_err(cannot_run)?, last_words))
    }
}

/// Reads to the end; keeps the last [`KEPT`] bytes.
async fn keep_tail(mut reader: impl AsyncRead + Unpin, tail: &mut VecDeque<u8>) {
    let mut buffer = [0; 4 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        tail.extend(&buffer[..count]);
        let surplus = tail.len().saturating_sub(KEPT);
        tail.drain(..surplus);
    }
}

fn is_executable(program: &Path) -> bool {
    program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
