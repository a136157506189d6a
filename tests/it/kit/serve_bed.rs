//! The server with the options of a test: in this process, or as the real program.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use autonomy_registry::Result;
use autonomy_registry::serve::{ServeOptions, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest time for any step: a hang becomes a named failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server in this process. Stops when dropped, or gracefully on request.
pub(crate) struct Running {
    /// `127.0.0.1:<port>`.
    pub(crate) host: String,
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    pub(crate) async fn start(data_dir: &Path, change: impl FnOnce(&mut ServeOptions)) -> Self {
        let mut options = ServeOptions::new(data_dir, ([127, 0, 0, 1], 0).into());
        change(&mut options);
        let server = Server::bind(options).await.unwrap();
        let (host, url) = (server.address().to_string(), server.url());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async { stopped.await.unwrap_or_default() }));
        Self { host, url, stop: Some(stop), task }
    }

    /// Requests shutdown.
    pub(crate) fn tell(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has stopped.
    pub(crate) async fn ended(self) {
        let Self { task, .. } = self;
        tokio::time::timeout(PATIENCE, task).await.expect("the server ends").unwrap().unwrap();
    }
}

/// The program. Killed when it is dropped.
pub(crate) struct Program {
    child: Mutex<Child>,
    pub(crate) url: String,
}

impl Program {
    /// `registry serve` over `data_dir` on a free port.
    pub(crate) fn start<S: AsRef<OsStr>>(data_dir: &Path, more: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomy"));
        command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir).args(more);
        Self::run(command)
    }

    /// A command that becomes the server.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        Self { child: Mutex::new(child), url }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let begun = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}
