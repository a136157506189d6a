//! The server as a test bed: on a free port over a temporary folder, with a log of requests and a script of faults.
//!
//! It is the same server behind one layer; [`Profile`] covers the differences of registries in the field. It runs on
//! threads of its own, so that a test may pause its clock, and stops with all its connections when it is dropped.

mod fault;
mod inject;
mod log;
mod made_up;
mod random_faults;
mod script;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::middleware;
use tokio::runtime::Runtime;

pub use self::fault::{Fault, What};
pub use self::log::{Kind, Seen};
use self::random_faults::Weather;
use self::script::Script;
use super::data_dir::DataDir;
use super::{Profile, ServeOptions, Server};
use crate::oci::Repository;
use crate::store::Layout;

/// A running server for tests.
#[derive(Debug)]
pub struct Testbed {
    host: String,
    data_dir: PathBuf,
    script: Arc<Script>,
    /// None once the drop has begun.
    runtime: Option<Runtime>,
    _folder: Option<tempfile::TempDir>,
}

impl Testbed {
    /// Starts a server with our own defaults.
    ///
    /// # Panics
    ///
    /// If there is no free port or no temporary folder, as all functions that start one.
    pub async fn start() -> Self {
        Self::with(Profile::default()).await
    }

    /// Starts a server with other choices.
    ///
    /// # Panics
    ///
    /// As [`Testbed::start`].
    #[expect(clippy::expect_used, reason = "a test that cannot begin has failed")]
    pub async fn with(behaviour: Profile) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut testbed = Self::over(folder.path(), behaviour).await;
        testbed._folder = Some(folder);
        testbed
    }

    /// Starts a server over a folder that stays, such as one that another server has left.
    ///
    /// # Panics
    ///
    /// As [`Testbed::start`].
    #[expect(clippy::expect_used, reason = "a test that cannot begin has failed")]
    pub async fn over(data_dir: &Path, behaviour: Profile) -> Self {
        let mut options = ServeOptions::new(data_dir, ([127, 0, 0, 1], 0).into());
        let script = Script::new(&behaviour);
        options.behaviour = behaviour;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("testbed")
            .enable_all()
            .build()
            .expect("a runtime");
        let bound = runtime.spawn(Server::bind(options)).await;
        let mut server = bound.expect("the server's task").expect("a port and a folder");
        let script = Arc::new(script);
        server.router = server.router.layer(middleware::from_fn_with_state(Arc::clone(&script), script::intercept));
        let host = server.address().to_string();
        runtime.spawn(server.run(std::future::pending()));
        Self { host, data_dir: data_dir.to_owned(), script, runtime: Some(runtime), _folder: None }
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns a repository on this server.
    ///
    /// # Panics
    ///
    /// If `path` cannot be a repository's.
    #[must_use]
    #[expect(clippy::expect_used, reason = "tests name their repositories in the source")]
    pub fn repository(&self, path: &str) -> Repository {
        Repository { host: self.host.clone(), path: path.parse().expect("a repository path") }
    }

    /// Returns the folder of a repository, for writing and reading content there without the server.
    #[must_use]
    pub fn layout(&self, path: &str) -> Layout {
        DataDir::layout_in(&crate::disk::DiskRoot::at(&self.data_dir), &self.repository(path).path)
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns every request so far, in the order of arrival.
    #[must_use]
    pub fn log(&self) -> Vec<Seen> {
        self.script.log()
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.log().len()
    }

    /// Returns the number of requests of that kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.log().iter().filter(|seen| seen.kind == kind).count()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.script.clear();
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.script.add(fault);
    }

    /// Adds random faults to requests without a planned fault, with this chance (0.02 is one of fifty): an error
    /// status, a reset, a cut, damage, a delay, a portal's page. The same `seed` gives the same faults.
    pub fn weather(&self, chance: f64, seed: u64) {
        self.script.set(Weather::new(chance, seed));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.script.heal();
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait: a test may drop this on a thread that must not block.
            runtime.shutdown_background();
        }
    }
}
