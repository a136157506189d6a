//! What the sink holds already, learned with the fewest questions.
//!
//! The root that a tag names now proves itself and, unless every node is to be asked for, all that it refers to. When
//! a tag moves, the former image is read from the sink (one request a manifest, no matter how many layers) and shows
//! which manifests and blobs need not move; whatever it does not show is asked for by the sink's own way of putting.
//! That is cheaper than a HEAD for each blob whenever images share anything, and never costs more than the manifests
//! of the former image.

use super::graph::{Graph, Start};
use super::{Job, Site, Target};
use crate::error::{Kind, Result, Side};
use crate::oci::Manifest;

/// What a manifest at the sink proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// A manifest vouches for everything it refers to: registries refuse manifests whose blobs they do not hold.
    #[default]
    Vouched,
    /// It proves nothing: every node is asked for, and what is missing is put.
    EveryNode,
}

/// Everything that the former roots at the sink refer to.
///
/// A former image that cannot be read whole proves nothing; the copy then mends it.
pub(super) async fn held(job: &Job, presence: Presence) -> Result<Graph> {
    let mut held = Graph::default();
    if presence == Presence::EveryNode {
        return Ok(held);
    }
    for target in job.targets.iter().filter(|target| !is_done(target, presence)) {
        let Some(former) = &target.former else { continue };
        let read = Graph::read(&job.sink, &[(former.clone(), None)], Some(&held)).await;
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
        let nodes = held.nodes().iter().filter(|node| node.bytes.is_none() && node.descriptor.urls.is_empty());
        nodes.for_each(|node| site.holds(&node.descriptor.digest));
        job.targets.iter().filter(|target| is_done(target, presence)).for_each(|target| note_blobs(site, target));
    }
    Ok(held)
}

/// Tells other copies what an image vouches for that is in place, as far as that costs no request.
fn note_blobs(site: &Site, target: &Target) {
    let manifest = target.bytes.as_ref().map(|bytes| Manifest::parse(bytes, &target.node.media_type));
    let Some(Ok(manifest)) = manifest else { return };
    let blobs = manifest.children().filter(|child| !child.is_manifest());
    // A foreign layer may have been left out.
    blobs.filter(|blob| blob.urls.is_empty()).for_each(|blob| site.holds(&blob.digest));
}

/// The roots that are not in place yet.
pub(super) fn missing(job: &Job, presence: Presence) -> Vec<Start> {
    let targets = job.targets.iter().filter(|target| !is_done(target, presence));
    targets.map(|target| (target.node.clone(), target.bytes.clone())).collect()
}

/// Whether the sink already names this very root where it shall be named.
pub(super) fn is_done(target: &Target, presence: Presence) -> bool {
    presence == Presence::Vouched && target.former.as_ref().is_some_and(|former| former.digest == target.node.digest)
}
