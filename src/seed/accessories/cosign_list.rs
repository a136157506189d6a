//! Lists of layers under cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`: which layers belong there, and the union
//! of two lists (signatures.md, sections 2.1, 2.5 and 2.8).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::oci::{Descriptor, Digest, Shape, Tag};
use crate::store::{MAX_MANIFEST_BYTES, Root};
use crate::trust::artifact::{self, Attachment};
use crate::trust::simple_signing;
use crate::verify::{MAX_LISTED_SIGNATURES, MAX_SIGNATURES};

/// The media type of an attestation: a DSSE envelope.
const ATTESTATION: &str = "application/vnd.dsse.envelope.v1+json";
/// Maximum number of attestations in a list made here: as many as cosign reads.
const MAX_ATTESTATIONS: usize = 1_000;
/// Bytes of a manifest besides its layers.
const AROUND: usize = 1_024;

/// The kinds of content under cosign's tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// `.sig`: one layer for each signature.
    Signatures,
    /// `.att`: one layer for each attestation.
    Attestations,
    /// `.sbom`: one document, in one of many formats.
    Sbom,
}

impl Keeps {
    /// Returns the kind of content under `tag`; `None` if it is not one of cosign's tags.
    pub(crate) fn under(tag: &Tag) -> Option<Self> {
        match tag.as_str().rsplit_once('.')?.1 {
            "sig" => Some(Self::Signatures),
            "att" => Some(Self::Attestations),
            "sbom" => Some(Self::Sbom),
            _ => None,
        }
    }

    /// Returns plain words, for warnings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::Attestations => "attestations",
            Self::Sbom => "an SBOM",
        }
    }

    /// Returns whether two lists of it are merged. An SBOM is one document: its readers expect one layer.
    pub(super) fn is_merged(self) -> bool {
        self != Self::Sbom
    }

    /// Returns whether `layer` belongs in the list. Signatures and attestations have one media type each; an SBOM may
    /// have any, except that of a file system layer, which a container runtime would unpack.
    fn takes(self, layer: &Descriptor) -> bool {
        let media_type = layer.media_type.as_str();
        match self {
            Self::Signatures => media_type == simple_signing::MEDIA_TYPE,
            Self::Attestations => media_type == ATTESTATION,
            Self::Sbom => !is_of_a_file_system(media_type) && !layer.is_manifest(),
        }
    }

    /// Returns the maximum length of a list: verifiers read no entry of a longer one.
    fn most(self) -> usize {
        match self {
            Self::Signatures => MAX_LISTED_SIGNATURES,
            Self::Attestations | Self::Sbom => MAX_ATTESTATIONS,
        }
    }

    /// Returns how many entries, from the start of a list, every verifier reads.
    fn read_by_all(self) -> usize {
        match self {
            Self::Signatures => MAX_SIGNATURES,
            Self::Attestations | Self::Sbom => MAX_ATTESTATIONS,
        }
    }
}

/// Returns whether it is the media type of an image layer: OCI's, Docker's, or a similar one.
fn is_of_a_file_system(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    ["image.layer", "image.rootfs", "rootfs", ".tar"].iter().any(|part| media_type.contains(part))
}

/// A manifest under one of cosign's tags, as a list of its layers.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// The manifest.
    pub(crate) node: Descriptor,
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// The layers that belong there.
    pub(crate) layers: Vec<Descriptor>,
    /// The number of layers that do not belong there.
    pub(crate) strange: usize,
    /// The configuration, if this list was made here and the destination does not have it.
    pub(crate) config: Option<(Descriptor, Bytes)>,
}

/// Identifies a layer: cosign distinguishes signatures by their payload and their annotations.
type Key<'a> = (Digest, &'a BTreeMap<String, String>);

fn key(layer: &Descriptor) -> Key<'_> {
    (layer.digest, &layer.annotations)
}

impl List {
    /// Reads the list under a tag; `None` if that is not a manifest of layers, or none of them belongs there.
    pub(crate) fn read(keeps: Keeps, root: &Root) -> Option<Self> {
        let manifest = root.manifest().ok().filter(|manifest| manifest.shape == Shape::Image)?;
        let count = manifest.layers.len();
        let layers: Vec<_> = manifest.layers.into_iter().filter(|layer| keeps.takes(layer)).collect();
        let strange = count - layers.len();
        if keeps == Keeps::Sbom && strange > 0 {
            return None;
        }
        let Root { node, bytes } = root.clone();
        (!layers.is_empty()).then_some(Self { node, bytes, layers, strange, config: None })
    }

