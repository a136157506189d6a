//! One image from one registry to another, verified at both ends, its tag put last.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::commons::Commons;
use super::ends::Ends;
use super::prepare::{Prepared, Run};
use super::request::{Seed, Trust};
use super::resolve::Resolved;
use super::{arrival, check};
use crate::copy::{Event, Events};
use crate::document::SeedManifest;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Tag};
use crate::store::{Body, Root, Store};
use crate::transport::{Carried, Transport};
use crate::verify::{Approved, Report};
use crate::wire::Client;

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The destination's tag names the image now.
    Seeded,
    /// It did already.
    Unchanged,
}

/// What a seed did.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Whether anything had to be done.
    pub status: Status,
    /// The record.
    pub seed: SeedManifest,
    /// What verification found; nothing after `--skip-verify`.
    pub verification: Option<Verification>,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// What verification found at both ends.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Before anything moved.
    pub source: Report,
    /// From the destination's own bytes, before its tag was put.
    pub destination: Report,
}

/// How long the tags may still take once a person wants to stop: the program is to be gone in five seconds (contract §10).
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Seeds one image, unless `stop` comes before the first tag is put. From then on it is too late to say that nothing has
/// happened: the few requests that are left are finished.
///
/// # Errors
///
/// As [`seed`](seed()); [`Interrupted`](Kind::Interrupted) after `stop`.
pub async fn seed_until(
    request: &Seed,
    client: &Client,
    transport: &dyn Transport,
    events: &Events,
    stop: impl Future<Output = ()> + Send,
) -> Result<Outcome> {
    let interrupted = |what: &str| Error::new(Kind::Interrupted, "seed").on(&request.to).because(what.to_owned());
    let mut flow = std::pin::pin!(seed(request, client, transport, events));
    tokio::select! {
        done = &mut flow => done,
        () = stop => match request.commit.has_begun() {
            false => Err(interrupted("interrupted; the destination tag was not moved")),
            true => tokio::time::timeout(LAST_WORDS, flow)
                .await
                .unwrap_or_else(|_| Err(interrupted("interrupted while the tags were being put: they may have moved"))),
        },
    }
}

/// Seeds one image.
///
/// # Errors
///
/// By kind as in the exit codes; whatever fails before the tags are put leaves them where they are, and no file.
pub async fn seed(seed: &Seed, client: &Client, transport: &dyn Transport, events: &Events) -> Result<Outcome> {
    let commons = Commons::default();
    let run = Run { client, transport, events, commons: &commons };
    Prepared::new(seed, run).await?.carry(run).await?.finish(run).await
}

impl<'a> Prepared<'a> {
    /// Carries everything to the destination and looks at what has arrived. No tag moves, unless nothing is verified.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(super) async fn carry(mut self, run: Run<'_>) -> Result<Staged<'a>> {
        let begun = Instant::now();
        let Self { seed, ends, found, .. } = &self;
        run.events.send(Event::Stage("copying"));
        let carried = run.transport.carry(&self.job, &seed.engine, run.events).await?;
        let destination = check::destination(seed, ends, found, run.events).await?;
        let evidence = destination.iter().flat_map(Approved::evidence);
        let proven = evidence.map(|evidence| evidence.node().digest).collect();
        arrival::arrived(ends, &self.companions, &proven).await.map_err(|error| error.at(Side::Destination))?;
        // All manifests of the plan: what is left to do needs none of them.
        self.job.copy.plan = None;
        self.spent += begun.elapsed();
        Ok(Staged { prepared: self, carried, destination })
    }
}

/// A seed of which only the tags and the record are missing.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    pub(super) prepared: Prepared<'a>,
    carried: Carried,
    destination: Option<Approved>,
}

impl Staged<'_> {
    /// Puts the tags and writes the record.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes.
    pub(super) async fn finish(self, run: Run<'_>) -> Result<Outcome> {
        let begun = Instant::now();
        let Self { prepared, carried, destination } = self;
        let Prepared { seed, ends, found, .. } = &prepared;
        put_tags(seed, ends, found, run.events).await?;

        run.events.send(Event::Stage("writing the record"));
        let spent = prepared.spent + begun.elapsed();
        let manifest = SeedManifest {
            schema_version: SeedManifest::version(),
            source_ref: seed.from.clone(),
            source_digest: found.root.node.digest,
            dest_ref: seed.to.clone(),
            dest_digest: found.root.node.digest,
            platforms: prepared.platforms.clone(),
            copied_policy: found.sidecars().next().is_some(),
            signing_key_ref: seed.trust.key(),
            verified: destination.is_some(),
            seeded_at: now()?,
            transfer: Some(ends.account(carried, prepared.accessories(), spent)),
        };
        let files = prepared.record.write(&manifest)?;
        let status =
            if found.is_unchanged() && carried.report.bytes_moved == 0 { Status::Unchanged } else { Status::Seeded };
        let reports = prepared.approved.report().zip(destination.as_ref().and_then(Approved::report));
        let verification =
            reports.map(|(source, site)| Verification { source: source.clone(), destination: site.clone() });
        Ok(Outcome { status, seed: manifest, verification, files })
    }
}

/// Puts the tags of what was verified: the sidecars', and last of all the image's.
async fn put_tags(seed: &Seed, ends: &Ends, found: &Resolved, events: &Events) -> Result<()> {
    if matches!(seed.trust, Trust::Skip) {
        return Ok(());
    }
    events.send(Event::Stage("tagging"));
    seed.commit.begin();
    for sidecar in found.sidecars() {
        put_tag(ends, &sidecar.root, &sidecar.tag, &sidecar.former).await?;
    }
    put_tag(ends, &found.root, &seed.tag()?, &found.former).await
}

async fn put_tag(ends: &Ends, root: &Root, tag: &Tag, former: &Option<Descriptor>) -> Result<()> {
    if former.as_ref().is_some_and(|former| former.digest == root.node.digest) {
        return Ok(());
    }
    let bytes = root.bytes.clone().unwrap_or_default();
    let body = Body::bytes(root.node.clone(), bytes);
    let put = ends.sink.put(&root.node, &body, std::slice::from_ref(tag)).await;
    put.map(drop).map_err(|error| error.at(Side::Destination).during("put tag", tag))
}

/// The time, to the second as the record shows it.
fn now() -> Result<jiff::Timestamp> {
    let failed = |why| Error::new(Kind::Local, "read the clock").because(why);
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).map_err(failed)
}
