//! The program, run to its end, and a store to publish images to.

use std::path::Path;
use std::process::Output;

use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, ClientOptions};

/// A store over this program's own client, to publish images to seed.
pub(crate) fn publisher(bed: &Testbed, path: &str) -> Registry {
    let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
    Registry::new(&client, &bed.repository(path), Role::Sink)
}

/// Runs the program to its end.
pub(crate) async fn autonomy(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
    for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "AUTONOMY_TRUST_TIME"] {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").args(arguments).output().await.unwrap()
}

/// `registry seed` with the flags that all these tests share.
pub(crate) async fn seed(from: &str, to: &str, out: &Path, more: &[&str]) -> Output {
    let out = out.to_str().unwrap();
    let fixed = ["registry", "seed", "--allow-insecure-registry", "--from", from, "--to", to, "--out", out];
    autonomy(&[&fixed, more].concat()).await
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}
