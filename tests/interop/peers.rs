//! The peers: where their programs are, and how to start and stop their servers.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// This program, as built for the test.
pub(crate) const AUTONOMY: &str = env!("CARGO_BIN_EXE_autonomy");

/// This program linked statically; `AUTONOMY_STATIC` names it.
pub(crate) const STATIC: &str = "autonomy-static";

/// The folder of the peers' programs.
pub(crate) struct Peers {
    folder: Option<PathBuf>,
    fixed: Option<PathBuf>,
}

pub(crate) fn how_to_get(name: &str) -> &'static str {
    match name {
        "skopeo" => "Debian package skopeo",
        "docker-registry" => "Debian package docker-registry",
        "buildah" => "Debian package buildah",
        "fish" => "Debian package fish",
        "mandoc" => "Debian package mandoc",
        "systemd-analyze" => "Debian package systemd",
        "zsh" => "Debian package zsh",
        "tmux" => "Debian package tmux",
        "zot" => "name its binary in ZOT_BIN",
        STATIC => "build it as the README says, and name it in AUTONOMY_STATIC",
        "root" => "chroot and device nodes are root's alone",
        _ => "tests/peers builds it with Go 1.24 or newer",
    }
}

impl Peers {
    pub(crate) fn from_environment() -> Self {
        let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { folder: named("AUTONOMY_PEERS_BIN"), fixed: named("AUTONOMY_STATIC") }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match name {
            STATIC => self.fixed.is_some(),
            "root" => rustix::process::geteuid().is_root(),
            _ => self.folder.as_ref().is_some_and(|folder| folder.join(name).exists()),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name == STATIC { self.fixed.clone().unwrap() } else { self.folder.as_ref().unwrap().join(name) }
    }

    /// Runs a client and returns its output; panics with the output if the client fails.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.command(name).args(arguments).output().unwrap();
        assert!(output.status.success(), "{name} failed: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A client with an environment of its own: no credentials, no proxies, a known password for keys.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.stdin(Stdio::null()).env("COSIGN_PASSWORD", "").env_remove("REGISTRY_AUTH_FILE");
        command
    }
}

/// Both streams of a finished program.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Distribution2,
    Distribution3,
    Zot,
}

impl Kind {
    /// The registries that every signature check runs against.
    pub(crate) const MATRIX: [Self; 3] = [Self::Embedded, Self::Distribution2, Self::Distribution3];

    /// All registries that are installed.
    pub(crate) fn all(peers: &Peers) -> Vec<Self> {
        let program = |kind: &Self| kind.program().is_none_or(|name| peers.has(name));
        [Self::Embedded, Self::Distribution2, Self::Distribution3, Self::Zot].into_iter().filter(program).collect()
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Embedded => None,
            Self::Distribution2 => Some("docker-registry"),
            Self::Distribution3 => Some("registry3"),
            Self::Zot => Some("zot"),
        }
    }

    /// The name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Distribution2 => "distribution 2.8",
            Self::Distribution3 => "distribution 3",
            Self::Zot => "zot",
        }
    }
}

/// A registry that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) host: String,
    child: Child,
    _home: TempDir,
}

impl Server {
    pub(crate) fn start(peers: &Peers, kind: Kind) -> Self {
        Self::configured(peers, kind, "")
    }

    /// One of the two distributions with `more` appended to the `http` section of its configuration.
    pub(crate) fn configured(peers: &Peers, kind: Kind, more: &str) -> Self {
        Self::run(peers, kind, |text| text + more)
    }

    /// One of the two distributions as it is installed: it deletes nothing.
    pub(crate) fn start_without_deletion(peers: &Peers, kind: Kind) -> Self {
        Self::run(peers, kind, |text| text.replace("  delete:\n    enabled: true\n", ""))
    }

    fn run(peers: &Peers, kind: Kind, change: impl FnOnce(String) -> String) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let config = home.path().join("config");
        std::fs::write(&config, change(configuration(kind, &host, home.path()))).unwrap();
        let mut command = match kind.program() {
            None => {
                let mut command = Command::new(AUTONOMY);
                // On loopback the server only answers host names that a flag gives.
                command.args(["registry", "serve", "--listen", &host, "--host", "registry.site.example", "--data-dir"]);
                command.arg(home.path().join("data"));
                command
            }
            Some(name) => {
                let mut command = peers.command(name);
                command.arg("serve").arg(&config);
                command
            }
        };
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = Self { host, child, _home: home };
        server.wait();
        server
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(&self.host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no registry came up on {}", self.host);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(kind: Kind, host: &str, home: &Path) -> String {
    let storage = home.join("data");
    let storage = storage.display();
    match kind {
        Kind::Embedded => String::new(),
        Kind::Distribution2 | Kind::Distribution3 => format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {storage}\n  delete:\n    enabled: true\nhttp:\n  addr: {host}\n"
        ),
        Kind::Zot => {
            let (address, port) = host.split_once(':').unwrap();
            format!(
                r#"{{"distSpecVersion": "1.1.0", "storage": {{"rootDirectory": "{storage}"}}, "http": {{"address": "{address}", "port": "{port}", "compat": ["docker2s2"]}}, "log": {{"level": "error"}}}}"#
            )
        }
    }
}