    /// Returns the list without the layers that do not belong there.
    pub(crate) fn pure(self) -> Self {
        if self.strange == 0 { self } else { Self::made(&self.layers) }
    }

    /// Returns the list without the layers in `gone`.
    pub(crate) fn without(self, gone: &[Digest]) -> Self {
        let kept: Vec<_> = self.layers.iter().filter(|layer| !gone.contains(&layer.digest)).cloned().collect();
        if kept.len() == self.layers.len() { self } else { Self::made(&kept) }
    }

    /// Returns whether it holds every layer of `other`.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        let own: HashSet<_> = self.layers.iter().map(key).collect();
        other.layers.iter().all(|layer| own.contains(&key(layer)))
    }

    /// Returns whether it holds every layer of `other`, with `proof` among the entries that every verifier reads.
    pub(crate) fn shows(&self, other: &Self, keeps: Keeps, proof: Option<&Descriptor>) -> bool {
        let is_read = |proof| self.layers.iter().take(keeps.read_by_all()).any(|layer| key(layer) == key(proof));
        self.holds(other) && proof.is_none_or(is_read)
    }

    /// Makes a list of `layers` in the form that cosign writes.
    fn made(layers: &[Descriptor]) -> Self {
        let Attachment { node, manifest, blobs } = artifact::legacy_manifest(layers, &[]);
        Self { node, bytes: manifest, layers: layers.to_vec(), strange: 0, config: blobs.into_iter().next() }
    }
}

/// The union of two lists.
#[derive(Debug)]
pub(crate) enum Union {
    /// The brought list has all layers.
    Brought,
    /// The destination's list has all layers.
    Held,
    /// Neither has all.
    Made {
        /// The merged list.
        list: Box<List>,
        /// The number of layers that did not fit.
        left_out: usize,
    },
}

/// The list that comes first in a union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The brought list.
    Brought,
    /// The destination's list.
    Own,
}

/// Returns the union of `brought` and `own`, the destination's list, in the order of `first`. If there are more layers
/// than every verifier reads, `proof`, the layer that was verified, comes before all others, then the layers of `own`.
///
/// If not all layers fit, keeps `proof` first, then the layers of `own`.
pub(crate) fn union(keeps: Keeps, brought: &List, own: &List, proof: Option<&Descriptor>, first: First) -> Union {
    if brought.holds(own) {
        return Union::Brought;
    }
    if own.shows(brought, keeps, proof) {
        return Union::Held;
    }
    let mut seen = HashSet::new();
    let (first, second) = if first == First::Own { (own, brought) } else { (brought, own) };
    let mut all: Vec<_> = first.layers.iter().chain(&second.layers).filter(|layer| seen.insert(key(layer))).collect();
    let proven = proof.map(key);
    let own: HashSet<_> = own.layers.iter().map(key).collect();
    // Both sorts are stable: layers of equal rank keep their order.
    let rank = |layer: &Descriptor| (Some(key(layer)) != proven, !own.contains(&key(layer)));
    if proven.is_some() && all.len() > keeps.read_by_all() {
        all.sort_by_key(|layer| rank(layer));
    }
    let mut order: Vec<_> = (0..all.len()).collect();
    order.sort_by_key(|&at| rank(all[at]));
    let mut room = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX) - AROUND;
    let mut kept: Vec<_> = order
        .into_iter()
        .filter(|&at| {
            let size = serde_json::to_vec(all[at]).map_or(usize::MAX, |json| json.len() + 1);
            let fits = size <= room;
            room -= if fits { size } else { 0 };
            fits
        })
        .take(keeps.most())
        .collect();
    kept.sort_unstable();
    let left_out = all.len() - kept.len();
    let kept: Vec<_> = kept.into_iter().map(|at| all[at].clone()).collect();
    Union::Made { list: Box::new(List::made(&kept)), left_out }
}

#[cfg(test)]
mod tests;
