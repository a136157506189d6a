//! The two ends of a seed: their stores, and what speaking to them has cost.

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
    /// Where content comes from, as the registry tells it.
    pub(crate) origin: Arc<Registry>,
    /// The same, remembering what is small: verification and copy read it once.
    pub(crate) source: Arc<dyn ListingStore>,
    /// What it remembers.
    pub(crate) memory: Arc<Cached>,
    /// Where content goes. A run that keeps former roots has to know them; every other one takes a refusal to show a tag
    /// for its absence (contract §6).
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

    /// The source as the engine wants it.
    pub(crate) fn source(&self) -> Arc<dyn Store> {
        Arc::clone(&self.source) as _
    }

    /// Returns what the destination holds under `to`; none if nothing.
    pub(crate) async fn former(&self, to: &Reference) -> Result<Option<Descriptor>> {
        let held = store::find(self.sink.as_ref(), &to.name()).await;
        held.map_err(|error| unresolved(error, Side::Destination, to))
    }

    /// What the seed cost, for the record.
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

/// The words for the record, if `sink` has refused to show a tag and that was taken for its absence.
pub(crate) fn refusals(sink: &Registry) -> Option<String> {
    let words = "what the destination refuses to show (401 or 403) was taken for absent";
    sink.has_refused_tags().then(|| words.to_owned())
}

/// Where `registry` is found by movers that find their own way there.
pub(crate) fn place(reference: &Reference, registry: &Registry) -> Location {
    let scheme = match (registry.speaks_plain_http(), registry.may_log_in()) {
        (false, _) => LocationScheme::Https,
        (true, true) => LocationScheme::Http,
        (true, false) => LocationScheme::HttpWithoutLogin,
    };
    Location { repository: reference.repository.clone(), scheme }
}
