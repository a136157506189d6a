//! One image from one registry to another, verified at both ends, its tag put last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ends::{Ends, place};
use super::request::{Seed, Trust};
use super::resolve::{self, Resolved};
use super::{Record, check, inspect};
use crate::copy::{self, Event, Events, Target};
use crate::document::SeedManifest;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Name, Tag};
use crate::store::{Body, Root, Store};
use crate::transport::{Job, Transport};
use crate::verify::{Approved, Evidence, Report};
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
    let begun = Instant::now();
    let record = Record::prepare(&seed.folder)?;
    let ends = Ends::new(client, seed);
    events.send(Event::Stage("resolving"));
    let found = resolve::names(seed, &ends).await?;
    for warning in &found.warnings {
        events.send(Event::Warning(warning.clone()));
    }
    let approved = check::source(seed, &ends, &found, events).await?;
    let platforms = platforms(&found, &ends, &record).await?;

    events.send(Event::Stage("copying"));
    let targets = targets(seed, &ends, &found, &approved).await?;
    let accessories = targets.iter().skip(1).map(|target| target.node.digest).collect();
    let mut job = copy::Job::new(ends.source(), Arc::clone(&ends.sink) as _, targets);
    job.commit = seed.commit.clone();
    let (from, to) = (place(&seed.from, &ends.origin), place(&seed.to, &ends.sink));
    let job = Job::new(&approved, from, to, job)?;
    let carried = transport.carry(&job, &seed.engine, events).await?;

    let destination = check::destination(seed, &ends, &found, events).await?;
    put_tags(seed, &ends, &found, events).await?;

    events.send(Event::Stage("writing the record"));
    let manifest = SeedManifest {
        schema_version: SeedManifest::version(),
        source_ref: seed.from.clone(),
        source_digest: found.root.node.digest,
        dest_ref: seed.to.clone(),
        dest_digest: found.root.node.digest,
        platforms,
        copied_policy: found.sidecars().next().is_some(),
        signing_key_ref: seed.trust.key(),
        verified: destination.is_some(),
        seeded_at: now()?,
        transfer: Some(ends.account(carried, accessories, begun)),
    };
    let files = record.write(&manifest)?;
    let status =
        if found.is_unchanged() && carried.report.bytes_moved == 0 { Status::Unchanged } else { Status::Seeded };
    let reports = approved.report().zip(destination.as_ref().and_then(Approved::report));
    let verification = reports.map(|(source, site)| Verification { source: source.clone(), destination: site.clone() });
    Ok(Outcome { status, seed: manifest, verification, files })
}

/// The image first, then what proves it, then its sidecars.
///
/// Where the image is verified nothing gets its tag yet: the image and the sidecars are put by digest.
async fn targets(seed: &Seed, ends: &Ends, found: &Resolved, approved: &Approved) -> Result<Vec<Target>> {
    let tags = |tag: &Tag| match seed.trust {
        Trust::Skip => vec![tag.clone()],
        Trust::Verify { .. } => Vec::new(),
    };
    let target = |root: &Root, tag: &Tag, former: &Option<Descriptor>| Target {
        node: root.node.clone(),
        bytes: root.bytes.clone(),
        tags: tags(tag),
        former: former.clone(),
    };
    let mut targets = vec![target(&found.root, &seed.tag()?, &found.former)];
    for evidence in approved.evidence() {
        targets.push(evidence_target(ends, found, evidence).await?);
    }
    targets.extend(found.sidecars().map(|sidecar| target(&sidecar.root, &sidecar.tag, &sidecar.former)));
    Ok(targets)
}

/// A signature as a target. Whether the destination has it already is asked only where it has had an image before.
async fn evidence_target(ends: &Ends, found: &Resolved, evidence: &Evidence) -> Result<Target> {
    let (node, tags) = match evidence {
        Evidence::Tagged { tag, node } => (node, vec![tag.clone()]),
        Evidence::Referrer { node } => (node, Vec::new()),
    };
    let name = tags.first().map_or(Name::Digest(node.digest), |tag| Name::Tag(tag.clone()));
    let former = match &found.former {
        Some(_) => resolve::held(ends.sink.as_ref(), &name).await.map_err(|error| error.at(Side::Destination))?,
        None => None,
    };
    Ok(Target { node: node.clone(), bytes: None, tags, former })
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

/// The platforms for the record. An unchanged image's are those of the last record, if it is at hand: that saves the
/// request for a configuration that nothing else needs.
async fn platforms(found: &Resolved, ends: &Ends, record: &Record) -> Result<Vec<String>> {
    let recorded =
        record.former().filter(|former| found.is_unchanged() && former.dest_digest == found.root.node.digest);
    match recorded {
        Some(recorded) => Ok(recorded.platforms),
        None => inspect::platforms(&found.root, ends.source.as_ref()).await.map_err(|error| error.at(Side::Source)),
    }
}

/// The time, to the second as the record shows it.
fn now() -> Result<jiff::Timestamp> {
    let failed = |why| Error::new(Kind::Local, "read the clock").because(why);
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).map_err(failed)
}
