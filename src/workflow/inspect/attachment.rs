//! Something attached to a manifest: its kind, its size, and the signer that it names.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::copy::{self, Attached};
use crate::error::{Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Shape, Tag};
use crate::store::{self, Root, Store};
use crate::trust::claimed_signer::{self, BundleClaims};
use crate::trust::{sigstore_bundle, simple_signing};
use crate::verify::SidecarKind;
use crate::workflow::image_content::{content_size, shown};

/// Largest sigstore bundle that is read for its signer; cosign writes 700 bytes, and a few thousand with a log entry.
const MAX_BUNDLE_BYTES: u64 = 256 << 10;
/// Most signers of one object that are shown.
const MAX_SIGNERS: usize = 10;
/// Deepest nesting of attachments that is shown.
const MAX_DEPTH: usize = 8;

/// The artifact type of a legacy signature that is attached as a referrer.
const ATTACHED_SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The artifact type of a Notary Project signature.
const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// The start of the media types of in-toto statements and envelopes.
const STATEMENTS: [&str; 2] = ["application/vnd.in-toto", "application/vnd.dsse.envelope"];
/// Parts of the media types of SBOMs.
const SBOMS: [&str; 4] = ["spdx", "cyclonedx", "syft", "sbom"];
/// Annotations that name the predicate type: of cosign's bundles, of cosign's lists, of BuildKit.
const PREDICATES: [&str; 3] = ["dev.sigstore.bundle.predicateType", "predicateType", "in-toto.io/predicate-type"];

/// The kind of an attachment, as its types and tags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentKind {
    /// A signature of the subject.
    Signature,
    /// A signed statement about the subject.
    Attestation,
    /// A list of the subject's components.
    Sbom,
    /// A lock or a policy.
    Sidecar(SidecarKind),
    /// Anything else: the artifact type says more.
    Artifact,
}

impl AttachmentKind {
    /// Returns the kind in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Attestation => "attestation",
            Self::Sbom => "sbom",
            Self::Sidecar(kind) => kind.as_str(),
            Self::Artifact => "artifact",
        }
    }
}

impl Serialize for AttachmentKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something attached to a manifest.
#[derive(Debug, Serialize)]
pub struct InspectedAttachment {
    /// Its kind.
    pub kind: AttachmentKind,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The tag that attaches it; none for a referrer.
    pub tag: Option<String>,
    /// Its artifact type, as a list of referrers shows it.
    pub artifact_type: Option<String>,
    /// The predicate types of its statements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predicate_types: Vec<String>,
    /// The bytes of its manifest and blobs.
    pub size: u64,
    /// The signers that it names. A claim: anyone can name anyone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims_to_be_signed_by: Vec<String>,
    /// Whether it proved that its subject is signed by a given key.
    pub verified: bool,
    /// Everything attached to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<Self>,
}

/// An attachment that was read.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) subject: Digest,
    /// Whether its manifest names the subject.
    pub(super) is_referrer: bool,
    node: Descriptor,
    tag: Option<Tag>,
    kind: AttachmentKind,
    artifact_type: Option<MediaType>,
    predicate_types: Vec<String>,
    signers: Vec<String>,
    size: u64,
}

impl Details {
    /// Reads the manifest of an attachment, and a small bundle in it. None if it is gone, or names another subject: a list
    /// can claim anything.
    pub(super) async fn read(store: &dyn Store, attached: &Attached) -> Result<Option<Self>> {
        let root = match &attached.bytes {
            Some(bytes) => Some(Root { node: attached.node.clone(), bytes: bytes.clone() }),
            None => find(store, attached.node.digest).await?,
        };
        let Some(root) = root else { return Ok(None) };
        let is_referrer = copy::refers_to(&root, &attached.subject);
        if attached.tag.is_none() && !is_referrer {
            return Ok(None);
        }
        let Ok(manifest) = root.manifest() else { return Ok(None) };
        let claims = claims(store, &manifest).await?;
        let mut predicate_types = predicate_types(&manifest);
        if predicate_types.is_empty() {
            predicate_types.extend(claims.predicate_type.as_deref().map(shown));
        }
        let kind = kind(attached.tag.as_ref(), &manifest, &predicate_types);
        let mut signers: Vec<String> = claims.signer.iter().map(|signer| shown(signer)).collect();
        if let AttachmentKind::Signature | AttachmentKind::Attestation = kind {
            signers.extend(
                manifest.layers.iter().take(MAX_SIGNERS).filter_map(claimed_signer::of_layer).map(|it| shown(&it)),
            );
        }
        if kind == AttachmentKind::Signature {
            predicate_types.clear();
        }
        Ok(Some(Self {
            subject: attached.subject,
            is_referrer,
            tag: attached.tag.clone(),
            kind,
            artifact_type: manifest.referrer_type().filter(|own| **own != MediaType::OCI_EMPTY).cloned(),
            predicate_types,
            signers,
            size: content_size(&root.node, &manifest),
            node: root.node,
        }))
    }

