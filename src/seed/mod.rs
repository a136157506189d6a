//! Copies one image from one registry to another: verified at both ends, its tag put last.

pub(crate) mod accessories;
pub(crate) mod dry_run;
pub(crate) mod endpoints;
pub(crate) mod explain;
pub(crate) mod platforms;
pub(crate) mod prepare;
pub(crate) mod previous;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod resolve;
pub(crate) mod shared;
pub(crate) mod sidecars;
pub(crate) mod signing;
pub(crate) mod verification;

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::accessories::confirm;
use self::platforms::rewrite_index::{self, Rewritten};
use self::prepare::{Prepared, SeedRun};
use self::previous::Move;
use self::request::{IndexHandling, Seed, Trust};
use self::shared::Commons;
use self::signing::Signature;
use crate::copy::{Event, Events, Stage};
use crate::document::roll_up::SidecarTag;
use crate::document::{SeedManifest, Transfer};
use crate::error::{Error, Kind, Result, Side};
use crate::journal::{Effect, Journal, TagChange};
use crate::oci::{Digest, Reference};
use crate::store::{Registry, read_manifest};
use crate::transport::{Carried, Transport};
use crate::verify::{Approved, VerifyReport};
use crate::wire::Client;

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedStatus {
    /// The destination's tag names the image now.
    Seeded,
    /// It named the image already.
    Unchanged,
}

/// The result of a seed.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Whether anything had to be done.
    pub status: SeedStatus,
    /// The record. That of an unchanged image keeps time and transfer of the run that seeded it.
    pub seed: SeedManifest,
    /// How the content moved in this run.
    pub transfer: Transfer,
    /// The digest that the destination's tag named before; null if it did not exist.
    pub previous_digest: Option<Digest>,
    /// The same for the sidecars that were copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<SidecarTag>,
    /// The source's index and the signer, if a smaller index took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<Rewritten>,
    /// The verification reports; null after `--skip-verify`.
    pub verification: Option<Verification>,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// The verification reports of both ends.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Before anything moved.
    pub source: VerifyReport,
    /// From the destination's own bytes, before its tag was put.
    pub destination: VerifyReport,
}

/// Time left for the tags after the operator interrupts: the process must exit within five seconds (contract §10).
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(4);

/// Seeds one image, unless `stop` comes before the first tag is put. After that an interrupt could no longer mean that
/// nothing has changed, so the few remaining requests are finished.
///
/// # Errors
///
/// Fails like [`seed`](seed()); [`Interrupted`](Kind::Interrupted) after `stop`.
pub async fn seed_until(
    request: &Seed,
    client: &Client,
    journal: &Journal,
    transport: &dyn Transport,
    events: &Events,
    stop: impl Future<Output = ()> + Send,
) -> Result<Outcome> {
    let done = until(request, pin!(seed(request, client, journal, transport, events)), stop).await;
    done.map_err(|error| error.of_image(&request.to))
}

/// Runs `flow`, a part of `request`, unless `stop` comes before the first tag is put.
///
/// Takes a pinned future: moving it in by value would double the size of this one.
pub(crate) async fn until<T: Send>(
    request: &Seed,
    mut flow: Pin<&mut (impl Future<Output = Result<T>> + Send)>,
    stop: impl Future<Output = ()> + Send,
) -> Result<T> {
    tokio::select! {
        biased;
        () = stop => match request.commit.has_begun() {
            false => Err(interrupted(&request.to, "interrupted; the destination tag was not moved")),
            true => tokio::time::timeout(LAST_WORDS, flow).await.unwrap_or_else(|_| {
                Err(interrupted(&request.to, "interrupted while the tags were being put: they may have moved"))
            }),
        },
        done = &mut flow => done,
    }
}

pub(crate) fn interrupted(what: impl std::fmt::Display, why: &str) -> Error {
    Error::new(Kind::Interrupted, "seed").on(what).because(why.to_owned())
}

