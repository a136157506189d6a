//! What the sink holds already, learned with the fewest questions.
//!
//! The root that a tag names now proves itself and, unless every node is to be asked for, all that it refers to. When
//! a tag moves, the former image is read from the sink (one request a manifest, no matter how many layers) and shows
//! which manifests and blobs need not move; whatever it does not show is asked for by the sink's own way of putting.
//! That is cheaper than a HEAD for each blob whenever images share anything, and never costs more than the manifests
//! of the former image.
//!
//! An index that was seeded without all its platforms vouches for nothing, though it is the root: which of its children
//! are there is asked, one small question each, as long as a selection knows it.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::graph::{Graph, Start, View};
use super::schedule::LARGE;
use super::{Destination, Job, Target};
use crate::error::{Kind, Result, Side};
use crate::oci::{Descriptor, Manifest};
use crate::store::read_manifest;

/// Questions asked at the same time.
const QUESTIONS: usize = 8;

/// What an image has at least, most of the time: a configuration and a few layers. Too few only wait a little, too many
/// would cost what nobody uses.
const BLOBS: usize = 4;

/// What a manifest takes for each blob, in bytes, without annotations: 160 in one line, 200 to 250 on lines of their own.
const BYTES_A_BLOB: u64 = 200;

/// What a manifest at the sink proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// A manifest vouches for everything it refers to: registries refuse manifests whose blobs they do not hold.
    #[default]
    Vouched,
    /// It proves nothing: every node is asked for, its length is compared, and what is missing or of another length is put.
    EveryNode,
    /// Nothing that the sink says proves anything: every byte is read back, and what is missing or damaged is put.
    EveryByte,
}

/// Everything that the former roots at the sink refer to.
///
/// A former image that cannot be read whole proves nothing; the copy then mends it.
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
            // Too large to be looked at is no reason to leave it there.
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

/// Tells other copies what an image vouches for that is in place, as far as that costs no request.
fn note_blobs(site: &Destination, target: &Target) {
    let manifest = target.bytes.as_ref().map(|bytes| Manifest::parse(bytes, &target.node.media_type));
    let Some(Ok(manifest)) = manifest else { return };
    let blobs = manifest.children().filter(|child| !child.is_manifest());
    blobs.filter(|blob| !blob.is_foreign()).for_each(|blob| site.holds(&blob.digest));
}

/// Where copying begins: the roots that are not in place yet, and what is missing below those that vouch for nothing.
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

/// The chosen manifests below `target` that the sink does not hold. The sink is asked for each; one that is there vouches
/// for what it refers to, unless it is such an index itself.
async fn below(job: &Job, target: &Target) -> Result<Vec<Start>> {
    let mut missing = Vec::new();
    let mut indexes = vec![(target.node.clone(), target.bytes.clone())];
    // Ends: the selection knows a bounded number of indexes, and none of them holds itself.
    while let Some((index, bytes)) = indexes.pop() {
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read_manifest(job.source.as_ref(), &index).await.map_err(|error| error.at(Side::Source))?,
        };
        // What cannot be read as a manifest has not come here by a selection.
        let Ok(manifest) = Manifest::parse(&bytes, &index.media_type) else { continue };
        let children = manifest.children().filter(|child| job.selection.takes(&index.digest, &child.digest));
        // Collected first: a future over a stream of closures cannot be told to be sendable.
        let questions: Vec<_> = children.cloned().map(|child| is_there(job, child)).collect();
        let answers: Vec<_> = stream::iter(questions).buffered(QUESTIONS).try_collect().await?;
        for (child, is_there) in answers {
            match is_there {
                false => missing.push((child, None)),
                true if job.selection.covers(&child.digest) => indexes.push((child, None)),
                true => {}
            }
        }
    }
    Ok(missing)
}

/// How many small blobs `job` is going to ask for, about, as what is at hand tells it: those of images that are not in
/// place, and what the length of each manifest lets expect that an index lists, but not fewer than [`BLOBS`]. To large
/// blobs a round trip more or less is nothing.
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

/// Whether the sink already names this very root where it shall be named.
fn is_named(target: &Target, presence: Presence) -> bool {
    presence == Presence::Vouched && target.former.as_ref().is_some_and(|former| former.digest == target.node.digest)
}
