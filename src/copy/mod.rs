//! The engine: copies content-addressed graphs from one store to another.
//!
//! Decide, then do. `graph` reads what there is to copy, `presence` finds what the sink holds, `plan` turns both into a
//! value that can be printed and compared, `transfer` carries it out, `report` counts the results. Events go up a bounded
//! channel that never blocks the engine.
//!
//! Knows stores; knows neither HTTP nor files nor why something is copied. Puts a node only after everything it refers
//! to, so that no reader of the sink ever sees half an image.

mod accessories;
mod compact;
mod event;
mod examine;
mod graph;
mod layer_place;
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
use crate::spool::Spool;
use crate::store::Store;

pub use accessories::{Attached, AttachmentTags, KnownTags, attached, manifests, refers_to};
pub use compact::Slim;
pub use event::{Event, Events, ImageEnd, Message, Stage};
pub use layer_place::LayerPlace;
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
    /// Limits on work in flight, shared with all other copies on the same lanes.
    pub lanes: Lanes,
    /// How far the sink's own manifests are trusted.
    pub presence: Presence,
    /// Where unfinished downloads are kept for a later run. Default none: bytes go from socket to socket.
    pub spool: Option<Spool>,
}

/// One graph to copy, with the tags for its root.
#[derive(Debug, Clone)]
pub struct Target {
    /// The root.
    pub node: Descriptor,
    /// The root's bytes if they are known; they hash to `node.digest`.
    pub bytes: Option<Bytes>,
    /// Tags to put the root under. If empty, the root is put by digest.
    pub tags: Vec<Tag>,
    /// The node that the tag names at the sink now, or `node` itself if the sink is known to hold it.
    pub former: Option<Descriptor>,
}

/// Whether the tags that this run is about have begun to move. From then on an interrupt does not end the run, so that
/// "interrupted" always means that the tag was not moved.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    has_begun: Arc<AtomicBool>,
}

impl Commit {
    /// Records that the next request may move a tag.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Returns whether a tag may have moved.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }
}

/// A copy: content, source and destination.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where content comes from.
    pub source: Arc<dyn Store>,
    /// Where it goes.
    pub sink: Arc<dyn Store>,
    /// The sink as one repository of a registry, if other copies write to the same registry.
    pub site: Option<Destination>,
    /// The graphs. Nodes that they share are copied once.
    pub targets: Vec<Target>,
    /// Which entries of the targets' indexes are copied. Default all.
    pub selection: Selection,
    /// The root whose tags this run is about. Default the first target, even if targets are removed later.
    pub tagged: Option<Digest>,
    /// Set before the tags of that root move.
    pub commit: Commit,
    /// Tags that are checked right before they move. Default the first target's, if it names another root.
    pub watched: Vec<Watch>,
    /// The result of [`plan`](plan()) for this job. If none, [`copy`] plans first.
    pub plan: Option<Arc<Plan>>,
}

impl Job {
    /// Copies `targets` from `source` to `sink`, with no other copy to the same registry.
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

/// Plans what copying `job` will do, without moving a blob.
///
/// # Errors
///
/// Any error of reading manifests, with its side.
pub async fn plan(job: &Job, options: &Options) -> Result<Plan> {
    let held = presence::held(job, options.presence).await?;
    let missing = presence::missing(job, options.presence).await?;
    let view = graph::View::Chosen(&job.selection);
    let graph = graph::Graph::read(&job.source, &missing, Some(&held), view).await;
    let graph = graph.map_err(|error| error.at(Side::Source))?;
    Ok(Plan::new(&graph, job, &held))
}

/// Copies `job`, by its plan if it has one.
///
/// If the sink lacks something below a manifest that was taken as complete, copies once more and checks every node.
///
/// # Errors
///
/// Any error of either store, with its side. Nodes that arrived before stay; the next run finds them.
pub async fn copy(job: &Job, options: &Options, events: &Events) -> Result<CopyReport> {
    if let Some(lanes) = options.lanes.far() {
        // Opens connections while the manifests are read: saves one round trip for the first blobs.
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
