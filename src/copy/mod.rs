//! The engine: copies content-addressed graphs from one store to another.
//!
//! Decide, then do. `graph` reads what there is to copy, `presence` what the sink holds, `plan` turns both into a
//! value that can be printed and compared, `transfer` carries it out, `report` says what happened. Events go up a
//! bounded channel that never holds the engine back.
//!
//! Knows stores, and neither HTTP nor files nor why something is copied. A node is put only after everything it refers
//! to, so that no reader of the sink ever sees half an image.

mod accessories;
mod compact;
mod event;
mod examine;
mod graph;
mod plan;
mod presence;
mod report;
mod schedule;
mod selection;
mod single_flight;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::error::{Result, Side};
use crate::oci::{Descriptor, Digest, Tag};
use crate::store::{Spool, Store};

pub use accessories::{Attached, AttachmentTags, KnownTags, attached, manifests, refers_to};
pub use compact::Slim;
pub use event::{Event, Events, ImageEnd, Stage};
pub use plan::{NodeFate, Plan, PlanStep, PlanTotals};
pub use presence::Presence;
pub use report::CopyReport;
pub use schedule::{Lanes, at_a_distance};
pub use selection::{Chosen, Selection, absent};
pub use single_flight::{Destination, Flights, Whereabouts};
pub use watch::Watch;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What may be in flight at once, together with all other copies on the same lanes.
    pub lanes: Lanes,
    /// What the sink's own manifests prove.
    pub presence: Presence,
    /// Where unfinished downloads are kept for a later run. Default none: bytes go from socket to socket.
    pub spool: Option<Spool>,
}

/// One graph to copy, with the tags that shall name its root.
#[derive(Debug, Clone)]
pub struct Target {
    /// The root.
    pub node: Descriptor,
    /// The root's bytes where they are at hand; they hash to `node.digest`.
    pub bytes: Option<Bytes>,
    /// Tags that the root is put under. Without any it is put by digest.
    pub tags: Vec<Tag>,
    /// What the sink holds in its place now: what the tag names, or `node` itself if it is known to be held.
    pub former: Option<Descriptor>,
}

/// Whether the tags that a run is about have begun to move: from there on a run is finished and not broken off, so that
/// "interrupted" always means that the tag is where it was.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    has_begun: Arc<AtomicBool>,
}

impl Commit {
    /// Says that the next thing sent may move a tag.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Whether a tag may have moved.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }
}

/// What to copy from where to where.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where content comes from.
    pub source: Arc<dyn Store>,
    /// Where it goes to.
    pub sink: Arc<dyn Store>,
    /// The sink as one repository of a registry, where other copies bring things to the same registry.
    pub site: Option<Destination>,
    /// The graphs. What they share is copied once.
    pub targets: Vec<Target>,
    /// Which entries of the targets' indexes are copied. Default all.
    pub selection: Selection,
    /// The root whose tags the run is about. Default the first target, whichever targets are taken out later.
    pub tagged: Option<Digest>,
    /// Told before the tags of that root move.
    pub commit: Commit,
    /// Tags that are looked at right before they move. Default the first target's, if it names another root.
    pub watched: Vec<Watch>,
    /// What [`plan`](plan()) has worked out for this very job. Without it that is done first.
    pub plan: Option<Arc<Plan>>,
}

impl Job {
    /// Copies `targets` from `source` to `sink`, with nobody else at work there.
    #[must_use]
    pub fn new(source: Arc<dyn Store>, sink: Arc<dyn Store>, targets: Vec<Target>) -> Self {
        let first = targets.first();
        Self {
            source,
            sink,
            site: None,
            tagged: first.map(|target| target.node.digest),
            watched: first.and_then(Watch::of).into_iter().collect(),
            targets,
            selection: Selection::default(),
            commit: Commit::default(),
            plan: None,
        }
    }
}

/// Works out what copying `job` will do, without moving a blob.
///
/// # Errors
///
/// Those of reading manifests, with the side they happened on.
pub async fn plan(job: &Job, options: &Options) -> Result<Plan> {
    let held = presence::held(job, options.presence).await?;
    let missing = presence::missing(job, options.presence).await?;
    let view = graph::View::Chosen(&job.selection);
    let graph = graph::Graph::read(&job.source, &missing, Some(&held), view).await;
    let graph = graph.map_err(|error| error.at(Side::Source))?;
    Ok(Plan::new(&graph, job, &held))
}

/// Copies `job`, as it is planned where it has a plan.
///
/// A sink that finds something missing under a manifest which was taken for complete is asked for every node, once.
///
/// # Errors
///
/// Those of both stores, with the side they happened on. Whatever arrived before stays; it is found again next time.
pub async fn copy(job: &Job, options: &Options, events: &Events) -> Result<CopyReport> {
    if let Some(lanes) = options.lanes.far() {
        // Made while the manifests are read: a round trip less for the first of the blobs.
        let count = presence::outlook(job, options.presence).min(lanes);
        [&job.source, &job.sink].into_iter().for_each(|end| end.expect(count));
    }
    let first = match &job.plan {
        Some(plan) => transfer::run(job, plan, options, events).await,
        None => attempt(job, options, events).await,
    };
    match first {
        Err(error) if options.presence == Presence::Vouched && transfer::may_lack(&error) => {
            events.send(Event::Warning(format!("{}; asking for every node", error.chain())));
            attempt(job, &Options { presence: Presence::EveryNode, ..options.clone() }, events).await
        }
        Ok(report) if options.presence == Presence::EveryNode => {
            Ok(CopyReport { bytes_not_read_back: report.bytes_present, ..report })
        }
        done => done,
    }
}

async fn attempt(job: &Job, options: &Options, events: &Events) -> Result<CopyReport> {
    let plan = plan(job, options).await?;
    events.send(Event::Planned(plan.totals.clone()));
    transfer::run(job, &plan, options, events).await
}
