//! Credential helpers: programs called `docker-credential-<name>` that talk over their standard input and output
//! (docker, "Credential helper protocol").
//!
//! A helper is a third-party program. Its name is checked before it becomes part of a command, only absolute folders of
//! `PATH` are searched for it, and it receives few variables. Its answer has a size limit and its run a time limit: a
//! helper that does not answer is killed together with all processes that it started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::Credentials;
use super::helper_environment::Surroundings;

/// Largest answer of a helper that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// How long to wait for the rest of an answer after the helper has exited: a process that it left running may hold its
/// output open forever.
const REST: Duration = Duration::from_millis(500);

/// The user name that a helper returns if the secret is an identity token.
const IS_IDENTITY: &str = "<token>";

/// Why a helper failed: one short line without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct HelperFailure {
    why: String,
    /// Whether it did not answer at all, so that the next call would wait as long.
    pub(super) is_silent: bool,
}

impl From<String> for HelperFailure {
    fn from(why: String) -> Self {
        Self { why, is_silent: false }
    }
}

/// A helper program, and its time limit.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    limit: Duration,
    variables: Vec<(OsString, OsString)>,
}

/// The input of a helper's `store`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HelperInput<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    username: String,
    secret: String,
}

/// A helper's output, and whether it exited with success.
struct Said {
    is_success: bool,
    status: String,
    text: Vec<u8>,
}

impl Helper {
    /// Returns the helper called `name`.
    ///
    /// # Errors
    ///
    /// The name comes from a file and becomes part of a program's name: fails if it could be a path or an option, and
    /// if there is no such program.
    pub(super) fn named(name: &str, limit: Duration, surroundings: &Surroundings) -> Result<Self, HelperFailure> {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_name {
            return Err("not a helper's name".to_owned().into());
        }
        let program = surroundings.find(&format!("docker-credential-{name}"));
        let program = program.ok_or_else(|| "cannot be run: no absolute folder of PATH has it".to_owned())?;
        Ok(Self::at(program, limit, surroundings))
    }

    /// Returns a helper that runs `program`.
    pub(super) fn at(program: PathBuf, limit: Duration, surroundings: &Surroundings) -> Self {
        Self { program, limit, variables: surroundings.variables().to_vec() }
    }

    /// Asks for the credentials of `server`.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Credentials>, HelperFailure> {
        let said = self.tell("get", server.as_bytes()).await?;
        answer(said.is_success, &said.text).map_err(|why| why.unwrap_or(said.status).into())
    }

    /// Stores the credentials of `server`. `secret` is a password, or an identity token if there is no `user`.
    pub(super) async fn store(&self, server: &str, user: Option<&str>, secret: &str) -> Result<(), HelperFailure> {
        let entry = HelperInput { server, username: user.unwrap_or(IS_IDENTITY), secret };
        let entry = serde_json::to_vec(&entry).map_err(|why| HelperFailure::from(why.to_string()))?;
        let said = self.tell("store", &entry).await?;
        if said.is_success { Ok(()) } else { Err(said.status.into()) }
    }

    /// Erases the credentials of `server`. Returns whether there were any, as far as the helper reports it.
    pub(super) async fn erase(&self, server: &str) -> Result<bool, HelperFailure> {
        let said = self.tell("erase", server.as_bytes()).await?;
        match said.is_success {
            true => Ok(true),
            false if is_none(&said.text) => Ok(false),
            false => Err(said.status.into()),
        }
    }

    async fn tell(&self, verb: &str, input: &[u8]) -> Result<Said, HelperFailure> {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        // Its own process group, so that it can be killed with all its children. The cost: it cannot read from the
        // terminal, which the protocol does not support anyway.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(|why| format!("cannot be run: {}", why.kind()))?;
        let mut running = HelperProcess(Some(child));
        match tokio::time::timeout(self.limit, running.converse(input)).await {
            Ok(said) => said.map_err(|why| HelperFailure::from(format!("breaks off: {why}"))),
            Err(_) => {
                let why = format!("no answer within {} s", self.limit.as_secs_f32());
                Err(HelperFailure { why, is_silent: true })
            }
        }
    }
}

/// A running helper. Dropping it kills its process group, unless the helper has exited.
struct HelperProcess(Option<Child>);

impl HelperProcess {
    async fn converse(&mut self, input: &[u8]) -> Result<Said, std::io::Error> {
        let Some(child) = &mut self.0 else { return Err(std::io::ErrorKind::NotFound.into()) };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut text = Vec::new();
        let status = {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A helper that has answered without reading has closed its input; its answer counts.
                    let _ = stdin.write_all(input).await;
                }
            };
            let read = async {
                match stdout {
                    Some(stdout) => stdout.take(MAX_ANSWER + 1).read_to_end(&mut text).await,
                    None => Ok(0),
                }
            };
            let talk = async { tokio::join!(write, read).1 };
            tokio::pin!(talk);
            tokio::select! {
                biased;
                read = &mut talk => {
                    if read? as u64 > MAX_ANSWER {
                        return Err(std::io::Error::other(format!("its answer is longer than {MAX_ANSWER} bytes")));
                    }
                    child.wait().await?
                }
                status = child.wait() => {
                    let _ = tokio::time::timeout(REST, &mut talk).await;
                    status?
                }
            }
        };
        self.0 = None;
        Ok(Said { is_success: status.success(), status: format!("ends with {status}"), text })
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.0.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok()) {
            // Not yet waited for, so the process id is still its own.
            let _ = rustix::process::Pid::from_raw(group)
                .map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
        }
    }
}

/// Reads the answer to `get`. An error of `None` means that only the helper's exit status explains the failure.
pub(super) fn answer(is_success: bool, said: &[u8]) -> Result<Option<Credentials>, Option<String>> {
    if !is_success {
        return if is_none(said) { Ok(None) } else { Err(None) };
    }
    let answer: HelperOutput = serde_json::from_slice(said).map_err(|_| Some("its answer is not JSON".to_owned()))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        IS_IDENTITY => Credentials::Identity(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

/// Returns whether the answer means "no credentials". The protocol has no code for that: every client compares the
/// text.
fn is_none(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said).to_lowercase();
    text.contains("credentials not found") || text.contains("no credentials")
}
