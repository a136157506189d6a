//! The first half of a seed: everything that is resolved and approved before a blob moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accessories::cosign_tags::CosignTags;
use super::accessories::{self, Accessory};
use super::endpoints::{Endpoints, place, refusals};
use super::platforms::select;
use super::request::{Seed, Trust};
use super::resolve::{self, Resolved};
use super::shared::Commons;
use super::{previous, replay, verification};
use crate::copy::{self, Event, Events, Selection, Stage, Target};
use crate::error::{Error, Kind, Result, Side};
use crate::journal::Journal;
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::seed::record::Record;
use crate::store::{self, Root};
use crate::transport::{Job, Transport};
use crate::verify::{Approved, Evidence, RollbackRule, TrustTime};
use crate::wire::Client;

/// Shared inputs of the seeds of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeedRun<'a> {
    pub(crate) client: &'a Client,
    pub(crate) journal: &'a Journal,
    pub(crate) transport: &'a dyn Transport,
    pub(crate) events: &'a Events,
    pub(crate) commons: &'a Commons,
    /// Whether the folders of records are below one that was tried already.
    pub(crate) is_folder_tried: bool,
}

/// A seed of which nothing has moved yet.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) seed: &'a Seed,
    pub(crate) ends: Endpoints,
    pub(crate) record: Record,
    pub(crate) found: Resolved,
    pub(crate) approved: Approved,
    pub(crate) platforms: Vec<String>,
    pub(super) companions: Vec<Accessory>,
    /// Receives the events of this image.
    pub(crate) events: Events,
    /// The destination, as a store that merges lists under cosign's tags.
    pub(crate) cosign: Arc<CosignTags>,
    pub(crate) job: Job,
    /// Checks that could not be made.
    unchecked: Vec<String>,
    /// Time spent so far, without waiting for other images.
    pub(crate) spent: Duration,
}

impl<'a> Prepared<'a> {
    /// Resolves the names, verifies the source, and finds the accessories.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(crate) async fn new(seed: &'a Seed, run: SeedRun<'_>) -> Result<Self> {
        let begun = Instant::now();
        let SeedRun { commons, .. } = run;
        let own = run.events.of_image(&seed.to);
        let events = &own;
        previous::check_names(seed)?;
        let record = if run.is_folder_tried { Record::below(&seed.folder) } else { Record::prepare(&seed.folder)? };
        let ends = Endpoints::new(run.client, seed);
        events.send(Event::Stage(Stage::Resolving));
        let mut found = resolve::names(seed, &ends).await?;
        for warning in &found.warnings {
            events.send(Event::Warning(warning.clone()));
        }
        let approved = verification::source(seed, &ends, &found, events).await?;
        let unchecked = replay::refused(seed, &ends, &found, &approved).await?;
        let platforms = select::choose(seed, &ends, &record, &mut found).await?;
        let companions = accessories::travelling(seed, &ends, &found, &approved, commons, events).await?;
        let targets = targets(seed, &ends, &found, &approved, &companions).await?;
        let wanted: Vec<_> = companions.iter().filter_map(|one| one.wanted.as_deref().cloned()).collect();
        let cosign = Arc::new(CosignTags::new(Arc::clone(&ends.sink), wanted, events.clone()));

