//! Finds what the sink holds already, with the fewest requests.
//!
//! The root that a tag names now proves itself and, unless every node is checked, everything that it refers to. When a
//! tag moves, the former image is read from the sink (one request per manifest, however many layers) and shows which
//! manifests and blobs need not move; for all other nodes, the sink's `put` asks. That is cheaper than one HEAD per blob
//! whenever images share anything, and never costs more than the manifests of the former image.
//!
//! An index that was seeded without all its platforms vouches for nothing, even as the root: if a selection knows it,
//! each of its children takes one small request.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::graph::{Graph, Start, View};
use super::schedule::LARGE;
use super::selection::past_bounds;
use super::{Destination, Job, Target};
use crate::error::{Kind, Result, Side};
use crate::oci::walk::{Visit, Walk};
use crate::oci::{Descriptor, Manifest};
use crate::store::read_manifest;

/// Requests sent at the same time.
const QUESTIONS: usize = 8;

/// The fewest blobs that most images have: a configuration and a few layers. Too low a number costs a short wait, too
/// high a number costs unused connections.
const BLOBS: usize = 4;

/// Bytes of a manifest per blob, without annotations: 160 in one line, 200 to 250 on lines of their own.
const BYTES_A_BLOB: u64 = 200;

/// How far a manifest at the sink is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// A manifest vouches for everything it refers to: registries refuse manifests whose blobs they do not hold.
    #[default]
    Vouched,
    /// Nothing: every node is requested, its length is compared, and missing nodes or nodes of another length are put.
    EveryNode,
    /// Nothing that the sink says counts: every byte is read back, and missing or damaged nodes are put.
    EveryByte,
}

/// Returns everything that the former roots at the sink refer to.
///
/// A former image that cannot be read completely proves nothing; the copy then repairs it.
pub(super) async fn held(job: &Job, presence: Presence) -> Result<Graph> {
    let mut held = Graph::default();
    if presence != Presence::Vouched {
        return Ok(held);
    }
    for target in job.targets.iter().filter(|target| !is_named(target, presence)) {
        let Some(former) = &target.former else { continue };
        let view = View::Alike(&job.selection);
        let read = Graph::read(&job.sink, &[(former.clone(), None)], Some(&held), view).await;
        match read.and_then(|graph| held.merge(graph)) {
            Ok(()) => {}
            // A former image past the limits proves nothing either; the copy replaces it.
            Err(error)
                if matches!(
                    error.kind(),
                    Kind::NotFound | Kind::Corrupt | Kind::Invalid | Kind::Unsupported | Kind::Limit
                ) =>
            {
                tracing::debug!(error = %error.chain(), "the former image proves nothing");
            }
            Err(error) => return Err(error.at(Side::Destination)),
        }
    }
    if let Some(site) = &job.site {
        let blobs = held.nodes().iter().map(|node| &node.slim).filter(|blob| !blob.is_manifest());
        // A foreign layer may have been left out.
        blobs.filter(|blob| !blob.is_foreign).for_each(|blob| site.holds(&blob.digest));
        job.targets.iter().filter(|target| is_named(target, presence)).for_each(|target| note_blobs(site, target));
    }
    Ok(held)
}

/// Tells other copies which blobs an image in place vouches for, as far as that costs no request.
fn note_blobs(site: &Destination, target: &Target) {
    let manifest = target.bytes.as_ref().map(|bytes| Manifest::parse(bytes, &target.node.media_type));
    let Some(Ok(manifest)) = manifest else { return };
    let blobs = manifest.children().filter(|child| !child.is_manifest());
    blobs.filter(|blob| !blob.is_foreign()).for_each(|blob| site.holds(&blob.digest));
}

/// Returns where copying begins: roots that are not in place yet, and missing nodes below roots that vouch for nothing.
pub(super) async fn missing(job: &Job, presence: Presence) -> Result<Vec<Start>> {
    let mut starts = Vec::new();
    for target in &job.targets {
        if !is_named(target, presence) {
            starts.push((target.node.clone(), target.bytes.clone()));
        } else if job.selection.covers(&target.node.digest) {
            starts.extend(below(job, target).await?);
        }
    }
    Ok(starts)
}

/// Returns the chosen manifests below `target` that the sink lacks. Asks the sink for each; one that exists vouches for
/// what it refers to, unless it is such an index itself.
async fn below(job: &Job, target: &Target) -> Result<Vec<Start>> {
    // A selection stays within the bounds of a walk.
    let (mut missing, mut walk) = (Vec::new(), Walk::default());
    walk.add(target.node.digest, target.node.size, 0, (target.node.clone(), target.bytes.clone()));
    while let Some(Visit { item: (index, bytes), depth, .. }) =
        walk.next().map_err(|why| past_bounds(job.source.as_ref(), why))?
    {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read_manifest(job.source.as_ref(), &index).await.map_err(|error| error.at(Side::Source))?,
        };
        // Skipped: a selection contains only manifests that could be parsed.
        let Ok(manifest) = Manifest::parse(&bytes, &index.media_type) else { continue };
        let children = manifest.children().filter(|child| job.selection.takes(&index.digest, &child.digest));
        // Collected first: rustc cannot prove that a stream of these closures is `Send`.
        let questions: Vec<_> = children.cloned().map(|child| is_there(job, child)).collect();
        let answers: Vec<_> = stream::iter(questions).buffered(QUESTIONS).try_collect().await?;
        for (child, is_there) in answers {
            match is_there {
                false => missing.push((child, None)),
                true if job.selection.covers(&child.digest) => {
                    walk.add(child.digest, child.size, depth + 1, (child, None));
                }
                true => {}
            }
        }
    }
    Ok(missing)
}

/// Estimates how many small blobs `job` will request, from what is known: the blobs of images that are not in place, and
/// for each manifest in an index a number from its length, but at least [`BLOBS`]. Large blobs are not counted: one round
/// trip does not matter to them.
pub(super) fn outlook(job: &Job, presence: Presence) -> usize {
    let roots = job.targets.iter().filter(|target| !is_named(target, presence));
    let blobs = roots.filter_map(|root| {
        let manifest = Manifest::parse(root.bytes.as_ref()?, &root.node.media_type).ok()?;
        let children = manifest.children().filter(|child| job.selection.takes(&root.node.digest, &child.digest));
        let count = |child: &Descriptor| match child.is_manifest() {
            true => usize::try_from(child.size / BYTES_A_BLOB).unwrap_or(usize::MAX).max(BLOBS),
            false => usize::from(child.size < LARGE),
        };
        Some(children.map(count).fold(0, usize::saturating_add))
    });
    blobs.sum()
}

async fn is_there(job: &Job, node: Descriptor) -> Result<(Descriptor, bool)> {
    let is_there = job.sink.contains(&node).await.map_err(|error| error.at(Side::Destination))?;
    Ok((node, is_there))
}

/// Returns whether the sink already has this root under the right tag.
fn is_named(target: &Target, presence: Presence) -> bool {
    presence == Presence::Vouched && target.former.as_ref().is_some_and(|former| former.digest == target.node.digest)
}
