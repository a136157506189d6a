//! A dry run: what a seed or a catalog would cost, worked out with the same preparation and without moving anything.
//!
//! Exact where the destination has the Referrers API and nobody else is at work there; without the API, writing referrers
//! may take fewer requests than are told. Of an index that is rewritten, signing and verifying are not counted. Logins count as far as the dry run itself needed them.

pub(crate) mod store;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::accessories::confirm;
use super::dry_run::store::Rehearsal;
use super::endpoints::{Endpoints, refusals};
use super::prepare::{Prepared, SeedRun};
use super::request::Seed;
use super::request::Tagging;
use super::shared::Commons;
use super::{previous, verification};
use crate::copy::{Event, Events, NodeFate, Plan, PlanStep, PlanTotals, Whereabouts};
use crate::error::{Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Manifest, Reference};
use crate::store::{Listing, Store};
use crate::transport::Native;
use crate::verify::Approved;
use crate::wire::Client;

/// Questions asked at the same time.
const QUESTIONS: usize = 16;
/// Requests that a referrer costs where there is no Referrers API: the fallback index is read, written and read again.
const FALLBACK: u64 = 3;

/// What one image would cost.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The source.
    pub from: Reference,
    /// The destination.
    pub to: Reference,
    /// What the source stands for.
    pub root: Digest,
    /// The numbers.
    #[serde(flatten)]
    pub cost: DryRunCost,
    /// Checks that are relaxed or skipped, as the record of the run will have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weakened: Vec<String>,
}

/// Numbers of one image, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DryRunCost {
    /// Manifests to look at: none of an image that is in place.
    pub manifests: u64,
    /// Blobs to look at.
    pub blobs: u64,
    /// Bytes of all of them.
    pub bytes_total: u64,
    /// Bytes that will be sent.
    pub bytes_to_move: u64,
    /// Bytes that the destination holds.
    pub bytes_present: u64,
    /// Bytes that the destination takes from another of its repositories.
    pub bytes_mountable: u64,
    /// Requests to both ends.
    pub requests: u64,
}

/// What a run would cost.
#[derive(Debug, Serialize)]
pub struct Forecasts {
    /// Each image, in the order of the catalog.
    pub images: Vec<Forecast>,
    /// The sums.
    pub totals: DryRunCost,
}

impl Forecasts {
    pub(crate) fn of(images: Vec<Forecast>) -> Self {
        let mut totals = DryRunCost::default();
        for Forecast { cost, .. } in &images {
            totals.manifests += cost.manifests;
            totals.blobs += cost.blobs;
            totals.bytes_total += cost.bytes_total;
            totals.bytes_to_move += cost.bytes_to_move;
            totals.bytes_present += cost.bytes_present;
            totals.bytes_mountable += cost.bytes_mountable;
            totals.requests += cost.requests;
        }
        Self { images, totals }
    }
}

/// Works out what `seed` would cost. Nothing is put, nothing is written.
///
/// # Errors
///
/// Those of the first half of [`seed`](super::seed()): what cannot be resolved or does not verify has no forecast.
pub async fn forecast(seed: &Seed, client: &Client, events: &Events) -> Result<Forecasts> {
    let commons = Commons::default();
    // The folder is not tried: a dry run writes nothing, not even for a moment.
    let run = SeedRun { client, transport: &Native, events, commons: &commons, is_folder_tried: true };
    let mut prepared = Prepared::new(seed, run).await?;
    prepared.plan().await?;
    Ok(Forecasts::of(vec![prepared.forecast(prepared.reckon(&commons), events).await?]))
}

/// What follows from what was forecast before, and what has to be asked.
#[derive(Debug)]
pub(crate) struct Reckoned {
    cost: DryRunCost,
    plan: Arc<Plan>,
    /// Blobs that only the destination can tell of.
    unknown: Vec<Descriptor>,
}

