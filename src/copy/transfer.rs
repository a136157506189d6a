//! Carries out a plan: one `put` per node, children before parents, a bounded number at a time.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::examine::{self, Look};
use super::schedule::{LARGE, LanePermit, Schedule};
use super::single_flight::{Clearance, Flight, FlightEnd, Whereabouts};
use super::{
    CopyReport, Event, Events, Job, LayerPlace, NodeFate, Options, Plan, PlanStep, Presence, Watch, layer_place,
};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Manifest};
use crate::retry::Retry;
use crate::spool::Spool;
use crate::store::{Body, Put, Store};

/// After this many blobs in a row that a distant sink did not have, the next blob is fetched while the sink is still
/// being asked for it, which saves a round trip. If the sink has that one, the bytes of one small blob per lane were
/// fetched for nothing.
const ABSENT_IN_A_ROW: usize = 8;

/// How one step ended.
enum StepEnd {
    Held(Put),
    /// A foreign layer that the source does not serve.
    LeftOut,
    /// Another copy was sending it and has ended: retry.
    Again,
}

/// A step that has ended.
struct Done {
    step: usize,
    outcome: Result<StepEnd>,
    /// Bytes of it that came from the spool.
    spooled: u64,
}

/// Runs all steps of `plan`.
///
/// The first error ends the run: steps in flight are dropped, and no step begins.
pub(super) async fn run(job: &Job, plan: &Plan, options: &Options, events: &Events) -> Result<CopyReport> {
    let mut run = TransferRun::new(job, plan, options, events);
    // Dropping it on return aborts the steps in flight.
    let mut tasks = JoinSet::new();
    while !run.schedule.is_empty() || !tasks.is_empty() {
        let done = tokio::select! {
            biased;
            Some(done) = tasks.join_next() => done.map_err(|why| Error::new(Kind::Local, "copy").because(why))?,
            (step, lane) = run.schedule.next() => match run.begin(step, lane, &mut tasks) {
                Some(done) => done,
                None => continue,
            }
        };
        run.end(done)?;
    }
    debug_assert!(run.waiting.iter().all(|&needs| needs == 0), "a step was never reached");
    Ok(run.report)
}

struct TransferRun<'a> {
    job: &'a Job,
    plan: &'a Plan,
    presence: Presence,
    spool: Option<&'a Spool>,
    events: &'a Events,
    schedule: Schedule,
    /// The places of large blobs in their images, if there is a listener.
    places: HashMap<usize, LayerPlace>,
    /// How many steps each step still waits for.
    waiting: Vec<usize>,
    /// Which steps wait for each step.
    parents: Vec<Vec<usize>>,
    report: CopyReport,
    is_far: bool,
    /// Blobs that the sink turned out not to have, since the last that it had.
    absent_in_a_row: usize,
}

impl<'a> TransferRun<'a> {
    fn new(job: &'a Job, plan: &'a Plan, options: &'a Options, events: &'a Events) -> Self {
        let steps = &plan.steps;
        let mut run = Self {
            job,
            plan,
            presence: options.presence,
            spool: options.spool.as_ref(),
            events,
            schedule: Schedule::new(&options.lanes),
            places: if events.is_heard() { layer_place::of_large_blobs(plan) } else { HashMap::new() },
            waiting: vec![0; steps.len()],
            parents: vec![Vec::new(); steps.len()],
            report: CopyReport { manifests: plan.totals.manifests, blobs: plan.totals.blobs, ..CopyReport::default() },
            is_far: options.lanes.far().is_some(),
            absent_in_a_row: 0,
        };
        for (position, step) in steps.iter().enumerate() {
            if step.fate == NodeFate::Held {
                run.report.bytes_present += step.node.size;
                continue;
            }
            for &need in step.needs().iter().filter(|&&need| steps[need].fate == NodeFate::Put) {
                run.waiting[position] += 1;
                run.parents[need].push(position);
            }
            if run.waiting[position] == 0 {
                run.ready(position);
            }
        }
        run
    }

    /// Queues a step by its size, or as small if the registry has its bytes already and one small request is enough.
    fn ready(&mut self, step: usize) {
        let node = &self.plan.steps[step].node;
        let whereabouts = self.job.site.as_ref().map_or(Whereabouts::Unknown, |site| site.whereabouts(&node.digest));
        self.schedule.ready(step, if whereabouts == Whereabouts::Unknown { node.size } else { 0 });
    }

