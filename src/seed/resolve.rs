//! Resolves the names of a seed, once: from here on only digests move.

use futures_util::try_join;

use crate::copy::{self, Selection};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::{Root, Store};
use crate::verify::SidecarKind;

use super::endpoints::Endpoints;
use super::explain::{explained_with_tags, unresolved};
use super::request::{Seed, SidecarHandling};
use super::sidecars::{self, FoundSidecars};

/// The answers of both ends at the start.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The image: that of the source, or the one that replaces it at the destination.
    pub(crate) root: Root,
    /// The source's image, if another one replaces it.
    pub(super) original: Option<Root>,
    /// Nested indexes that were made for it and that the source does not have.
    pub(crate) nested: Vec<Root>,
    /// The part of the source's indexes that is copied.
    pub(crate) selection: Selection,
    /// The node that the destination's tag names now.
    pub(crate) former: Option<Descriptor>,
    /// The sidecars at the source.
    pub(crate) sidecars: FoundSidecars,
    /// Warnings for the operator.
    pub(crate) warnings: Vec<String>,
}

/// Asks both ends at the same time.
pub(crate) async fn names(seed: &Seed, ends: &Endpoints) -> Result<Resolved> {
    let (root, former) = try_join!(source_root(ends, &seed.from), ends.former(&seed.to))?;
    let mut warnings = Vec::new();
    match &seed.from {
        Reference { digest: Some(_), .. } => {}
        from @ Reference { tag: None, .. } => {
            warnings.push(format!("{from} names no tag: latest is used, which is not pinned and moves"));
        }
        from @ Reference { tag: Some(tag), .. } if tag.as_str() == "latest" => {
            warnings.push(format!("{from} is not pinned: the tag latest moves"));
        }
        Reference { .. } => {}
    }
    let sidecars = sidecars::find(seed, ends, &root.node.digest).await?;
    if seed.scope.sidecars == SidecarHandling::Copy {
        for kind in [SidecarKind::Lock, SidecarKind::Policy] {
            if sidecars.kinds().all(|found| found != kind) {
                warnings.push(format!("sidecar not replicated: {} has no {} sidecar", seed.from, kind.as_str()));
            }
        }
    }
    let (original, nested, selection) = (None, Vec::new(), Selection::default());
    Ok(Resolved { root, original, nested, selection, former, sidecars, warnings })
}

async fn source_root(ends: &Endpoints, from: &Reference) -> Result<Root> {
    let root = ends.source.fetch(&from.name()).await;
    let root = match root {
        Ok(root) => root,
        Err(error) => return Err(explained_with_tags(error.at(Side::Source), from, &ends.origin).await),
    };
    if root.node.size == 0 {
        let error = Error::new(Kind::Invalid, "empty content digest resolved");
        return Err(unresolved(error, Side::Source, from));
    }
    Ok(root)
}

impl Resolved {
    /// Returns the digest that the source's reference names.
    pub(crate) fn source_digest(&self) -> Digest {
        self.original.as_ref().unwrap_or(&self.root).node.digest
    }

    /// Returns the manifests of the image that are copied and may have something attached: for a rewritten index, all
    /// except the indexes whose digest has changed.
    ///
    /// # Errors
    ///
    /// Fails like [`copy::manifests`].
    pub(crate) async fn subjects(&self, source: &dyn Store) -> Result<Vec<Digest>> {
        let Some(original) = &self.original else { return copy::manifests(source, &self.root, &self.selection).await };
        let mut subjects = copy::manifests(source, original, &self.selection).await?;
        subjects.retain(|digest| *digest != original.node.digest && self.selection.left_out(digest) == 0);
        Ok(subjects)
    }

    /// Returns the roots of the sidecars, and last that of the image, each with what its tag names at the destination.
    pub(super) fn roots(&self) -> impl Iterator<Item = (&Root, &Option<Descriptor>)> {
        let sidecars = self.sidecars.all().map(|sidecar| (&sidecar.root, &sidecar.former));
        sidecars.chain([(&self.root, &self.former)])
    }

    /// Returns whether the destination's tag names the image already.
    pub(super) fn is_unchanged(&self) -> bool {
        self.former.as_ref().is_some_and(|former| former.digest == self.root.node.digest)
    }
}
