//! The two ends of a seed: their stores, and the cost of the requests to them.

use std::sync::Arc;
use std::time::Duration;

use super::explain::unresolved;
use super::request::Seed;
use super::request::Tagging;
use crate::document::Transfer;
use crate::error::{Result, Side};
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::{self, Cached, ListingStore, Registry, Role, Store};
use crate::transport::{Carried, Location, LocationScheme};
use crate::wire::Client;

/// The two repositories.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The source registry, without a cache.
    pub(crate) origin: Arc<Registry>,
    /// The source with a cache of small content: verification and copy read it only once.
    pub(crate) source: Arc<dyn ListingStore>,
    /// The cache.
    pub(crate) memory: Arc<Cached>,
    /// The destination. A run that keeps former roots must know them; every other run takes a refusal to show a tag as
    /// its absence (contract §6).
    pub(crate) sink: Arc<Registry>,
}

impl Endpoints {
    pub(crate) fn new(client: &Client, seed: &Seed) -> Self {
        let origin = Arc::new(Registry::new(client, &seed.from.repository, Role::Source));
        let sink = Registry::new(client, &seed.to.repository, Role::Sink);
        let sink = if seed.tagging == Tagging::Plain { sink.taking_refused_tags_for_absent() } else { sink };
        let memory = Arc::new(Cached::new(Arc::clone(&origin) as _));
        Self { source: Arc::clone(&memory) as _, memory, origin, sink: Arc::new(sink) }
    }

    /// Returns the source as a plain store, for the engine.
    pub(crate) fn source(&self) -> Arc<dyn Store> {
        Arc::clone(&self.source) as _
    }

    /// Returns the node that `to` names at the destination; `None` if nothing.
    pub(crate) async fn former(&self, to: &Reference) -> Result<Option<Descriptor>> {
        let held = store::find(self.sink.as_ref(), &to.name()).await;
        held.map_err(|error| unresolved(error, Side::Destination, to))
    }

    /// Returns the cost of the seed, for the record.
    pub(crate) fn account(&self, carried: Carried, accessories: Vec<Digest>, spent: Duration) -> Transfer {
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

/// Returns the text for the record, if `sink` has refused to show a tag and that was taken as its absence.
pub(crate) fn refusals(sink: &Registry) -> Option<String> {
    let words = "what the destination refuses to show (401 or 403) was taken for absent";
    sink.has_refused_tags().then(|| words.to_owned())
}

/// Returns the location of `registry`, for transports that open their own connections.
pub(crate) fn place(reference: &Reference, registry: &Registry) -> Location {
    let scheme = match (registry.speaks_plain_http(), registry.may_log_in()) {
        (false, _) => LocationScheme::Https,
        (true, true) => LocationScheme::Http,
        (true, false) => LocationScheme::HttpWithoutLogin,
    };
    Location { repository: reference.repository.clone(), scheme }
}
