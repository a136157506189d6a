//! State that all requests share.

use std::sync::Arc;

use super::auth::Gate;
use super::data_dir::DataDir;
use super::host_check::AllowedHosts;
use super::memory_budget::MemoryBudget;
use super::profile::Profile;
use super::upload_session::UploadSessions;
use crate::http_server::limits::Limits;
use crate::http_server::metrics::Metrics;

/// The server behind its connections.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) registry: DataDir,
    pub(super) sessions: UploadSessions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: MemoryBudget,
    pub(super) behaviour: Profile,
    pub(super) hosts: AllowedHosts,
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    pub(super) is_read_only: bool,
}
