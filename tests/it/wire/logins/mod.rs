//! Logins: stored and removed by the program, never leaked, renewed during a long copy; and the ways to a registry through
//! TLS and proxies.

mod account;
mod credential_helpers;
mod network;
mod secrets;
mod surroundings;
mod tokens;

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Profile, ServerAuth};
use testkit::images;
use tokio::io::AsyncWriteExt as _;

use crate::kit::command;

const USER: &str = "robot";
const PASSWORD: &str = "correct:horse";

/// A user with a home folder of their own, and nothing of the machine's.
struct Person {
    home: tempfile::TempDir,
}

impl Person {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Docker's file.
    fn config(&self) -> String {
        self.read(".docker/config.json")
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
        let bin = self.path("bin");
        command.env_clear().env("HOME", self.home.path()).env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs the program to its end with `input` on stdin.
    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        piped(self.command(arguments), input).await
    }

    /// `registry login` at a registry that may speak plain HTTP.
    async fn login(&self, host: &str, password: &str, more: &[&str]) -> Output {
        let fixed = ["registry", "login", host, "-u", USER, "--password-stdin", "--allow-insecure-registry"];
        self.run(&[&fixed, more].concat(), password).await
    }

    /// `registry logout`.
    async fn logout(&self, host: &str, more: &[&str]) -> Output {
        self.run(&[&["registry", "logout", host], more].concat(), "").await
    }

    /// `registry seed` of one image to another place, unverified.
    async fn seed(&self, from: &str, to: &str, more: &[&str]) -> Output {
        let out = self.path("out");
        let fixed = ["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--from", from, "--to", to];
        let out = ["--out", out.to_str().unwrap()];
        self.run(&[&fixed[..], &out, more].concat(), "").await
    }

    /// Puts a credential helper on this user's PATH. The script starts in the home folder.
    #[cfg(unix)]
    fn helper(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let program = self.path(&format!("bin/docker-credential-{name}"));
        // Under another name first: a program that is still open for writing cannot be run.
        let (new, text) = (self.path("bin/new"), format!("#!/bin/sh\ncd {}\n{script}", self.home.path().display()));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &program).unwrap();
    }
}

async fn piped(mut command: tokio::process::Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read has closed its end.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap()
}

fn basic() -> ServerAuth {
    ServerAuth::Basic { user: USER.into(), password: PASSWORD.into() }
}

fn bearer(expires_in: Duration) -> ServerAuth {
    ServerAuth::Bearer { login: Some((USER.into(), PASSWORD.into())), expires_in }
}

async fn guarded(auth: ServerAuth) -> Testbed {
    Testbed::with(Profile { auth, ..Profile::default() }).await
}

/// A registry without logins, with an image as `app:v1`.
async fn open_source() -> Testbed {
    let bed = Testbed::start().await;
    let store = command::publisher(&bed, "app");
    let root = images::two_platforms(&store, 1, &[1000, 2000]).await;
    images::tag(&store, &root, "v1").await;
    bed
}

/// `auths` for a file of credentials.
fn auths(entries: &[(&str, &str)]) -> String {
    let auths: serde_json::Map<_, _> =
        entries.iter().map(|(host, auth)| ((*host).to_owned(), serde_json::json!({ "auth": auth }))).collect();
    serde_json::json!({ "auths": auths }).to_string()
}