/// Seeds one image.
///
/// # Errors
///
/// By kind as in the exit codes; an error before the tags are put leaves the tags as they are, and writes no file.
pub async fn seed(
    seed: &Seed,
    client: &Client,
    journal: &Journal,
    transport: &dyn Transport,
    events: &Events,
) -> Result<Outcome> {
    let commons = Commons::default();
    let run = SeedRun { client, journal, transport, events, commons: &commons, is_folder_tried: false };
    Box::new(Prepared::new(seed, run).await?).carry(run).await?.finish(run).await
}

impl<'a> Prepared<'a> {
    /// Carries everything to the destination and verifies it there. Moves no tag, unless verification is skipped.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(crate) async fn carry(mut self: Box<Self>, run: SeedRun<'_>) -> Result<Staged<'a>> {
        let begun = Instant::now();
        let Self { seed, ends, found, events, .. } = &*self;
        events.send(Event::Stage(Stage::Copying));
        // The requests so far have measured the distance of both ends.
        let ends_away = [ends.origin.tally().fastest, ends.sink.tally().fastest];
        ends_away.into_iter().flatten().for_each(|round_trip| seed.engine.lanes.widen(round_trip));
        // Without staging the tags are put together with the content.
        let effects = || if previous::is_staged(seed, found) { vec![] } else { previous::effects(seed, found) };
        let carry = run.transport.carry(&self.job, &seed.engine, events);
        let carried = run.journal.record(effects, carry).await?;
        let (destination, signature) = self.verified().await?;
        let evidence = destination.iter().flat_map(Approved::evidence);
        let proven = evidence.map(|evidence| evidence.node().digest).collect();
        confirm::arrived(ends, &self.cosign, &self.companions, &proven)
            .await
            .map_err(|error| error.at(Side::Destination))?;
        // Frees all manifests of the plan: the remaining steps need none of them.
        self.job.copy.plan = None;
        self.spent += begun.elapsed();
        Ok(Staged { prepared: self, carried, destination, signature })
    }

    /// Verifies the destination, once no other client can still be overwriting lists under cosign's tags. If the
    /// signature that verifies the image is not listed, because another client has overwritten it or the registry has
    /// stored no list of it, puts it again and verifies once more.
    async fn verified(&self) -> Result<(Option<Approved>, Option<Signature>)> {
        let Self { seed, ends, found, events, cosign, companions, .. } = self;
        let none = HashSet::new();
        if confirm::has_lists(companions) {
            ends.sink.settled().await;
        }
        let verified = rewrite_index::verified(seed, ends, found, events).await;
        match verified {
            Err(error) if error.kind() == Kind::Untrusted => {
                match confirm::arrived(ends, cosign, companions, &none).await {
                    Ok(true) => rewrite_index::verified(seed, ends, found, events).await,
                    _ => Err(error),
                }
            }
            verified => verified,
        }
    }
}

/// A seed with everything done except the tags and the record.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    pub(crate) prepared: Box<Prepared<'a>>,
    carried: Carried,
    destination: Option<Approved>,
    /// The site's own signature, if one was put.
    signature: Option<Signature>,
}

