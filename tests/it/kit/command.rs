//! The program, run to its end, and a store to publish images to.

use std::path::Path;
use std::process::Output;

use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, ClientOptions};
use futures_util::{StreamExt as _, stream};
use tokio::process::Command;

/// A store over this program's own client, to publish images to seed.
pub(crate) fn publisher(bed: &Testbed, path: &str) -> Registry {
    let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
    Registry::new(&client, &bed.repository(path), Role::Sink)
}

/// The program without anything of its user's: no login, no home, no time of trust.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomy"));
    let own = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("AUTONOMY_"));
    for name in own.chain(["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"].map(Into::into)) {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").args(arguments);
    command
}

/// Runs the program to its end.
pub(crate) async fn autonomy(arguments: &[&str]) -> Output {
    program(arguments).output().await.unwrap()
}

/// `registry seed` with the flags that all these tests share.
pub(crate) async fn seed(from: &str, to: &str, out: &Path, more: &[&str]) -> Output {
    seeding(from, to, out, more).output().await.unwrap()
}

/// The command of [`seed`]. It waits for a registry that stays away as long as for a few tries.
pub(crate) fn seeding(from: &str, to: &str, out: &Path, more: &[&str]) -> Command {
    let out = out.to_str().unwrap();
    let fixed = ["registry", "seed", "--allow-insecure-registry", "--from", from, "--to", to, "--out", out];
    program(&[&fixed, &SHORT_WAIT[..], more].concat())
}

/// The flag for a short wait for a registry that stays away. A pause of a second that it asks for fits in.
pub(crate) const SHORT_WAIT: [&str; 2] = ["--retry-for", "3s"];

/// `bundle seal` with this password in the environment.
pub(crate) async fn seal(reference: &str, key: &Path, password: &str, more: &[&str]) -> Output {
    let fixed = ["bundle", "seal", reference, "--key", key.to_str().unwrap()];
    program(&[&fixed, more].concat()).env("COSIGN_PASSWORD", password).output().await.unwrap()
}

/// Runs `check` on every case, eight at a time: most of their time they wait before a retry.
pub(crate) async fn each_at_once<T, F: Future<Output = ()>>(
    cases: impl IntoIterator<Item = T>,
    check: impl FnMut(T) -> F,
) {
    stream::iter(cases).for_each_concurrent(8, check).await;
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}

/// The names of a command's subcommands, as its help lists them.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next().map(str::to_owned)
    });
    names.filter(|name| name != "help").collect()
}

/// Every command without subcommands, with its help.
pub(crate) async fn commands() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::<String>::new()];
    while let Some(command) = open.pop() {
        let words: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = text(&autonomy(&words).await);
        let below = subcommands(&help);
        if below.is_empty() {
            found.push((command.clone(), help));
        }
        open.extend(below.into_iter().map(|name| [&command[..], &[name]].concat()));
    }
    found
}