impl Prepared<'_> {
    /// The first half of a forecast: where the blobs come from, after everything that was reckoned before this with the
    /// same `commons`. Asks nobody.
    pub(crate) fn reckon(&self, commons: &Commons) -> Reckoned {
        let ends = &self.ends;
        let plan = self.job.copy.plan.clone().unwrap_or_default();
        let PlanTotals { manifests, blobs, bytes_total, bytes_present, .. } = plan.totals;
        let requests = ends.origin.tally().requests + ends.sink.tally().requests;
        let mut cost = DryRunCost { manifests, blobs, bytes_total, bytes_present, requests, ..DryRunCost::default() };
        let site = commons.site(&self.seed.to.repository);
        let mut unknown = Vec::new();
        for PlanStep { node, .. } in
            plan.steps.iter().filter(|step| step.fate == NodeFate::Put && !step.node.is_manifest())
        {
            match site.whereabouts(&node.digest) {
                Whereabouts::Here => cost.bytes_present += node.size,
                Whereabouts::Elsewhere => {
                    cost.bytes_mountable += node.size;
                    cost.requests += 1;
                }
                Whereabouts::Unknown => unknown.push(node.descriptor()),
            }
            site.holds(&node.digest);
        }
        Reckoned { cost, plan, unknown }
    }

    /// The second half: what carrying this would cost.
    ///
    /// # Errors
    ///
    /// Whatever keeps the destination from saying what it holds.
    pub(crate) async fn forecast(&self, reckoned: Reckoned, events: &Events) -> Result<Forecast> {
        let Self { seed, found, .. } = self;
        let Reckoned { mut cost, plan, unknown } = reckoned;
        self.blobs(&unknown, &mut cost).await.map_err(|error| error.at(Side::Destination))?;
        cost.requests += self.manifests(&plan, &mut cost).await.map_err(|error| error.at(Side::Destination))?;
        cost.requests += self.after(events).await?;
        if let Some(words) = refusals(&self.ends.sink) {
            events.send(Event::Warning(format!("{}: {words}", seed.to)));
        }
        let (from, to, root) = (seed.from.clone(), seed.to.clone(), found.root.node.digest);
        Ok(Forecast { from, to, root, cost, weakened: self.weakened() })
    }

    /// Blobs: one request to the destination for what it holds, three in all for what moves.
    async fn blobs(&self, unknown: &[Descriptor], cost: &mut DryRunCost) -> Result<()> {
        let unknown: Vec<_> = unknown.iter().map(|node| is_held(&self.ends, node)).collect();
        let mut answers = stream::iter(unknown).buffer_unordered(QUESTIONS);
        while let Some((node, is_held)) = answers.try_next().await? {
            if is_held {
                cost.bytes_present += node.size;
                cost.requests += 1;
            } else {
                cost.bytes_to_move += node.size;
                let is_at_hand = node.inline().is_some() || self.ends.memory.remembers(&node.digest);
                cost.requests += 2 + u64::from(!is_at_hand);
            }
        }
        Ok(())
    }

    /// Manifests: a PUT for each name, and what it takes to tell a registry without the Referrers API of a subject.
    async fn manifests(&self, plan: &Plan, cost: &mut DryRunCost) -> Result<u64> {
        let mut requests = 0;
        let mut subjects = Vec::new();
        for step in plan.steps.iter().filter(|step| step.fate == NodeFate::Put && step.node.is_manifest()) {
            cost.bytes_to_move += step.node.size;
            // A tag of cosign's is asked for what it names right before it is put.
            let asked = step.tags().iter().filter(|tag| self.cosign.has(tag)).count();
            requests += (step.tags().len().max(1) + asked) as u64;
            let manifest = step.bytes().and_then(|bytes| Manifest::parse(bytes, &step.node.media_type).ok());
            subjects.extend(manifest.and_then(|manifest| manifest.subject));
        }
        match subjects.first() {
            Some(subject) if self.ends.sink.api_referrers(&subject.digest).await?.is_none() => {
                Ok(requests + FALLBACK * subjects.len() as u64)
            }
            _ => Ok(requests),
        }
    }

    /// What comes after the copy: verification of the destination, rehearsed on the source's bytes; tags; and the last
    /// look at what is attached.
    async fn after(&self, events: &Events) -> Result<u64> {
        let Self { seed, ends, found, .. } = self;
        let sidecars = found.sidecars().map(|sidecar| (sidecar.tag.clone(), sidecar.root.clone()));
        let named = sidecars.chain([(seed.tag()?, found.root.clone())]).collect();
        let rehearsal = Rehearsal::new(Arc::clone(&ends.source), named);
        let site = match &found.original {
            None => verification::destination(seed, &rehearsal, found, events).await?,
            // Nobody has signed the new index yet, and nobody holds it: there is nothing to rehearse with.
            Some(_) => None,
        };
        let proven: HashSet<_> = site.iter().flat_map(Approved::evidence).map(|one| one.node().digest).collect();
        let sidecars = found.sidecars().map(|sidecar| (&sidecar.former, &sidecar.root.node));
        let names = sidecars.chain([(&found.former, &found.root.node)]);
        let is_staged = previous::is_staged(seed, found);
        let is_moved = found.former.is_some() && !found.is_unchanged();
        // The tag is looked at right before it moves, where nothing else reads it then.
        let watched = u64::from(!is_staged && is_moved && seed.tagging == Tagging::Plain)
            + previous::new_tags(seed, found)?.len() as u64;
        let tags: u64 = names.map(|(former, root)| tagging(seed.tagging, is_staged, former.as_ref(), root)).sum();
        Ok(rehearsal.requests() + watched + tags + confirm::questions(&self.companions, &proven))
    }
}

/// Requests for a tag, and for what it takes to keep what the tag names.
fn tagging(tagging: Tagging, is_staged: bool, former: Option<&Descriptor>, root: &Descriptor) -> u64 {
    if !is_staged || former.is_some_and(|former| former.digest == root.digest) {
        return 0;
    }
    // Kept: the tag is read once more, the holding tag asked for and put. Of a new tag one look says that it is new.
    1 + match (tagging, former) {
        // Looked at right before it moves.
        (Tagging::Plain, _) | (Tagging::Keep | Tagging::Together, None) => 1,
        (Tagging::Keep | Tagging::Together, Some(_)) => 3,
    }
}

async fn is_held<'a>(ends: &Endpoints, node: &'a Descriptor) -> Result<(&'a Descriptor, bool)> {
    match ends.sink.contains(node).await {
        // A seed does not ask: it pushes, and finds out.
        Err(error) if error.kind() == Kind::Denied => Ok((node, false)),
        held => Ok((node, held?)),
    }
}
