//! State that all requests share.

use std::path::PathBuf;
use std::sync::Arc;

use super::access_log::AccessLog;
use super::admission::{Admission, Pull, PulledContent};
use super::auth::Gate;
use super::data_dir::DataDir;
use super::error_response::ErrorResponse;
use super::host_check::AllowedHosts;
use super::memory_budget::MemoryBudget;
use super::profile::Profile;
use super::reader::RegistryReader;
use super::upload_quota::SessionOwner;
use super::upload_session::UploadSessions;
use crate::disk::reload::Reread;
use crate::disk::{self, blocking};
use crate::http_server::limits::Limits;
use crate::http_server::metrics::{Metrics, StoredContent};
use crate::http_server::tls::ServerTls;
use crate::oci::{Digest, Name, RepositoryPath};
use crate::store::{self, Layout, PagedStore};

/// Decisions and records that are not the server's own.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Decides about pulls. Default none: everything is given out.
    pub admission: Option<Arc<dyn Admission>>,
    /// Takes a record of each request. Default none.
    pub access_log: Option<Arc<dyn AccessLog>>,
}

/// The server behind its connections.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) reader: Arc<dyn RegistryReader>,
    /// None if the server only reads.
    pub(super) writer: Option<RegistryWriter>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: MemoryBudget,
    pub(super) behaviour: Profile,
    pub(super) hosts: AllowedHosts,
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    pub(super) hooks: Hooks,
    pub(super) tls: Option<Arc<ServerTls>>,
    /// The data folder, if the content is in one.
    pub(super) folder: Option<PathBuf>,
}

/// The write side of a server: a data folder, and the uploads to it.
#[derive(Debug)]
pub(super) struct RegistryWriter {
    pub(super) data_dir: Arc<DataDir>,
    pub(super) sessions: UploadSessions,
}

/// A repository that a request writes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteTarget<'a> {
    pub(super) service: &'a ServerState,
    pub(super) writer: &'a RegistryWriter,
    pub(super) repository: &'a RepositoryPath,
}

impl WriteTarget<'_> {
    /// Returns the repository, or 404.
    pub(super) async fn existing(&self) -> Result<Layout, ErrorResponse> {
        let found = self.writer.data_dir.existing(self.repository).await?;
        found.ok_or_else(|| ErrorResponse::name_unknown(self.repository))
    }
}

impl ServerState {
    /// Returns why files that are read while the server runs cannot be used as they are now. Their former content stays in
    /// force.
    pub(super) async fn faults(&self, reread: Reread) -> Vec<String> {
        let tls = match &self.tls {
            Some(tls) => tls.fault(reread).await,
            None => None,
        };
        tls.into_iter().chain(self.gate.fault(reread).await).collect()
    }

    /// Returns figures of the content, for the metrics. A figure that cannot be had is left out.
    pub(super) async fn stored(&self) -> StoredContent {
        let repositories = match self.memory.walk().await {
            Ok(_alone) => self.reader.repositories().await.ok().map(|all| all.len() as u64),
            Err(_) => None,
        };
        let Some(folder) = self.folder.clone() else { return StoredContent { repositories, disk: None } };
        let disk = blocking(move || Ok(disk::space_of(&folder))).await.ok().flatten();
        StoredContent { repositories, disk }
    }

    /// Returns a repository, or 404.
    pub(super) async fn existing(&self, path: &RepositoryPath) -> Result<Arc<dyn PagedStore>, ErrorResponse> {
        self.reader.open(path).await?.ok_or_else(|| ErrorResponse::name_unknown(path))
    }

    /// Asks whether the content of that digest may be given out: as a manifest if the repository knows it as one.
    pub(super) async fn admit_blob(
        &self,
        client: &SessionOwner,
        repository: &RepositoryPath,
        digest: &Digest,
        is_head: bool,
    ) -> Result<(), ErrorResponse> {
        if self.hooks.admission.is_none() {
            return Ok(());
        }
        let name = Name::Digest(*digest);
        let known = store::find(&*self.existing(repository).await?, &name).await?;
        let content = known.as_ref().map_or(PulledContent::Blob(digest), |node| PulledContent::Manifest(&name, node));
        self.admit(Pull { user: client.user(), repository, content, is_head }).await
    }

    /// Asks whether the content may be given out.
    pub(super) async fn admit(&self, pull: Pull<'_>) -> Result<(), ErrorResponse> {
        match &self.hooks.admission {
            Some(admission) => Ok(admission.pull(&pull).await?),
            None => Ok(()),
        }
    }
}
