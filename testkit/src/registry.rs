//! Registries to copy between, each with its storage in memory where there is room.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::runtime::Handle;

use crate::tls::{Authority, Tunnel};

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Distribution 2.8 (Debian package docker-registry)
    #[value(name = "2.8.2")]
    Distribution2,
    /// Distribution 3.1
    #[value(name = "3.1.2")]
    Distribution3,
    /// `autonomy registry serve`
    #[value(name = "embedded")]
    Embedded,
    /// The binary that ZOT_BIN names
    #[value(name = "zot")]
    Zot,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Distribution2 => "2.8.2",
            Self::Distribution3 => "3.1.2",
            Self::Embedded => "embedded",
            Self::Zot => "zot",
        }
    }

    /// Its program, if installed; `autonomy` is the path of this project's.
    pub fn program(self, autonomy: &str) -> Option<PathBuf> {
        match self {
            Self::Distribution2 => find("docker-registry"),
            Self::Distribution3 => find("registry3"),
            Self::Embedded => Some(autonomy.into()),
            Self::Zot => std::env::var_os("ZOT_BIN").map(PathBuf::from).or_else(|| find("zot")),
        }
    }
}

/// The program of that name: in the folder of peers that `tests/peers` fills, or in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let peers = std::env::var_os("AUTONOMY_PEERS_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = peers.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A folder of our own, in memory if possible.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    // With a fixed prefix, so that leftovers of an aborted run are recognizable.
    let mut named = tempfile::Builder::new();
    named.prefix("autonomy-peers-");
    if memory.is_dir() { named.tempdir_in(memory) } else { named.tempdir() }.unwrap()
}

/// A registry that runs until it is dropped: on a new port and a new folder, so that no tool can use its cache of an
/// earlier run.
#[derive(Debug)]
pub struct Server {
    pub host: String,
    /// The tunnel around its TLS, where it has that.
    tunnel: Option<Tunnel>,
    command: Command,
    child: Child,
    home: tempfile::TempDir,
}

impl Server {
    /// Starts one; `autonomy` is the path of this project's program.
    ///
    /// # Panics
    ///
    /// If its program is missing, or does not come up.
    pub fn start(kind: Kind, autonomy: &str) -> Self {
        Self::begin(kind, autonomy, None)
    }

    /// The same with TLS.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_secured(kind: Kind, autonomy: &str, authority: &Authority, runtime: &Handle) -> Self {
        let mut server = Self::begin(kind, autonomy, Some(authority));
        server.tunnel = Some(Tunnel::open(runtime, &server.host, authority));
        server
    }

    /// Its address without TLS: not for tools.
    pub fn plain_host(&self) -> &str {
        self.tunnel.as_ref().map_or(&self.host, |tunnel| &tunnel.host)
    }

    /// Its storage folder.
    pub fn data(&self) -> PathBuf {
        data_below(self.home.path())
    }

    fn begin(kind: Kind, autonomy: &str, authority: Option<&Authority>) -> Self {
        let home = folder();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (config, data) = (home.path().join("config"), data_below(home.path()));
        std::fs::write(&config, configuration(kind, &host, &data, authority)).unwrap();
        let mut command = Command::new(kind.program(autonomy).unwrap());
        if kind == Kind::Embedded {
            command.args(["registry", "serve", "--listen", &host, "--data-dir"]).arg(data);
            if let Some(authority) = authority {
                command.arg("--tls-cert").arg(authority.certificate()).arg("--tls-key").arg(authority.key());
            }
        } else {
            command.arg("serve").arg(&config);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { host, tunnel: None, command, child, home };
        server.wait();
        server
    }

    /// Kills it, and starts it again on the same port and folder after so long.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn restart(&mut self, away: Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::thread::sleep(away);
        self.child = self.command.spawn().unwrap();
        self.wait();
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(&self.host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no registry came up on {}", self.host);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn data_below(home: &Path) -> PathBuf {
    home.join("data")
}

fn configuration(kind: Kind, host: &str, data: &Path, authority: Option<&Authority>) -> String {
    let data = data.display();
    let files = authority.map(|authority| [authority.certificate(), authority.key()]);
    let files = files.as_ref().map(|files| files.each_ref().map(|file| file.display()));
    match kind {
        Kind::Embedded => String::new(),
        Kind::Distribution2 | Kind::Distribution3 => {
            let tls = files.map_or_else(String::new, |[certificate, key]| {
                format!("  tls:\n    certificate: {certificate}\n    key: {key}\n")
            });
            format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {data}\nhttp:\n  addr: {host}\n{tls}"
            )
        }
        Kind::Zot => {
            let (address, port) = host.split_once(':').unwrap();
            let tls = files.map_or_else(String::new, |[certificate, key]| {
                format!(r#", "tls": {{"cert": "{certificate}", "key": "{key}"}}"#)
            });
            format!(
                r#"{{"distSpecVersion": "1.1.0", "storage": {{"rootDirectory": "{data}"}}, "http": {{"address": "{address}", "port": "{port}"{tls}}}, "log": {{"level": "error"}}}}"#
            )
        }
    }
}