    /// Begins a step; returns its end if nothing had to be done.
    fn begin(&mut self, step: usize, lane: LanePermit, tasks: &mut JoinSet<Done>) -> Option<Done> {
        let site = self.job.site.as_ref().filter(|_| !self.plan.steps[step].node.is_manifest());
        let mut body = body(self.job, &self.plan.steps[step]);
        if let Some(spool) = self.spool {
            body = body.spooled(spool);
        }
        let is_small_blob = !body.node().is_manifest() && body.node().size < LARGE;
        if is_small_blob && self.is_far && self.absent_in_a_row >= ABSENT_IN_A_ROW {
            body = body.early();
        }
        let mut flight = None;
        match site.map(|site| site.clear(&body.node().digest)) {
            Some(Clearance::Held) if self.presence == Presence::Vouched => {
                return Some(Done { step, outcome: Ok(StepEnd::Held(Put::Present)), spooled: 0 });
            }
            Some(Clearance::Mount(from)) => body = body.mountable(from),
            Some(Clearance::Fly(cleared)) => flight = Some(cleared),
            Some(Clearance::Wait(arrival)) => {
                tasks.spawn(again(step, arrival));
                return None;
            }
            Some(Clearance::Held) | None => {}
        }
        if moves_the_tag(self.job, &self.plan.steps[step]) {
            self.job.commit.begin();
        }
        let meter = body.meter();
        let (node, place) = (body.node().clone(), self.places.get(&step).cloned());
        self.events.send(Event::Started { node, meter: Arc::clone(&meter), place });
        let watched = watched(self.job, &self.plan.steps[step]);
        let are_all_watched = !watched.is_empty() && watched.len() == self.plan.steps[step].tags().len();
        let sink = Arc::clone(&self.job.sink);
        let carried = carry(self.job, &self.plan.steps[step], body, self.presence, self.events.clone());
        let work = async move {
            let mut have_moved = are_all_watched;
            for watch in watched {
                have_moved &= watch.has_moved(sink.as_ref()).await?;
            }
            if have_moved {
                return Ok(StepEnd::Held(Put::Present));
            }
            carried.await
        };
        let step = async move {
            let outcome = work.await;
            land(flight, &outcome);
            drop(lane);
            Done { step, outcome, spooled: meter.spooled() }
        };
        // The log names the image of a retry.
        tasks.spawn(step.in_current_span());
        None
    }

    fn end(&mut self, done: Done) -> Result<()> {
        self.report.bytes_spooled += done.spooled;
        let node = &self.plan.steps[done.step].node;
        match done.outcome? {
            StepEnd::Again => {
                self.ready(done.step);
                return Ok(());
            }
            StepEnd::Held(put) => {
                self.report.add(node, put);
                if !node.is_manifest() {
                    self.learn(put);
                }
                if let Some(site) = self.job.site.as_ref().filter(|_| !node.is_manifest()) {
                    site.holds(&node.digest);
                }
                self.events.send(Event::Finished { node: node.descriptor(), put });
            }
            StepEnd::LeftOut => {
                self.report.foreign_left_out += 1;
                self.events.send(Event::LeftOut(node.descriptor()));
            }
        }
        self.release(done.step);
        Ok(())
    }

    fn learn(&mut self, put: Put) {
        match put {
            Put::Sent(_) => self.absent_in_a_row += 1,
            Put::Present => self.absent_in_a_row = 0,
            Put::Mounted => {}
        }
    }

    /// Begins the parents of a finished step that waited only for it.
    fn release(&mut self, step: usize) {
        for parent in std::mem::take(&mut self.parents[step]) {
            self.waiting[parent] -= 1;
            if self.waiting[parent] == 0 {
                self.ready(parent);
            }
        }
    }
}

async fn again(step: usize, arrival: FlightEnd) -> Done {
    arrival.wait().await;
    Done { step, outcome: Ok(StepEnd::Again), spooled: 0 }
}

/// Ends a flight: it has landed if the sink now holds its bytes.
fn land(flight: Option<Flight>, outcome: &Result<StepEnd>) {
    if let (Some(flight), Ok(StepEnd::Held(_))) = (flight, outcome) {
        flight.landed();
    }
}

fn body(job: &Job, step: &PlanStep) -> Body {
    match step.bytes() {
        Some(bytes) => Body::bytes(step.node.descriptor(), bytes.clone()),
        None => Body::stored(step.node.descriptor(), Arc::clone(&job.source)),
    }
}

