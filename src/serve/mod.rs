//! An OCI distribution server on one folder (distribution-spec 1.1, HTTP/1.1).
//!
//! The folder holds one OCI image layout for each repository (see `data_dir.rs` for the scheme), so users can carry the
//! pushed content away and read it with other tools, and the server serves content that other tools put there. Bodies
//! are streamed; memory holds nothing but manifests, which are bounded.
//!
//! Acknowledged content is on disk: it survives `kill -9` and a power cut, and nothing else becomes visible. On a full
//! disk pushes are refused with 507 and leave nothing behind.
//!
//! No peer can hold more than a fair share: [`Limits`] bounds heads, silent and slow connections, the number of
//! connections and password checks.
//!
//! Knows stores, and nothing about copying.

mod access_log;
mod admission;
mod auth;
mod blob;
mod blob_doubts;
mod data_check;
mod data_dir;
mod data_dir_lock;
mod data_dir_survey;
mod dispatch;
mod error_response;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gc;
mod host_check;
mod listing;
mod manifest;
mod memory_budget;
mod profile;
mod query;
mod reader;
mod reply;
mod route;
mod state;
#[cfg(feature = "testkit")]
pub mod testkit;
mod upload;
mod upload_files;
mod upload_quota;
mod upload_session;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use tokio::net::TcpListener;

pub use self::access_log::{AccessLog, AccessRecord};
pub use self::admission::{Admission, Pull, PullRefusal, PulledContent};
pub use self::data_check::{Auditor, Damage, DataAudit, NodeFault, Note, User};
use self::data_dir::DataDir;
use self::data_dir_lock::Residence;
pub use self::gc::{
    Collected, CollectedRepository, Collection, Effect, KeptManifests, LEAST_AGE, Swept, Uploads, collect,
};
use self::host_check::AllowedHosts;
pub(crate) use self::host_check::name_of;
pub use self::profile::{AfterCut, Profile, ServerAuth};
pub use self::reader::{BlobReader, RegistryReader};
pub use self::route::Route;
pub use self::state::Hooks;
use self::state::{RegistryWriter, ServerState};
use self::upload_session::UploadSessions;
use crate::disk::reload::{Reloaded, Reread};
use crate::disk::{DiskRoot, blocking};
use crate::error::{Error, Kind, Result};
use crate::http_server::acceptor::Acceptor;
use crate::http_server::htpasswd::Htpasswd;
pub use crate::http_server::limits::Limits;
use crate::http_server::password_check::Logins;
pub use crate::http_server::tls::ServerCertificates;
use crate::http_server::tls::ServerTls;

/// Docker's own clients need it from `/v2/`: `docker manifest` works with no registry that does not send it
/// (docker/cli#3161).
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Longest time between two sweeps of abandoned uploads.
const SWEEP: Duration = Duration::from_secs(900);

/// The content of a server.
#[derive(Debug, Clone)]
pub enum ServedContent {
    /// A folder that holds everything, for reading and writing. Created if it does not exist.
    DataDir(PathBuf),
    /// The same folder for reading alone: everything else is refused (405 `UNSUPPORTED`). It may be on a read-only
    /// medium.
    ReadOnlyDataDir(PathBuf),
    /// Any other place of content, for reading alone.
    Reader(Arc<dyn RegistryReader>),
}

/// The options of a server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The content.
    pub content: ServedContent,
    /// Address and port to listen at; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names that the server answers to besides `localhost` and loopback addresses, if it listens on loopback. Default
    /// none.
    pub hosts: Vec<String>,
    /// Choices that the specification leaves open.
    pub behaviour: Profile,
    /// The certificates for TLS. Default none: plain HTTP.
    pub tls: Option<ServerCertificates>,
    /// The users (an htpasswd file, bcrypt only); replaces `behaviour.auth`. Default none.
    pub htpasswd: Option<PathBuf>,
    /// The limits for one peer and for all.
    pub limits: Limits,
    /// Decisions and records that are not the server's own. Default none.
    pub hooks: Hooks,
}

impl ServeOptions {
    /// Serves `data_dir` at `listen`, for reading and writing, without authentication.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self::serving(ServedContent::DataDir(data_dir.into()), listen)
    }

    /// Serves `content` at `listen`, without authentication.
    #[must_use]
    pub fn serving(content: ServedContent, listen: SocketAddr) -> Self {
        Self {
            content,
            listen,
            hosts: Vec::new(),
            behaviour: Profile::default(),
            tls: None,
            htpasswd: None,
            limits: Limits::default(),
            hooks: Hooks::default(),
        }
    }
}

/// A server that listens, but answers nothing until [`run`](Self::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<ServerState>,
    router: Router,
    tls: Option<Arc<ServerTls>>,
    _residence: Option<Residence>,
}

fn unusable(folder: &DiskRoot, why: Error) -> Error {
    let told = Error::new(Kind::Local, "open the data folder").on(folder.path().display()).because(why);
    told.hint("name a folder that this user may write to, or one that can be made")
}

