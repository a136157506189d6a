//! The two ends of a seed: their stores, and what speaking to them has cost.

use std::sync::Arc;
use std::time::Duration;

use super::hidden::Hidden;
use super::request::Seed;
use crate::document::Transfer;
use crate::oci::{Digest, Reference};
use crate::store::{Cached, Registry, Repository, Role, Store};
use crate::transport::{Carried, Place, Scheme};
use crate::wire::Client;

/// The two repositories.
#[derive(Debug)]
pub(super) struct Ends {
    /// Where content comes from, as the registry tells it.
    pub(super) origin: Arc<Registry>,
    /// The same, remembering what is small: verification and copy read it once.
    pub(super) source: Arc<dyn Repository>,
    /// What it remembers.
    pub(super) memory: Arc<Cached>,
    /// Where content goes.
    pub(super) sink: Arc<Registry>,
    /// What it refuses to show.
    pub(super) hidden: Arc<Hidden>,
}

impl Ends {
    pub(super) fn new(client: &Client, seed: &Seed) -> Self {
        let origin = Arc::new(Registry::new(client, &seed.from.repository, Role::Source));
        let sink = Arc::new(Registry::new(client, &seed.to.repository, Role::Sink));
        let memory = Arc::new(Cached::new(Arc::clone(&origin) as _));
        let hidden = Arc::new(Hidden::new(seed.tagging));
        Self { source: Arc::clone(&memory) as _, memory, origin, sink, hidden }
    }

    /// The source as the engine wants it.
    pub(super) fn source(&self) -> Arc<dyn Store> {
        Arc::clone(&self.source) as _
    }

    /// What the seed cost, for the record.
    pub(super) fn account(&self, carried: Carried, accessories: Vec<Digest>, spent: Duration) -> Transfer {
        let Carried { engine, report } = carried;
        let (source, sink) = (self.origin.tally(), self.sink.tally());
        Transfer {
            engine: engine.to_owned(),
            bytes_moved: report.bytes_moved,
            bytes_present: report.bytes_present,
            bytes_mounted: report.bytes_mounted,
            blobs: report.blobs,
            blobs_moved: report.blobs_moved,
            blobs_mounted: report.blobs_mounted,
            manifests: report.manifests,
            source_requests: source.requests,
            dest_requests: sink.requests,
            retries: source.retries + sink.retries,
            foreign_layers_left_out: report.foreign_left_out,
            bytes_spooled: report.bytes_spooled,
            bytes_not_read_back: report.bytes_not_read_back,
            seconds: (spent.as_secs_f64() * 1000.0).round() / 1000.0,
            accessories,
        }
    }
}

/// Where `registry` is found by movers that find their own way there.
pub(super) fn place(reference: &Reference, registry: &Registry) -> Place {
    let scheme = match (registry.speaks_plain_http(), registry.may_log_in()) {
        (false, _) => Scheme::Https,
        (true, true) => Scheme::Http,
        (true, false) => Scheme::HttpWithoutLogin,
    };
    Place { repository: reference.repository.clone(), scheme }
}
