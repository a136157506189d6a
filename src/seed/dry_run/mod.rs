//! A dry run: computes the cost of a seed or a catalog with the same preparation, without moving anything.
//!
//! Exact if the destination has the Referrers API and no other client writes there; without the API, writing referrers
//! may take fewer requests than forecast. Signing and verifying a rewritten index are not counted. Logins count only if
//! the dry run itself needed them.

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
use crate::journal::Journal;
use crate::oci::{Descriptor, Digest, Manifest, Reference};
use crate::store::{Listing, Store};
use crate::transport::Native;
use crate::verify::Approved;
use crate::wire::Client;

/// Requests in flight at the same time.
const QUESTIONS: usize = 16;
/// Requests for each referrer without the Referrers API: the fallback index is read, written and read again.
const FALLBACK: u64 = 3;

/// The cost of one image.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The source.
    pub from: Reference,
    /// The destination.
    pub to: Reference,
    /// The digest that the source's reference names.
    pub root: Digest,
    /// The numbers.
    #[serde(flatten)]
    pub cost: DryRunCost,
    /// Checks that are relaxed or skipped, as in the record of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weakened: Vec<String>,
    /// Whether the run would put content or move a tag.
    #[serde(skip)]
    pub is_change: bool,
}

/// The cost of one image, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DryRunCost {
    /// Manifests to check: 0 for an image that is in place.
    pub manifests: u64,
    /// Blobs to check.
    pub blobs: u64,
    /// Bytes of all of them.
    pub bytes_total: u64,
    /// Bytes that will be sent.
    pub bytes_to_move: u64,
    /// Bytes that the destination holds.
    pub bytes_present: u64,
    /// Bytes that the destination can mount from another of its repositories.
    pub bytes_mountable: u64,
    /// Requests to both ends.
    pub requests: u64,
}

/// The cost of a run.
#[derive(Debug, Serialize)]
pub struct Forecasts {
    /// The forecast of each image, in the order of the catalog.
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

    /// Returns whether the run would change anything at a destination.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.images.iter().any(|image| image.is_change)
    }
}

/// Computes the cost of `seed`. Puts nothing and writes nothing.
///
/// # Errors
///
/// Fails like the first half of [`seed`](super::seed()): an image that cannot be resolved or does not verify has no
/// forecast.
pub async fn forecast(seed: &Seed, client: &Client, events: &Events) -> Result<Forecasts> {
    let commons = Commons::default();
    // The folder is not tried: a dry run writes nothing, not even for a moment.
    let journal = Journal::none();
    let run =
        SeedRun { client, journal: &journal, transport: &Native, events, commons: &commons, is_folder_tried: true };
    let mut prepared = Prepared::new(seed, run).await?;
    prepared.plan().await?;
    Ok(Forecasts::of(vec![prepared.forecast(prepared.reckon(&commons)).await?]))
}

/// The part of a forecast that follows from earlier forecasts, and the blobs to ask for.
#[derive(Debug)]
pub(crate) struct Reckoned {
    cost: DryRunCost,
    plan: Arc<Plan>,
    /// Blobs that only the destination knows about.
    unknown: Vec<Descriptor>,
}

impl Prepared<'_> {
    /// Computes the first half of a forecast: where the blobs come from, after all that was reckoned earlier with the
    /// same `commons`. Sends no request.
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

    /// Computes the second half: the cost of carrying.
    ///
    /// # Errors
    ///
    /// Fails if the destination cannot be asked what it holds.
    pub(crate) async fn forecast(&self, reckoned: Reckoned) -> Result<Forecast> {
        let Self { seed, found, events, .. } = self;
        let Reckoned { mut cost, plan, unknown } = reckoned;
        self.blobs(&unknown, &mut cost).await.map_err(|error| error.at(Side::Destination))?;
        cost.requests += self.manifests(&plan, &mut cost).await.map_err(|error| error.at(Side::Destination))?;
        cost.requests += self.after(events).await?;
        if let Some(words) = refusals(&self.ends.sink) {
            events.send(Event::Warning(format!("{}: {words}", seed.to)));
        }
        let (from, to, root) = (seed.from.clone(), seed.to.clone(), found.root.node.digest);
        let is_moved =
            found.roots().any(|(root, former)| former.as_ref().is_none_or(|former| former.digest != root.node.digest));
        let is_change = is_moved || cost.bytes_to_move > 0 || cost.bytes_mountable > 0;
        Ok(Forecast { from, to, root, cost, weakened: self.weakened(), is_change })
    }

    /// Counts blobs: one request to the destination if it holds the blob, three in all if the blob moves.
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

    /// Counts manifests: a PUT for each name, and the fallback index on a registry without the Referrers API.
    async fn manifests(&self, plan: &Plan, cost: &mut DryRunCost) -> Result<u64> {
        let mut requests = 0;
        let mut subjects = Vec::new();
        for step in plan.steps.iter().filter(|step| step.fate == NodeFate::Put && step.node.is_manifest()) {
            cost.bytes_to_move += step.node.size;
            // A cosign tag is read right before it is put.
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

    /// Counts what follows the copy: verification of the destination, rehearsed on the source's bytes; tags; and the
    /// final check of accessories.
    async fn after(&self, events: &Events) -> Result<u64> {
        let Self { seed, ends, found, .. } = self;
        let sidecars = found.sidecars.all().map(|sidecar| (sidecar.tag.clone(), sidecar.root.clone()));
        let named = sidecars.chain([(seed.tag()?, found.root.clone())]).collect();
        let rehearsal = Rehearsal::new(Arc::clone(&ends.source), named);
        let site = match &found.original {
            None => verification::destination(seed, &rehearsal, found, events).await?,
            // The new index is not signed yet and exists at neither end: there is nothing to rehearse with.
            Some(_) => None,
        };
        let proven: HashSet<_> = site.iter().flat_map(Approved::evidence).map(|one| one.node().digest).collect();
        let is_staged = previous::is_staged(seed, found);
        let is_moved = found.former.is_some() && !found.is_unchanged();
        // The tag is read right before it moves, if nothing else reads it then.
        let watched = u64::from(!is_staged && is_moved && seed.tagging == Tagging::Plain)
            + previous::new_tags(seed, found)?.len() as u64;
        let tags = found.roots().map(|(root, former)| tagging(seed.tagging, is_staged, former.as_ref(), &root.node));
        let tags: u64 = tags.sum();
        Ok(rehearsal.requests() + watched + tags + confirm::questions(&self.companions, &proven))
    }
}

/// Returns the number of requests for a tag, and for keeping what it names.
fn tagging(tagging: Tagging, is_staged: bool, former: Option<&Descriptor>, root: &Descriptor) -> u64 {
    if !is_staged || former.is_some_and(|former| former.digest == root.digest) {
        return 0;
    }
    // Kept: the tag is read once more, and the holding tag is read and put. A new tag takes one read, which shows that it
    // is new.
    1 + match (tagging, former) {
        // Read right before it moves.
        (Tagging::Plain, _) | (Tagging::Keep | Tagging::Together, None) => 1,
        (Tagging::Keep | Tagging::Together, Some(_)) => 3,
    }
}

async fn is_held<'a>(ends: &Endpoints, node: &'a Descriptor) -> Result<(&'a Descriptor, bool)> {
    match ends.sink.contains(node).await {
        // A seed does not ask: it pushes, and the response decides.
        Err(error) if error.kind() == Kind::Denied => Ok((node, false)),
        held => Ok((node, held?)),
    }
}