    /// Returns the descriptor as a list of referrers shows it.
    pub(super) fn listed(&self) -> Descriptor {
        Descriptor { artifact_type: self.artifact_type.clone(), ..self.node.clone() }
    }
}

/// Attachments by their subjects.
type BySubject = HashMap<Digest, Vec<Details>>;

/// Attachments that are not yet placed in the tree.
pub(super) struct Trees<'a> {
    open: BySubject,
    proved: &'a [Digest],
    is_cut: bool,
}

/// Sorts attachments by their subjects. `proved` are the manifests of signatures that were verified.
pub(super) fn tree(details: Vec<Details>, proved: &[Digest]) -> Trees<'_> {
    let mut open = BySubject::new();
    for one in details {
        open.entry(one.subject).or_default().push(one);
    }
    Trees { open, proved, is_cut: false }
}

impl Trees<'_> {
    /// Takes everything attached to `subject`, with everything attached to that. Each subject is taken once, so this ends
    /// even if attachments refer to each other.
    pub(super) fn of(&mut self, subject: &Digest) -> Vec<InspectedAttachment> {
        self.below(subject, 0)
    }

    /// Returns a warning if not everything was shown.
    pub(super) fn warning(&self) -> Option<String> {
        self.is_cut.then(|| format!("attachments that are nested more than {MAX_DEPTH} deep are not shown"))
    }

    fn below(&mut self, subject: &Digest, depth: usize) -> Vec<InspectedAttachment> {
        let Some(mut found) = self.open.remove(subject) else { return Vec::new() };
        if depth >= MAX_DEPTH {
            self.is_cut = true;
            return Vec::new();
        }
        found.sort_by_key(|one| (order(one.kind), one.node.digest));
        let shown = found.into_iter().map(|one| InspectedAttachment {
            kind: one.kind,
            digest: one.node.digest,
            tag: one.tag.map(|tag| tag.to_string()),
            artifact_type: one.artifact_type.as_ref().map(|own| shown(own.as_str())),
            predicate_types: one.predicate_types,
            size: one.size,
            claims_to_be_signed_by: one.signers,
            verified: self.proved.contains(&one.node.digest),
            attached: self.below(&one.node.digest, depth + 1),
        });
        shown.collect()
    }
}

/// The order in the tree: signatures first, then sidecars, then the rest.
fn order(kind: AttachmentKind) -> u8 {
    match kind {
        AttachmentKind::Signature => 0,
        AttachmentKind::Sidecar(SidecarKind::Lock) => 1,
        AttachmentKind::Sidecar(SidecarKind::Policy) => 2,
        AttachmentKind::Attestation => 3,
        AttachmentKind::Sbom => 4,
        AttachmentKind::Artifact => 5,
    }
}

async fn find(store: &dyn Store, digest: Digest) -> Result<Option<Root>> {
    match store::find_manifest(store, &digest.into()).await {
        // An attachment that cannot be read is none; the copy reports it.
        Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Invalid | Kind::Limit | Kind::Unsupported) => {
            Ok(None)
        }
        found => found,
    }
}

