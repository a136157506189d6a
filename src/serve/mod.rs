//! An OCI distribution server on one folder (distribution-spec 1.1, HTTP/1.1).
//!
//! The folder holds one OCI image layout for each repository (see `registry.rs` for the scheme), so what was pushed can
//! be carried away and read with other tools, and what other tools put there is served. Bodies are streamed; nothing but
//! manifests, which are bounded, is ever held in memory.
//!
//! What was acknowledged is on disk: it outlives `kill -9` and a power cut, and nothing else becomes visible.
//!
//! Knows stores, and nothing about copying.

mod auth;
mod behaviour;
mod blob;
mod connection;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod listing;
mod manifest;
mod metrics;
mod problem;
mod registry;
mod route;
mod service;
mod session;
#[cfg(feature = "testkit")]
pub mod testkit;
mod upload;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use self::behaviour::{AfterCut, Auth, Behaviour};
use self::connection::Watching;
use self::service::Service;
use crate::error::{Error, Kind, Result};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// How long requests in flight may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How often abandoned uploads are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that holds everything. Made if it is not there, unless the server is read-only.
    pub data_dir: PathBuf,
    /// Address and port to listen at; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether everything but reading is refused (405 `UNSUPPORTED`). Default false.
    pub is_read_only: bool,
    /// Choices that the specification leaves open.
    pub behaviour: Behaviour,
}

impl Options {
    /// Serves `data_dir` at `listen`, for reading and writing, to everybody.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self { data_dir: data_dir.into(), listen, is_read_only: false, behaviour: Behaviour::default() }
    }
}

/// A server that listens, but does not answer before it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    router: Router,
}

fn unusable(folder: &Path, why: Error) -> Error {
    let told = Error::new(Kind::Local, "open the data folder").on(folder.display()).because(why);
    told.hint("name a folder that this user may write to, or one that can be made")
}

impl Server {
    /// Takes the port and opens the data folder.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the port is taken or the folder cannot be written.
    pub async fn bind(options: Options) -> Result<Self> {
        let failed = |why: std::io::Error| {
            let told = Error::new(Kind::Local, "listen at").on(options.listen).because(why);
            told.hint("is another server running there? name another port, or 0 for any")
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Read-only means the folder too: it may be a medium that cannot be written.
        if !options.is_read_only {
            registry::prepare(&options.data_dir).await.map_err(|why| unusable(&options.data_dir, why))?;
        }
        let service = Arc::new(Service {
            registry: registry::Registry::new(&options.data_dir),
            sessions: session::Sessions::new(registry::uploads(&options.data_dir)),
            metrics: Arc::default(),
            gate: auth::Gate::new(options.behaviour.auth.clone(), format!("http://{address}")),
            behaviour: options.behaviour,
            is_read_only: options.is_read_only,
        });
        let router = Router::new().fallback(service::dispatch).with_state(Arc::clone(&service));
        Ok(Self { listener, address, service, router })
    }

    /// Where it listens; with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is ready, and then for a moment those that are under way.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if listening fails altogether.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Self { listener, service, router, .. } = self;
        let stopping = Arc::new(Notify::new());
        let told = Arc::clone(&stopping);
        let serving = axum::serve(Watching(listener), router).with_graceful_shutdown(async move {
            shutdown.await;
            told.notify_one();
        });
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                service.sessions.sweep().await;
            }
        };
        tokio::select! {
            served = serving => served.map_err(|why| Error::new(Kind::Local, "serve").because(why)),
            () = async { stopping.notified().await; tokio::time::sleep(GRACE).await; } => Ok(()),
            () = sweeping => Ok(()),
        }
    }
}
