//! Verifies both ends: approves the source before anything moves, and checks what arrived. A pinned image is verified by its
//! digest alone.

use super::endpoints::Endpoints;
use super::explain;
use super::request::{Seed, SidecarHandling, Trust};
use super::resolve::Resolved;
use super::sidecars;
use crate::copy::{Event, Events, Stage};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Name, Reference, Tag};
use crate::store::{ListingStore, Root, read_manifest};
use crate::verify::{Approved, Candidate, Demands, Pipeline, Sidecar, SidecarDemand, SidecarKind, VerifyReport};

/// Approves the image at the source, by its signature or by its digest, or records that verification is skipped.
///
/// # Errors
///
/// [`Untrusted`](Kind::Untrusted) if a demand is not met; the kind of the transport error if the source could not be
/// asked. In both cases the text says `source verification failed (fail-closed)`.
pub(crate) async fn source(seed: &Seed, ends: &Endpoints, found: &Resolved, events: &Events) -> Result<Approved> {
    let demands = match &seed.trust {
        Trust::Verify { demands, .. } => demands,
        Trust::Pinned => {
            let approved = by_digest(seed, &found.source_digest());
            return approved.map_err(|error| explain::failed(error, Side::Source, &seed.from));
        }
        Trust::Skip => return Ok(Approved::unchecked("--skip-verify")),
    };
    events.send(Event::Stage(Stage::VerifyingSource));
    let checked = async {
        let source = ends.source.as_ref();
        let mut subject = subject(&seed.from, found);
        for sidecar in found.sidecars.all() {
            // With its bytes, which were read already.
            *place(&mut subject, sidecar.kind) = Sidecar::Found(Box::new(sidecar.root.clone()));
        }
        for (kind, sidecar) in &found.sidecars.ambiguous {
            *place(&mut subject, *kind) = sidecar.clone();
        }
        subject.referrers.clone_from(&found.sidecars.referrers);
        run(demands, source, &subject, found).await?.approve()
    };
    checked.await.map_err(|error| explain::failed(error, Side::Source, &seed.from))
}

/// Verifies what arrived: the destination's own bytes, by digest, before any tag names them.
///
/// # Errors
///
/// Fails like [`source`], with `destination verification failed (fail-closed)`.
pub(crate) async fn destination(
    seed: &Seed,
    sink: &dyn ListingStore,
    found: &Resolved,
    events: &Events,
) -> Result<Option<Approved>> {
    if matches!(seed.trust, Trust::Skip) {
        return Ok(None);
    }
    events.send(Event::Stage(Stage::VerifyingDestination));
    let checked = async {
        // The steps that need the sidecars' bytes read them; the image's own are read only here.
        if found.is_unchanged() {
            by_tag(sink, &seed.tag()?, &found.root.node).await?;
        } else {
            read_manifest(sink, &found.root.node).await?;
        }
        let Some(demands) = seed.site_demands()? else { return by_digest(seed, &found.root.node.digest) };
        let mut subject = subject(&seed.to, found);
        let is_there = |sidecar: &&sidecars::FoundSidecar| {
            sidecar.former.as_ref().is_some_and(|it| it.digest == sidecar.root.node.digest)
        };
        for sidecar in found.sidecars.all().filter(is_there) {
            let root = by_tag(sink, &sidecar.tag, &sidecar.root.node).await?;
            *place(&mut subject, sidecar.kind) = Sidecar::Found(Box::new(root));
        }
        run(&demands, sink, &subject, found).await?.approve()
    };
    checked.await.map(Some).map_err(|error| explain::failed(error, Side::Destination, &seed.to))
}

/// Approves a pinned image. Its sidecars and a smaller index in its place have other digests, which nobody gave.
fn by_digest(seed: &Seed, found: &Digest) -> Result<Approved> {
    let given = seed.from.digest.filter(|_| seed.scope.sidecars == SidecarHandling::Leave);
    let given = given.ok_or_else(|| Error::new(Kind::Usage, "a pinned image is named by its digest alone"))?;
    Approved::pinned(given, found).ok_or_else(|| {
        let error = Error::new(Kind::Untrusted, "compare digests");
        error.because(format!("{found} is to be copied, and {given} is pinned"))
    })
}

/// Reads content that is in place already by its tag. Only this shows what a pull of that tag returns: a cache in front
/// of the registry, or the registry itself, may name one image in the response to HEAD and another in the response to
/// GET.
///
/// # Errors
///
/// [`Untrusted`](Kind::Untrusted) if the tag returns something else. Also fails if it cannot be read.
async fn by_tag(sink: &dyn ListingStore, tag: &Tag, node: &Descriptor) -> Result<Root> {
    let root = sink.fetch(&Name::Tag(tag.clone())).await?;
    if root.node.digest == node.digest {
        return Ok(root);
    }
    let why = format!("asked for its digest it names {}, and it gives {}", node.digest, root.node.digest);
    let told = Error::new(Kind::Untrusted, "read tag").on(tag).because(why);
    Err(told.hint(
        "a cache before the registry may be stale, or somebody else has moved the tag: look at it, and run it again",
    ))
}

/// Returns the candidate to verify, as resolved at the start: no tag is read again.
fn subject(reference: &Reference, found: &Resolved) -> Candidate {
    let mut subject = Candidate::new(reference.clone(), found.root.node.clone());
    for sidecar in found.sidecars.all() {
        // Without its bytes: verification must use what the store holds.
        *place(&mut subject, sidecar.kind) = Sidecar::Known(Box::new(sidecar.root.node.clone()));
    }
    subject
}

fn place(subject: &mut Candidate, kind: SidecarKind) -> &mut Sidecar {
    match kind {
        SidecarKind::Lock => &mut subject.lock,
        SidecarKind::Policy => &mut subject.policy,
    }
}

/// Runs the pipeline. Everything that is copied must be trusted (contract §8): the sidecars that the source has are
/// required.
async fn run(
    demands: &Demands,
    store: &dyn ListingStore,
    subject: &Candidate,
    found: &Resolved,
) -> Result<VerifyReport> {
    let mut demands = demands.clone();
    for kind in found.sidecars.kinds() {
        match kind {
            SidecarKind::Lock => demands.lock = SidecarDemand::Required,
            SidecarKind::Policy => demands.policy = SidecarDemand::Required,
        }
    }
    // Boxed: far larger than everything around it, and many images skip verification and should not reserve its size.
    Box::pin(Pipeline::new(demands).run(store, subject)).await
}
