//! The second transport: the program `skopeo`, run as a subprocess.
//!
//! Copies one image, all platforms, digests unchanged, and turns skopeo's standard error into our errors. Does not
//! verify, does not tag twice, does not copy accessories: skopeo knows neither referrers nor fallback tags, so our own
//! engine copies signatures and sidecars, which are small. A destination by digest works (tried with skopeo 1.9.3 against
//! distribution 2.8.2: images, indexes with all platforms, and nothing is tagged); skopeo has no destination with tag and
//! digest, so such an image is put under its tag.
//!
//! # The environment of skopeo
//!
//! Its environment holds only [`PASSED_ON`]; it reads its usual `policy.json` and `registries.conf`. Plain HTTP: skopeo's
//! `--tls-verify=false` falls back to HTTP only after TLS, and then accepts any certificate, which our client never does.
//! So the flag is set for one side only if the caller passes [`Http`](super::LocationScheme::Http) for that side, which it
//! may only do after the user permitted plain HTTP *and* our own client found that this host speaks it. Such a host has no
//! certificate to excuse, and an attacker who can replace its responses could do so before. skopeo gets no credentials
//! for a host that our client would send none to ([`HttpWithoutLogin`](super::LocationScheme::HttpWithoutLogin)).

mod arguments;
mod carry;
mod certificates;
mod options;
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
use tokio::time::Instant;

use crate::error::{Error, Kind, Result, Side};
use crate::retry::Retry;

use certificates::CertificateFolder;
pub use options::{End, Options};

/// Variables that skopeo and its credential helpers need. They get no other part of the environment.
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

/// How much of skopeo's standard error is kept, from its end, in bytes.
const KEPT: usize = 16 << 10;
/// How long standard error may stay open after skopeo has exited: a helper that it started may keep it open.
const LINGER: Duration = Duration::from_secs(1);

/// The skopeo program, and its settings.
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
    /// [`Usage`](Kind::Usage) if it is not found, or if the named authfile does not exist: skopeo would treat that as "no
    /// credentials".
    pub fn find(path_variable: Option<&OsStr>, options: Options) -> Result<Self> {
        if let Some(authfile) = options.authfile.as_ref().filter(|authfile| !authfile.is_file()) {
            let error = Error::new(Kind::Usage, "find authfile").on(authfile.display());
            return Err(error.hint("name an existing file, or leave --authfile out"));
        }
        let folders = path_variable.into_iter().flat_map(std::env::split_paths);
        // A relative entry would run a program from the current folder.
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
    /// Dropping the future kills the program; content that it has put stays, and the next run finds it.
    ///
    /// # Errors
    ///
    /// The error in skopeo's standard error, with its side if known; [`Local`](Kind::Local) if the text is unknown or the
    /// program cannot be run.
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
        let contact = |end: &End| self.options.outages.contact(end.reference.repository.api_host());
        if status.success() {
            [from, to].into_iter().for_each(|end| contact(end).answered(true));
            return Ok(());
        }
        let error = outcome::error(&last_words, status, from, to);
        let silent = if error.side() == Some(Side::Source) { from } else { to };
        Err(match outcome::outage(&last_words) {
            Some(why) => error.because(contact(silent).outage(why, Instant::now())),
            None => error,
        })
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
