//! The sidecars that are copied with an image: found at the source as `bundle verify` finds them (contract §7).

use futures_util::try_join;

use super::endpoints::Endpoints;
use super::explain;
use super::request::{Seed, SidecarHandling, Trust};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Tag};
use crate::store::Root;
use crate::verify::{self, SidecarKind};

/// A manifest beside the image, with a tag of its own.
#[derive(Debug)]
pub(crate) struct FoundSidecar {
    pub(crate) kind: SidecarKind,
    pub(crate) root: Root,
    /// Its tag at the destination.
    pub(crate) tag: Tag,
    /// The node that that tag names now.
    pub(crate) former: Option<Descriptor>,
}

/// The sidecars beside the image at the source.
#[derive(Debug, Default)]
pub(crate) struct FoundSidecars {
    pub(crate) lock: Option<FoundSidecar>,
    pub(crate) policy: Option<FoundSidecar>,
    /// Sidecars whose choice is ambiguous: verification reports them, after the image.
    pub(crate) ambiguous: Vec<(SidecarKind, verify::Sidecar)>,
    /// Referrers of the image, if they were listed.
    pub(crate) referrers: Option<Vec<Descriptor>>,
}

impl FoundSidecars {
    /// Returns the sidecars whose choice is clear.
    pub(crate) fn all(&self) -> impl Iterator<Item = &FoundSidecar> {
        self.lock.iter().chain(&self.policy)
    }

    /// Returns the kinds of sidecars that the source has, ambiguous ones included.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = SidecarKind> {
        self.all().map(|sidecar| sidecar.kind).chain(self.ambiguous.iter().map(|(kind, _)| *kind))
    }
}

/// Looks for both sidecars of the image `root`: by tag, otherwise among its referrers. A sidecar without a tag gets one
/// at the destination.
///
/// Lists the referrers only if they decide something: always for an image that is verified, otherwise if a tag is
/// missing.
///
/// # Errors
///
/// [`Untrusted`](Kind::Untrusted) with `SIDECAR_AMBIGUOUS` if the choice of a sidecar is ambiguous and no verification
/// will report it. Also fails if either end cannot be asked.
pub(crate) async fn find(seed: &Seed, ends: &Endpoints, root: &Digest) -> Result<FoundSidecars> {
    let (SidecarHandling::Copy, Some(from), Some(to)) = (seed.scope.sidecars, &seed.from.tag, &seed.to.tag) else {
        return Ok(FoundSidecars::default());
    };
    let (lock, policy) =
        try_join!(tagged(seed, ends, SidecarKind::Lock, from), tagged(seed, ends, SidecarKind::Policy, from))?;
    let is_verified = matches!(seed.trust, Trust::Verify { .. });
    let mut found = FoundSidecars::default();
    if is_verified || lock.is_none() || policy.is_none() {
        found.referrers = Some(ends.source.referrers(root).await.map_err(|error| unseen(error, seed))?);
    }
    for (kind, tagged) in [(SidecarKind::Lock, lock), (SidecarKind::Policy, policy)] {
        let listed = found.referrers.as_deref().unwrap_or_default();
        let chosen = verify::Sidecar::choose(ends.source.as_ref(), kind, tagged, listed).await;
        let chosen = chosen.map_err(|error| unseen(error, seed))?;
        match chosen {
            verify::Sidecar::Found(root) => {
                let sidecar = Some(towards(seed, ends, kind, *root, to).await?);
                *if kind == SidecarKind::Lock { &mut found.lock } else { &mut found.policy } = sidecar;
            }
            verify::Sidecar::Absent => {}
            chosen if is_verified => found.ambiguous.push((kind, chosen)),
            chosen => chosen.found(kind).map(drop).map_err(|failure| {
                let hint = failure.class.hint();
                let error = Error::new(Kind::Untrusted, "choose the sidecar of").on(&seed.from).because(failure);
                error.at(Side::Source).hint(hint)
            })?,
        }
    }
    Ok(found)
}

/// Resolves the sidecar's tag at the source.
async fn tagged(seed: &Seed, ends: &Endpoints, kind: SidecarKind, from: &Tag) -> Result<Option<Root>> {
    let Some(tag) = kind.tag(from) else { return Err(too_long(seed)) };
    let found = verify::Sidecar::tagged(ends.source.as_ref(), kind, from).await;
    found.map_err(|error| explain::explained(error.at(Side::Source), &seed.from.repository.tagged(&tag)))
}

/// Returns the sidecar, with the node that its tag names at the destination.
async fn towards(seed: &Seed, ends: &Endpoints, kind: SidecarKind, root: Root, to: &Tag) -> Result<FoundSidecar> {
    let Some(tag) = kind.tag(to) else { return Err(too_long(seed)) };
    let former = ends.former(&seed.to.repository.tagged(&tag)).await?;
    Ok(FoundSidecar { kind, root, tag, former })
}

/// Explains that sidecars could not be looked for: for an image that is verified, this is a failed verification.
fn unseen(error: Error, seed: &Seed) -> Error {
    match seed.trust {
        Trust::Verify { .. } => explain::failed(error, Side::Source, &seed.from),
        Trust::Pinned | Trust::Skip => error.at(Side::Source).during("look for sidecars of", &seed.from),
    }
}

fn too_long(seed: &Seed) -> Error {
    Error::new(Kind::Usage, "name the sidecar: the tag is too long").on(&seed.to)
}