/// Puts one node; fetches a body that arrives damaged again, a bounded number of times. If manifests do not vouch for the
/// node, checks the sink before, and again after replacing a damaged node.
fn carry(
    job: &Job,
    step: &PlanStep,
    mut body: Body,
    presence: Presence,
    events: Events,
) -> impl Future<Output = Result<StepEnd>> + Send + 'static {
    let is_put_anyway = !step.tags().is_empty() || has_subject(step);
    let tags = step.tags().to_vec();
    let is_foreign = step.node.is_foreign;
    let sink = Arc::clone(&job.sink);
    let left_out = if step.node.media_type.is_index() { job.selection.left_out(&step.node.digest) } else { 0 };
    async move {
        let mut damage = None;
        if presence != Presence::Vouched {
            match examine::look(&sink, body.node(), presence).await? {
                Look::Sound if !is_put_anyway => return Ok(StepEnd::Held(Put::Present)),
                Look::Sound | Look::Absent => {}
                Look::Damaged(why) => {
                    damage = Some(why);
                    body = body.replacing();
                }
            }
        }
        // Ends: only content that was not sent as a replacement is sent once more.
        loop {
            let node = body.node();
            let error = match Retry::default().run(came_damaged, || sink.put(node, &body, &tags)).await {
                Ok(put) => match settled(&sink, &body, presence, put).await? {
                    None => {
                        body.landed().await;
                        let told = |why: Error| format!("{} was damaged and is repaired: {}", node.digest, why.chain());
                        damage.into_iter().for_each(|why| events.send(Event::Warning(told(why))));
                        return Ok(StepEnd::Held(put));
                    }
                    Some(why) => {
                        damage = Some(why);
                        body = body.replacing();
                        continue;
                    }
                },
                Err(error) => error,
            };
            return match error {
                // A local error belongs to neither side.
                error if error.kind() == Kind::Local => Err(error),
                error if is_foreign && is_absent_at_source(&error) => Ok(StepEnd::LeftOut),
                error if left_out > 0 && is_refusal(&error) => Err(sparse(&error, node, left_out)),
                error => Err(error.at(Side::Destination)),
            };
        }
    }
}

/// Checks what was put if the response is not enough. Returns the damage if sending the bytes may help.
async fn settled(sink: &Arc<dyn Store>, body: &Body, presence: Presence, put: Put) -> Result<Option<Error>> {
    let is_taken_over = presence != Presence::Vouched && put == Put::Mounted;
    if !is_taken_over && !body.is_replacing() && presence != Presence::EveryByte {
        return Ok(None);
    }
    match examine::look(sink, body.node(), presence).await? {
        Look::Sound => Ok(None),
        Look::Damaged(why) if !body.is_replacing() => Ok(Some(why)),
        look => Err(examine::still_damaged(sink.as_ref(), body.node(), look)),
    }
}

/// Returns whether a manifest has a subject: if a registry has lost it from its list, only putting it again repairs the
/// list.
fn has_subject(step: &PlanStep) -> bool {
    let manifest = step.bytes().and_then(|bytes| Manifest::parse(bytes, &step.node.media_type).ok());
    manifest.is_some_and(|manifest| manifest.subject.is_some())
}

/// Returns whether the sink may lack something that a manifest refers to: distribution says so, zot says only that the
/// manifest is invalid.
pub(super) fn may_lack(error: &Error) -> bool {
    error.side() != Some(Side::Source) && matches!(error.kind(), Kind::Incomplete | Kind::Invalid)
}

/// Returns whether the sink refused the content.
fn is_refusal(error: &Error) -> bool {
    may_lack(error) || error.kind() == Kind::Unsupported
}

/// The error for a sparse index that the registry refused. Checking every node, as for other missing content, would find
/// nothing: the registry does not support sparse indexes.
fn sparse(refused: &Error, node: &Descriptor, left_out: usize) -> Error {
    let why = format!("this registry wants all that an index lists, and {left_out} of it were not asked for");
    let why = Error::new(Kind::Unsupported, why).because(refused.clone());
    Error::new(Kind::Unsupported, "put a sparse index").on(node.digest).because(why).at(Side::Destination).hint(
        "seed all platforms, without --platform (in a catalog: platforms), or let registry seed --rewrite-index make a smaller \
         index with a digest of its own, which --sign-key signs",
    )
}

/// Returns whether this step moves the tags that the run is about.
fn moves_the_tag(job: &Job, step: &PlanStep) -> bool {
    !step.tags().is_empty() && job.tagged == Some(step.node.digest)
}

/// Returns the tags of a step that are checked before it.
fn watched(job: &Job, step: &PlanStep) -> Vec<Watch> {
    let is_put = |watch: &&Watch| watch.node == step.node.digest && step.tags().contains(&watch.tag);
    job.watched.iter().filter(is_put).cloned().collect()
}

fn came_damaged(error: &Error) -> bool {
    error.kind() == Kind::Corrupt && error.side() == Some(Side::Source)
}

fn is_absent_at_source(error: &Error) -> bool {
    error.kind() == Kind::NotFound && error.side() == Some(Side::Source)
}
