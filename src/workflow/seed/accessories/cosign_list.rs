//! What stands under cosign's tags `sha256-<hex>.sig`, `.att` and `.sbom`: which layers belong there, and one list made of
//! two (signatures.md, sections 2.1, 2.5 and 2.8).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::oci::{Descriptor, Digest, Manifest, Shape, Tag};
use crate::store::{MAX_MANIFEST_BYTES, Root};
use crate::trust::artifact::{self, Attachment};
use crate::trust::simple_signing;
use crate::verify::{MAX_LISTED_SIGNATURES, MAX_SIGNATURES};

/// The type of an attestation: a DSSE envelope.
const ATTESTATION: &str = "application/vnd.dsse.envelope.v1+json";
/// Most attestations in a list that is made here: as many as cosign reads.
const MAX_ATTESTATIONS: usize = 1_000;
/// Bytes of a manifest besides its layers.
const AROUND: usize = 1_024;

/// The kinds of cosign's tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// `.sig`: a layer a signature.
    Signatures,
    /// `.att`: a layer an attestation.
    Attestations,
    /// `.sbom`: one document, in one of many formats.
    Sbom,
}

impl Keeps {
    /// What cosign keeps under `tag`; none if it is no tag of cosign's.
    pub(crate) fn under(tag: &Tag) -> Option<Self> {
        match tag.as_str().rsplit_once('.')?.1 {
            "sig" => Some(Self::Signatures),
            "att" => Some(Self::Attestations),
            "sbom" => Some(Self::Sbom),
            _ => None,
        }
    }

    /// In plain words, for warnings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::Attestations => "attestations",
            Self::Sbom => "an SBOM",
        }
    }

    /// Whether lists of it are put together. An SBOM is one document: its readers expect one layer.
    pub(super) fn is_merged(self) -> bool {
        self != Self::Sbom
    }

    /// Whether `layer` belongs there. Signatures and attestations have one type each; an SBOM has any, but is no part of a
    /// file system that a container runtime would unpack.
    fn takes(self, layer: &Descriptor) -> bool {
        let media_type = layer.media_type.as_str();
        match self {
            Self::Signatures => media_type == simple_signing::MEDIA_TYPE,
            Self::Attestations => media_type == ATTESTATION,
            Self::Sbom => !is_of_a_file_system(media_type) && !layer.is_manifest(),
        }
    }

    /// How many may be listed, or nobody reads any of them.
    fn most(self) -> usize {
        match self {
            Self::Signatures => MAX_LISTED_SIGNATURES,
            Self::Attestations | Self::Sbom => MAX_ATTESTATIONS,
        }
    }

    /// How many of those, the first ones, every verifier reads.
    fn read_by_all(self) -> usize {
        match self {
            Self::Signatures => MAX_SIGNATURES,
            Self::Attestations | Self::Sbom => MAX_ATTESTATIONS,
        }
    }
}

/// Layers of images: OCI's, Docker's, and those that are like them.
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
    /// How many do not.
    pub(crate) strange: usize,
    /// The configuration, where this list was made here and nobody holds it.
    pub(crate) config: Option<(Descriptor, Bytes)>,
}

/// How two layers are told apart: cosign tells a signature by its payload and its annotations.
type Key<'a> = (Digest, &'a BTreeMap<String, String>);

fn key(layer: &Descriptor) -> Key<'_> {
    (layer.digest, &layer.annotations)
}

impl List {
    /// Reads what stands under a tag; none if that is no manifest of layers, or none of them belongs there.
    pub(crate) fn read(keeps: Keeps, root: &Root) -> Option<Self> {
        let bytes = root.bytes.clone()?;
        let manifest = Manifest::parse(&bytes, &root.node.media_type).ok().filter(|one| one.shape == Shape::Image)?;
        let count = manifest.layers.len();
        let layers: Vec<_> = manifest.layers.into_iter().filter(|layer| keeps.takes(layer)).collect();
        let strange = count - layers.len();
        if keeps == Keeps::Sbom && strange > 0 {
            return None;
        }
        (!layers.is_empty()).then(|| Self { node: root.node.clone(), bytes, layers, strange, config: None })
    }

    /// The same without the layers that do not belong there.
    pub(crate) fn pure(self) -> Self {
        if self.strange == 0 { self } else { Self::made(&self.layers) }
    }

    /// The same without the layers that `gone` names.
    pub(crate) fn without(self, gone: &[Digest]) -> Self {
        let kept: Vec<_> = self.layers.iter().filter(|layer| !gone.contains(&layer.digest)).cloned().collect();
        if kept.len() == self.layers.len() { self } else { Self::made(&kept) }
    }

    /// Whether it holds every layer of `other`.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        let own: HashSet<_> = self.layers.iter().map(key).collect();
        other.layers.iter().all(|layer| own.contains(&key(layer)))
    }

    /// The same, with `proof` among those that every verifier reads.
    pub(crate) fn shows(&self, other: &Self, keeps: Keeps, proof: Option<&Descriptor>) -> bool {
        let is_read = |proof| self.layers.iter().take(keeps.read_by_all()).any(|layer| key(layer) == key(proof));
        self.holds(other) && proof.is_none_or(is_read)
    }

    /// A list of `layers` in the form that cosign writes.
    fn made(layers: &[Descriptor]) -> Self {
        let Attachment { node, manifest, blobs } = artifact::legacy_manifest(layers, &[]);
        Self { node, bytes: manifest, layers: layers.to_vec(), strange: 0, config: blobs.into_iter().next() }
    }
}

/// One list of two.
#[derive(Debug)]
pub(crate) enum Union {
    /// The one that is brought has all.
    Brought,
    /// The one that is there has all.
    Held,
    /// Neither has.
    Made {
        /// Both.
        list: Box<List>,
        /// How many layers there was no room for.
        left_out: usize,
    },
}

/// What comes first in one list of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// What is brought.
    Brought,
    /// What is there.
    Own,
}

/// Puts `brought` and `own`, which the destination has, together, in the order that `first` says. If there are more than
/// every verifier reads, `proof`, the layer that was verified, comes before all others, and then what was there.
///
/// Where there is no room for all, `proof` is kept, then what was there.
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
    // Both sorts are stable: each keeps its place among its like.
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