        let mut job = copy::Job::new(ends.source(), Arc::clone(&cosign) as _, targets);
        job.selection = if found.original.is_some() { Selection::default() } else { found.selection.clone() };
        job.commit = seed.commit.clone();
        job.watched.extend(previous::new_tags(seed, &found)?);
        job.site = Some(commons.site(&seed.to.repository));
        let (from, to) = (place(&seed.from, &ends.origin), place(&seed.to, &ends.sink));
        let job = Job::new(&covering(&approved, &found)?, from, to, job)?;
        let spent = begun.elapsed();
        let events = own;
        Ok(Self { seed, ends, record, found, approved, platforms, companions, events, cosign, job, unchecked, spent })
    }

    /// Plans what to carry, before anything moves.
    ///
    /// # Errors
    ///
    /// Fails if manifests cannot be read.
    pub(crate) async fn plan(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.job.copy.plan = Some(Arc::new(copy::plan(&self.job.copy, &self.seed.engine).await?));
        self.spent += begun.elapsed();
        Ok(())
    }

    /// Returns the checks that were relaxed or skipped in this run, for the record.
    pub(crate) fn weakened(&self) -> Vec<String> {
        let mut weakened: Vec<_> = refusals(&self.ends.sink).into_iter().collect();
        let Trust::Verify { demands, .. } = &self.seed.trust else { return weakened };
        if demands.rollback == RollbackRule::Allow {
            weakened.push("rollback allowed".to_owned());
        }
        if demands.trust_time == TrustTime::Off {
            weakened.push("trust-time off".to_owned());
        }
        if self.found.sidecars.lock.is_some() && self.found.sidecars.policy.is_none() {
            weakened.push("no policy beside the lock".to_owned());
        }
        if self.found.original.is_some() && self.found.former.is_some() && !self.found.is_unchanged() {
            // The site signs a rewritten index with the current time: that does not show when the publisher signed.
            weakened.push("rollback not compared, the index is rewritten".to_owned());
        }
        weakened.extend(self.unchecked.iter().cloned());
        weakened
    }

    /// Returns everything that is copied besides the image itself, each digest once.
    pub(crate) fn accessories(&self) -> Vec<Digest> {
        let image = self.found.root.node.digest;
        // A list under a cosign tag may by now include entries of other clients, under another digest.
        let placed = |target: &Target| target.tags.iter().find_map(|tag| self.cosign.placed(tag));
        let targets = self.job.copy.targets.iter();
        let mut digests: Vec<_> = targets.map(|target| placed(target).unwrap_or(target.node.digest)).collect();
        digests.sort_unstable();
        digests.dedup();
        digests.retain(|digest| *digest != image);
        digests
    }
}

/// Returns the approval, extended to the rewritten index if there is one.
fn covering(approved: &Approved, found: &Resolved) -> Result<Approved> {
    let Some(original) = &found.original else { return Ok(approved.clone()) };
    let covering = approved.derived(&original.node.digest, found.root.node.digest);
    covering
        .ok_or_else(|| Error::new(Kind::Untrusted, "rewrite an index that was not approved").on(original.node.digest))
}

/// Returns the image first, then the evidence for it, then its sidecars and what is attached to any of them.
///
/// If the image is verified or former roots are kept, no target gets its tag yet: the image and the sidecars are put by
/// digest.
async fn targets(
    seed: &Seed,
    ends: &Endpoints,
    found: &Resolved,
    approved: &Approved,
    companions: &[Accessory],
) -> Result<Vec<Target>> {
    let is_staged = previous::is_staged(seed, found);
    let tags = |tag: &Tag| if is_staged { Vec::new() } else { vec![tag.clone()] };
    let target = |root: &Root, tag: &Tag, former: &Option<Descriptor>| Target {
        node: root.node.clone(),
        bytes: Some(root.bytes.clone()),
        tags: tags(tag),
        former: former.clone(),
    };
    let mut targets = vec![target(&found.root, &seed.tag()?, &found.former)];
    // An index made here lists only what is copied, so a root that is there vouches for the nested ones.
    let nested = |root: &Root| Target {
        node: root.node.clone(),
        bytes: Some(root.bytes.clone()),
        tags: Vec::new(),
        former: found.is_unchanged().then(|| root.node.clone()),
    };
    targets.extend(found.nested.iter().map(nested));
    // Evidence for the original index says nothing about the index that replaces it.
    let evidence = if found.original.is_some() { &[] } else { approved.evidence() };
    let travels = |node: &Descriptor| companions.iter().any(|one| one.original == node.digest);
    for one in evidence {
        match one {
            Evidence::Referrer { node } if !travels(node) => targets.push(evidence_target(ends, found, node).await?),
            // Lists of signatures are all among the companions.
            Evidence::Referrer { .. } | Evidence::Tagged { .. } => {}
        }
    }
    targets.extend(found.sidecars.all().map(|sidecar| target(&sidecar.root, &sidecar.tag, &sidecar.former)));
    targets.extend(companions.iter().map(Accessory::target));
    Ok(targets)
}

/// Returns a signature as a target. Asks the destination for it only if its tag exists already.
async fn evidence_target(ends: &Endpoints, found: &Resolved, node: &Descriptor) -> Result<Target> {
    let former = match &found.former {
        Some(_) => {
            let held = store::find(ends.sink.as_ref(), &Name::Digest(node.digest)).await;
            held.map_err(|error| error.at(Side::Destination))?
        }
        None => None,
    };
    Ok(Target { node: node.clone(), bytes: None, tags: Vec::new(), former })
}