impl Server {
    /// Binds the port and opens the data folder. Waits for a garbage collection that holds the folder exclusively.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the port is taken or the folder cannot be written, [`Usage`](Kind::Usage) if
    /// certificates or passwords cannot be used.
    pub async fn bind(options: ServeOptions) -> Result<Self> {
        let ServeOptions { content, listen, hosts, behaviour, tls, htpasswd, limits, hooks } = options;
        let folder = match &content {
            ServedContent::DataDir(folder) | ServedContent::ReadOnlyDataDir(folder) => Some(folder.clone()),
            ServedContent::Reader(_) => None,
        };
        let (tls, logins) = blocking(move || {
            let tls = tls.as_ref().map(ServerTls::open).transpose()?;
            let users = htpasswd.map(|path| Reloaded::open(vec![path], Htpasswd::read)).transpose()?;
            Ok((tls.map(Arc::new), users.map(Logins::new).transpose()?))
        })
        .await?;
        let failed = |why: std::io::Error| {
            let told = Error::new(Kind::Local, "listen at").on(listen).because(why);
            told.hint("is another server running there? name another port, or 0 for any")
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (reader, writer, residence) = open(content, limits).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = Arc::new(ServerState {
            reader,
            writer,
            metrics: Arc::default(),
            memory: memory_budget::MemoryBudget::default(),
            hosts: AllowedHosts::new(address.ip(), &hosts),
            gate: auth::Gate::new(behaviour.auth.clone(), format!("{scheme}://{address}"), logins),
            behaviour,
            limits,
            hooks,
            tls: tls.clone(),
            folder,
        });
        let router = Router::new().fallback(dispatch::dispatch).with_state(Arc::clone(&service));
        Ok(Self { listener, address, service, router, tls, _residence: residence })
    }

    /// Returns the address that it listens at, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address as a URL: `https://` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Whether users have to log in.
    #[must_use]
    pub fn asks_for_logins(&self) -> bool {
        !self.service.gate.is_open()
    }

    /// Returns a handle on the files that the server reads again while it runs.
    #[must_use]
    pub fn files(&self) -> ServerFiles {
        ServerFiles(Arc::clone(&self.service))
    }

    /// Answers requests until `shutdown` is ready, then gives requests in flight a grace period. No task goes on
    /// afterwards.
    ///
    /// # Errors
    ///
    /// None today: an error on one connection ends that connection.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Self { listener, service, router, tls, _residence, .. } = self;
        let limits = service.limits;
        let open = Arc::clone(&service.metrics.connections);
        let acceptor = Acceptor { router, tls, limits, open };
        let sweeping = async {
            let pause = SWEEP.min(limits.upload_expiry / 4).max(Duration::from_millis(100));
            let Some(writer) = &service.writer else { return std::future::pending().await };
            loop {
                tokio::time::sleep(pause).await;
                writer.sessions.sweep(limits.upload_expiry).await;
            }
        };
        tokio::select! {
            () = acceptor.run(listener, shutdown) => Ok(()),
            () = sweeping => Ok(()),
        }
    }
}

/// The files that a server reads again while it runs: certificates, their key and CA, and users.
#[derive(Debug)]
pub struct ServerFiles(Arc<ServerState>);

impl ServerFiles {
    /// Reads the files again, changed or not. Returns why files cannot be used: their former content stays in force, and
    /// `/readyz` answers 503 until they are mended.
    pub async fn read_again(&self) -> Vec<String> {
        self.0.faults(Reread::Now).await
    }
}

type Opened = (Arc<dyn RegistryReader>, Option<RegistryWriter>, Option<Residence>);

/// Opens the content, and its write side if it has one.
async fn open(content: ServedContent, limits: Limits) -> Result<Opened> {
    let folder = match content {
        ServedContent::DataDir(folder) => DiskRoot::at(folder),
        ServedContent::ReadOnlyDataDir(folder) => {
            return Ok((Arc::new(DataDir::new(&DiskRoot::at(folder))), None, None));
        }
        ServedContent::Reader(reader) => return Ok((reader, None, None)),
    };
    let residence = move_in(&folder).await?;
    let data_dir = Arc::new(DataDir::new(&folder));
    let sessions = UploadSessions::new(data_dir_survey::uploads(&folder), limits);
    sessions.sweep(limits.upload_expiry).await;
    sessions.count_left().await?;
    Ok((Arc::clone(&data_dir) as _, Some(RegistryWriter { data_dir, sessions }), Some(residence)))
}

/// Locks the folder, creates what is missing and removes files that crashes left.
async fn move_in(data_dir: &DiskRoot) -> Result<Residence> {
    let unusable = |why| unusable(data_dir, why);
    data_dir::prepare(data_dir).await.map_err(unusable)?;
    let folder = data_dir.clone();
    blocking(move || Residence::shared(&folder)).await.map_err(unusable)
}
