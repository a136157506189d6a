//! Carries out a plan: one call a node, children before parents, a bounded number at a time.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::schedule::{Lane, Schedule};
use super::{Event, Events, Fate, Job, Options, Plan, Report, Step};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::Descriptor;
use crate::store::{Body, Put};
use crate::wire::Retry;

/// How one step ended.
enum Outcome {
    Held(Put),
    /// A foreign layer that the source does not serve.
    LeftOut,
}

/// A step that has ended.
struct Done {
    step: usize,
    lane: Lane,
    outcome: Result<Outcome>,
}

/// Runs all steps of `plan`.
///
/// The first failure ends the run: what is in flight is dropped, and nothing new begins.
pub(super) async fn run(job: &Job, plan: Plan, options: &Options, events: &Events) -> Result<Report> {
    let mut run = Run::new(&plan, options);
    let mut tasks = JoinSet::new();
    loop {
        while let Some((step, lane)) = run.schedule.take() {
            let work = carry(job, &plan.steps[step], events);
            if moves_the_tag(job, &plan.steps[step]) {
                job.commit.begin();
            }
            tasks.spawn(async move { Done { step, lane, outcome: work.await } });
        }
        // Dropping the set on the way out aborts what is still in flight.
        let Some(done) = tasks.join_next().await else { break };
        let done = done.map_err(|cause| Error::new(Kind::Local, "copy").because(cause))?;
        run.schedule.done(done.lane);
        let node = &plan.steps[done.step].node;
        match done.outcome? {
            Outcome::Held(put) => {
                run.report.add(node, put);
                events.send(Event::Finished { node: node.clone(), put });
            }
            Outcome::LeftOut => {
                run.report.foreign_left_out += 1;
                events.send(Event::LeftOut(node.clone()));
            }
        }
        run.release(done.step, &plan);
    }
    debug_assert!(run.waiting.iter().all(|&needs| needs == 0), "a step was never reached");
    Ok(run.report)
}

struct Run {
    schedule: Schedule,
    /// How many steps each step still waits for.
    waiting: Vec<usize>,
    /// Which steps wait for each step.
    parents: Vec<Vec<usize>>,
    report: Report,
}

impl Run {
    fn new(plan: &Plan, options: &Options) -> Self {
        let steps = &plan.steps;
        let mut run = Self {
            schedule: Schedule::new(options),
            waiting: vec![0; steps.len()],
            parents: vec![Vec::new(); steps.len()],
            report: Report { manifests: plan.totals.manifests, blobs: plan.totals.blobs, ..Report::default() },
        };
        for (position, step) in steps.iter().enumerate() {
            if step.fate == Fate::Held {
                run.report.bytes_present += step.node.size;
                continue;
            }
            for &need in step.needs.iter().filter(|&&need| steps[need].fate == Fate::Put) {
                run.waiting[position] += 1;
                run.parents[need].push(position);
            }
            if run.waiting[position] == 0 {
                run.schedule.ready(position, step.node.size);
            }
        }
        run
    }

    /// Lets the parents of a finished step begin if it was the last they waited for.
    fn release(&mut self, step: usize, plan: &Plan) {
        for parent in std::mem::take(&mut self.parents[step]) {
            self.waiting[parent] -= 1;
            if self.waiting[parent] == 0 {
                self.schedule.ready(parent, plan.steps[parent].node.size);
            }
        }
    }
}

/// Puts one node; a body that comes damaged is fetched again, a bounded number of times.
fn carry(job: &Job, step: &Step, events: &Events) -> impl Future<Output = Result<Outcome>> + Send + 'static {
    let node = step.node.clone();
    let tags = step.tags.clone();
    let sink = Arc::clone(&job.sink);
    let body = match &step.bytes {
        Some(bytes) => Body::bytes(node.clone(), bytes.clone()),
        None => Body::stored(node.clone(), Arc::clone(&job.source)),
    };
    events.send(Event::Started { node: node.clone(), meter: body.meter() });
    async move {
        let put = Retry::default().run(came_damaged, || sink.put(&node, &body, &tags)).await;
        match put {
            Ok(put) => Ok(Outcome::Held(put)),
            Err(error) if is_foreign(&node) && is_absent_at_source(&error) => Ok(Outcome::LeftOut),
            Err(error) => Err(error.at(Side::Destination)),
        }
    }
}

/// Whether this step puts the first target under its tags.
fn moves_the_tag(job: &Job, step: &Step) -> bool {
    let first = job.targets.first();
    !step.tags.is_empty() && first.is_some_and(|first| first.node.digest == step.node.digest)
}

fn came_damaged(error: &Error) -> bool {
    error.kind() == Kind::Corrupt && error.side() == Some(Side::Source)
}

fn is_foreign(node: &Descriptor) -> bool {
    !node.urls.is_empty() || node.media_type.is_foreign_layer()
}

fn is_absent_at_source(error: &Error) -> bool {
    error.kind() == Kind::NotFound && error.side() == Some(Side::Source)
}