impl Staged<'_> {
    /// Puts the tags and writes the record.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(crate) async fn finish(mut self, run: SeedRun<'_>) -> Result<Outcome> {
        let begun = Instant::now();
        let Prepared { seed, ends, found, events, .. } = &*self.prepared;
        let moves = previous::moves(seed, &ends.sink, found).await?;
        if previous::is_staged(seed, found) {
            events.send(Event::Stage(Stage::Tagging));
            seed.commit.begin();
            for step in moves.iter().filter(|step| step.is_needed()) {
                let effect = || vec![effect(&seed.to.repository.tagged(&step.tag), step)];
                run.journal.record(effect, put_tag(&ends.sink, step)).await?;
            }
        }
        self.prepared.spent += begun.elapsed();
        self.record(&moves).await
    }

    /// Returns the tags that are to move. Checks first that everything that they will name is there, and keeps what they
    /// name now.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(crate) async fn ready(&mut self) -> Result<Vec<Move>> {
        let begun = Instant::now();
        let Prepared { seed, ends, found, .. } = &*self.prepared;
        if self.destination.is_none() {
            // Nothing has read it back yet, because verification was skipped.
            let read = read_manifest(ends.sink.as_ref(), &found.root.node).await;
            read.map_err(|error| error.at(Side::Destination).during("find what was put", &seed.to))?;
        }
        let moves = previous::moves(seed, &ends.sink, found).await?;
        self.prepared.spent += begun.elapsed();
        Ok(moves)
    }

    /// Writes the record, after the tags have moved.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub(crate) async fn record(self, moves: &[Move]) -> Result<Outcome> {
        let Self { prepared, carried, destination, signature } = self;
        let Prepared { seed, ends, found, .. } = &*prepared;
        prepared.events.send(Event::Stage(Stage::WritingRecord));
        let mut accessories = prepared.accessories();
        accessories.extend(signature.iter().map(|signature| signature.digest));
        let is_idle = signature.is_none() && carried.report.is_idle() && !moves.iter().any(Move::is_needed);
        let status = if is_idle { SeedStatus::Unchanged } else { SeedStatus::Seeded };
        let transfer = ends.account(carried, accessories, prepared.spent);
        let manifest = SeedManifest {
            schema_version: SeedManifest::version(),
            source_ref: seed.from.clone(),
            source_digest: found.source_digest(),
            dest_ref: seed.to.clone(),
            dest_digest: found.root.node.digest,
            platforms: prepared.platforms.clone(),
            copied_policy: found.sidecars.all().next().is_some(),
            signing_key_ref: seed.key(),
            verified: destination.as_ref().is_some_and(Approved::is_verified),
            seeded_at: now()?,
            pinned: matches!(seed.trust, Trust::Pinned),
            checked_at: None,
            weakened: prepared.weakened(),
            transfer: Some(transfer.clone()),
        };
        let (manifest, files) = prepared.record.clone().write_aside(manifest, is_idle).await?;
        let reports = prepared.approved.report().zip(destination.as_ref().and_then(Approved::report));
        let verification =
            reports.map(|(source, site)| Verification { source: source.clone(), destination: site.clone() });
        let previous_digest = moves.last().and_then(Move::former_digest);
        let sidecars = moves.iter().filter_map(sidecar_tag).collect();
        let rewritten = found.original.as_ref().map(|original| Rewritten {
            source_digest: original.node.digest,
            signed_with: if let IndexHandling::Rewrite(Some(site)) = &seed.scope.index {
                Some(site.name.clone())
            } else {
                None
            },
        });
        Ok(Outcome { status, seed: manifest, transfer, previous_digest, sidecars, rewritten, verification, files })
    }
}

fn sidecar_tag(step: &Move) -> Option<SidecarTag> {
    let previous_digest = step.former_digest();
    Some(SidecarTag { kind: step.sidecar?, digest: step.root.node.digest, previous_digest })
}

/// Returns what [`put_tag`] changes.
pub(crate) fn effect(to: &Reference, step: &Move) -> Effect {
    let (was, digest) = (step.former_digest(), Some(step.root.node.digest));
    Effect::Seed(TagChange { to: to.clone(), was, digest })
}

/// Makes a tag name its new root.
pub(crate) async fn put_tag(sink: &Registry, step: &Move) -> Result<()> {
    let put = previous::put(sink, &step.root, &step.tag).await;
    put.map_err(|error| error.at(Side::Destination).during("put tag", &step.tag))
}

/// Returns the current time, to the second as in the record.
pub(crate) fn now() -> Result<jiff::Timestamp> {
    let failed = |why| Error::new(Kind::Local, "read the clock").because(why);
    jiff::Timestamp::from_second(crate::clock::Clock::System.now().as_second()).map_err(failed)
}
