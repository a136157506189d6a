//! State that all requests share.

use std::sync::Arc;

use super::auth::Gate;
use super::data_dir::Registry;
use super::host_check::Hosts;
use super::memory_budget::Memory;
use super::profile::Behaviour;
use super::upload_session::Sessions;
use crate::http_server::limits::Limits;
use crate::http_server::metrics::Metrics;

/// The server behind its connections.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: Memory,
    pub(super) behaviour: Behaviour,
    pub(super) hosts: Hosts,
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    pub(super) is_read_only: bool,
}