/// Returns the claims of a manifest's one bundle, if it is small.
async fn claims(store: &dyn Store, manifest: &Manifest) -> Result<BundleClaims> {
    let is_bundle = |layer: &&Descriptor| {
        layer.media_type.as_str().starts_with(sigstore_bundle::MEDIA_TYPE_PREFIX) && layer.size <= MAX_BUNDLE_BYTES
    };
    let [layer] = manifest.layers.as_slice() else { return Ok(BundleClaims::default()) };
    let Some(layer) = Some(layer).filter(is_bundle) else { return Ok(BundleClaims::default()) };
    match store::read_small(store, layer, MAX_BUNDLE_BYTES).await {
        Ok(bytes) => Ok(claimed_signer::of_bundle(&bytes)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => Ok(BundleClaims::default()),
        Err(error) => Err(error),
    }
}

fn predicate_types(manifest: &Manifest) -> Vec<String> {
    let all = std::iter::once(&manifest.annotations).chain(manifest.layers.iter().map(|layer| &layer.annotations));
    let mut found = Vec::new();
    for text in all.flat_map(|annotations| PREDICATES.iter().filter_map(|name| annotations.get(*name))) {
        let text = shown(text);
        if !found.contains(&text) && found.len() < MAX_SIGNERS {
            found.push(text);
        }
    }
    found
}

/// Returns the kind of an attachment: by its tag, then by its types.
fn kind(tag: Option<&Tag>, manifest: &Manifest, predicate_types: &[String]) -> AttachmentKind {
    let tag = tag.map_or("", Tag::as_str);
    let by_tag = [
        (".sig", AttachmentKind::Signature),
        (".att", AttachmentKind::Attestation),
        (".sbom", AttachmentKind::Sbom),
        ("-lock", AttachmentKind::Sidecar(SidecarKind::Lock)),
        ("-policy", AttachmentKind::Sidecar(SidecarKind::Policy)),
    ];
    if let Some((_, kind)) = by_tag.into_iter().find(|(end, _)| tag.ends_with(end)) {
        return kind;
    }
    let layers = manifest.layers.iter().map(|layer| &layer.media_type);
    let own = manifest.referrer_type().into_iter().chain(layers.filter(|_| manifest.shape == Shape::Image));
    own.map(|media_type| by_type(media_type.as_str(), predicate_types))
        .find(|kind| *kind != AttachmentKind::Artifact)
        .unwrap_or(AttachmentKind::Artifact)
}

fn by_type(media_type: &str, predicate_types: &[String]) -> AttachmentKind {
    let sidecar = [SidecarKind::Lock, SidecarKind::Policy].into_iter().find(|kind| kind.media_type() == media_type);
    if let Some(kind) = sidecar {
        return AttachmentKind::Sidecar(kind);
    }
    match media_type {
        bundle if bundle.starts_with(sigstore_bundle::MEDIA_TYPE_PREFIX) => {
            match predicate_types.iter().all(|own| claimed_signer::signs_an_image(own)) {
                true => AttachmentKind::Signature,
                false => AttachmentKind::Attestation,
            }
        }
        ATTACHED_SIGNATURE | NOTATION | simple_signing::MEDIA_TYPE => AttachmentKind::Signature,
        statement if STATEMENTS.iter().any(|start| statement.starts_with(start)) => AttachmentKind::Attestation,
        sbom if SBOMS.iter().any(|part| sbom.contains(part)) => AttachmentKind::Sbom,
        _ => AttachmentKind::Artifact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(tag: &str, artifact_type: &str, layer: &str, annotation: Option<(&str, &str)>) -> &'static str {
        let mut node = serde_json::json!({"mediaType": layer, "digest": Digest::sha256(b""), "size": 0});
        if let Some((name, value)) = annotation {
            node["annotations"] = serde_json::json!({ name: value });
        }
        let text = serde_json::json!({"schemaVersion": 2, "artifactType": artifact_type, "layers": [node]}).to_string();
        let manifest = Manifest::parse(text.as_bytes(), &MediaType::OCI_MANIFEST).unwrap();
        kind(tag.parse().ok().as_ref(), &manifest, &predicate_types(&manifest)).as_str()
    }

    #[test]
    fn the_kind_is_that_of_the_tag_or_of_the_types() {
        let bundle = sigstore_bundle::MEDIA_TYPE;
        let predicate = "dev.sigstore.bundle.predicateType";
        for (tag, artifact_type, layer, annotation, expected) in [
            ("sha256-00.sig", "", "x/y", None, "signature"),
            ("sha256-00.att", "", "x/y", None, "attestation"),
            ("sha256-00.sbom", "", "x/y", None, "sbom"),
            ("v1-lock", "", "x/y", None, "lock"),
            ("", SidecarKind::Policy.media_type(), "x/y", None, "policy"),
            ("", bundle, bundle, None, "signature"),
            ("", bundle, bundle, Some((predicate, sigstore_bundle::PREDICATE_TYPE)), "signature"),
            ("", bundle, bundle, Some((predicate, "https://slsa.dev/provenance/v1")), "attestation"),
            ("", NOTATION, "application/jose+json", None, "signature"),
            ("", "application/spdx+json", "application/spdx+json", None, "sbom"),
            ("", "application/x.other", "application/vnd.cyclonedx+json", None, "sbom"),
            ("", "application/x.other", "application/vnd.in-toto+json", None, "attestation"),
            ("", "application/x.other", "text/plain", None, "artifact"),
        ] {
            assert_eq!(judged(tag, artifact_type, layer, annotation), expected, "{tag} {artifact_type} {layer}");
        }
    }
}
