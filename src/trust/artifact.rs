//! Manifests that carry signatures and sidecars, as bytes. Nothing here writes to a store.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::claim::seconds;
use super::{sigstore_bundle, simple_signing};
use crate::document::sidecar::SidecarKind;
use crate::oci::{Descriptor, Digest, MediaType, empty_json};

/// A manifest and the blobs that it needs; write the blobs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Type, digest and size of the manifest.
    pub node: Descriptor,
    /// The manifest.
    pub manifest: Bytes,
    /// Configuration and layers that are new.
    pub blobs: Vec<(Descriptor, Bytes)>,
}

/// Returns the manifest for `verify::signature_tag`, exactly as cosign writes it: one layer for each signature.
///
/// Each of `signatures` is a [`simple_signing::legacy`] and the signature over it. `carried` are the layers that the
/// tag has already: a tag names one manifest, and a new signature must not remove the signatures of others.
#[must_use]
pub fn legacy_manifest(carried: &[Descriptor], signatures: &[(Vec<u8>, Vec<u8>)]) -> Attachment {
    let media_type = MediaType::new(simple_signing::MEDIA_TYPE);
    let mut layers = carried.to_vec();
    let mut blobs = Vec::new();
    for (signed, signature) in signatures {
        let node = Descriptor::of(media_type.clone(), signed);
        blobs.push((node.clone(), Bytes::copy_from_slice(signed)));
        let annotations = BTreeMap::from([(simple_signing::SIGNATURE.to_owned(), STANDARD.encode(signature))]);
        layers.push(Descriptor { annotations, ..node });
    }
    let epoch = r#"{"created":"0001-01-01T00:00:00Z"}"#;
    let history = vec![epoch; layers.len()].join(",");
    let diff_ids = layers.iter().map(|layer| format!("\"{}\"", layer.digest)).collect::<Vec<_>>().join(",");
    let config = format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{history}],"os":"","rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}},"config":{{}}}}"#
    );
    let config = Bytes::from(config);
    let config_node = Descriptor::of(MediaType::OCI_CONFIG, &config);
    let manifest = WrittenManifest::new(&config_node, &layers);
    blobs.push((config_node, config));
    manifest.attach(blobs)
}

/// Returns the manifest that attaches a [`sigstore_bundle`] to `subject` as a referrer, as cosign 3 writes it.
#[must_use]
pub fn bundle_manifest(subject: &Descriptor, bundle: &[u8], created: Timestamp) -> Attachment {
    let layer = Descriptor::of(MediaType::new(sigstore_bundle::MEDIA_TYPE), bundle);
    let annotations = [
        ("dev.sigstore.bundle.content", "dsse-envelope".to_owned()),
        ("dev.sigstore.bundle.predicateType", sigstore_bundle::PREDICATE_TYPE.to_owned()),
        ("org.opencontainers.image.created", seconds(created).to_string()),
    ];
    let manifest = WrittenManifest {
        // cosign really writes this stray artifact type into the configuration.
        config: WrittenDescriptor {
            artifact_type: Some(layer.media_type.clone()),
            ..WrittenDescriptor::new(&empty_json().0)
        },
        annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        subject: Some(WrittenDescriptor::new(subject)),
        artifact_type: Some(layer.media_type.clone()),
        ..WrittenManifest::new(&empty_json().0, std::slice::from_ref(&layer))
    };
    manifest.attach(with_empty(layer, bundle))
}

/// Returns the manifest of a sidecar of `subject`, for the tag [`SidecarKind::tag`] (contract §7).
#[must_use]
pub fn sidecar_manifest(kind: SidecarKind, subject: &Descriptor, content: &[u8]) -> Attachment {
    artifact_manifest(&MediaType::new(kind.media_type()), subject, content)
}

/// Returns the manifest of an artifact with one layer that refers to `subject` (image-spec, "Guidelines for Artifact
/// Usage").
#[must_use]
pub fn artifact_manifest(media_type: &MediaType, subject: &Descriptor, content: &[u8]) -> Attachment {
    artifact(Descriptor::of(media_type.clone(), content), subject, content, BTreeMap::new())
}

/// Returns the same for a file: with a date, and with the name under which clients pull it.
#[must_use]
pub fn file_manifest(
    media_type: &MediaType,
    subject: &Descriptor,
    (name, content): (&str, &[u8]),
    created: Timestamp,
) -> Attachment {
    let title = BTreeMap::from([("org.opencontainers.image.title".to_owned(), name.to_owned())]);
    let layer = Descriptor { annotations: title, ..Descriptor::of(media_type.clone(), content) };
    let date = ("org.opencontainers.image.created".to_owned(), seconds(created).to_string());
    artifact(layer, subject, content, BTreeMap::from([date]))
}

fn artifact(
    layer: Descriptor,
    subject: &Descriptor,
    content: &[u8],
    annotations: BTreeMap<String, String>,
) -> Attachment {
    let manifest = WrittenManifest {
        annotations,
        subject: Some(WrittenDescriptor::new(subject)),
        artifact_type: Some(layer.media_type.clone()),
        ..WrittenManifest::new(&empty_json().0, std::slice::from_ref(&layer))
    };
    manifest.attach(with_empty(layer, content))
}

fn with_empty(layer: Descriptor, content: &[u8]) -> Vec<(Descriptor, Bytes)> {
    let (empty, bytes) = empty_json();
    vec![(empty, Bytes::from_static(bytes)), (layer, Bytes::copy_from_slice(content))]
}

/// A manifest with its fields in the order in which cosign writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest {
    schema_version: u8,
    media_type: MediaType,
    config: WrittenDescriptor,
    layers: Vec<WrittenDescriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<WrittenDescriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<MediaType>,
}

/// A descriptor with its fields in the order in which cosign writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenDescriptor {
    media_type: MediaType,
    size: u64,
    digest: Digest,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<MediaType>,
}

impl WrittenDescriptor {
    fn new(node: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size, .. } = node.clone();
        Self { media_type, size, digest, annotations: BTreeMap::new(), artifact_type: None }
    }
}

impl WrittenManifest {
    fn new(config: &Descriptor, layers: &[Descriptor]) -> Self {
        let entry = |node: &Descriptor| WrittenDescriptor {
            annotations: node.annotations.clone(),
            ..WrittenDescriptor::new(node)
        };
        Self {
            schema_version: 2,
            media_type: MediaType::OCI_MANIFEST,
            config: WrittenDescriptor::new(config),
            layers: layers.iter().map(entry).collect(),
            annotations: BTreeMap::new(),
            subject: None,
            artifact_type: None,
        }
    }

    fn attach(self, blobs: Vec<(Descriptor, Bytes)>) -> Attachment {
        let manifest = Bytes::from(serde_json::to_vec(&self).expect("texts and numbers are always JSON"));
        Attachment { node: Descriptor::of(MediaType::OCI_MANIFEST, &manifest), manifest, blobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Manifest;

    const DIGEST: &str = "sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de";
    const TIME: &str = "2026-01-15T12:00:00Z";

    fn image() -> Descriptor {
        Descriptor::new(MediaType::OCI_MANIFEST, DIGEST.parse().unwrap(), 401)
    }

    fn decode(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    #[test]
    fn a_legacy_manifest_is_what_cosign_writes() {
        let repository = "127.0.0.1:5599/robot-behavior".parse::<crate::oci::Reference>().unwrap().repository;
        let signed = simple_signing::legacy(&repository, &image().digest, Some(TIME.parse().unwrap()));
        let signature =
            decode("MEUCIAootx4sSWbdU4LvBiJS1sssvm7r/3y0ka/QDtcylg1SAiEAgt2qnoQQ9FagWcH957bu+H6EP/kR+WIPUahcvdAxmRE=");
        let attachment = legacy_manifest(&[], &[(signed, signature.clone())]);
        assert_eq!(attachment.node.digest.short(), "3b6c6ccbea95");
        assert_eq!((attachment.blobs[1].0.digest.short().as_str(), attachment.blobs[1].0.size), ("435d3eeb0722", 233));

        let first = Manifest::parse(&attachment.manifest, &MediaType::OCI_MANIFEST).unwrap();
        let both = legacy_manifest(&first.layers, &[(b"other".to_vec(), signature)]);
        let second = Manifest::parse(&both.manifest, &MediaType::OCI_MANIFEST).unwrap();
        assert_eq!((&second.layers[0], second.layers.len()), (&first.layers[0], 2), "what was there stays");
        assert_eq!((both.blobs.len(), second.config.unwrap().size), (2, 342));
    }

    #[test]
    fn a_bundle_manifest_is_what_cosign_writes() {
        let key =
            crate::trust::key::PublicKey::from_pem(include_bytes!("../../tests/verify-vectors/keys/keyA.pub")).unwrap();
        let statement = sigstore_bundle::statement(&image().digest, Some(TIME.parse().unwrap()));
        let signature =
            decode("MEQCIF9aOTybf/hxF8+F54Msx9Kw8LbV2Uc9mk6UMKhbcvCsAiAYMWeTldd3xjR36p4YoDOxJ1xuWLw7a7sU9ppMnSCriA==");
        let attachment =
            bundle_manifest(&image(), &sigstore_bundle::build(&key, &statement, &signature), TIME.parse().unwrap());
        assert_eq!(attachment.node.digest.short(), "7cf0294789bc");
        assert_eq!(attachment.node.size, 877);
    }

    #[test]
    fn a_sidecar_manifest_says_what_it_is_and_of_what() {
        let attachment = sidecar_manifest(SidecarKind::Lock, &image(), b"{\"x\":1}");
        let manifest = Manifest::parse(&attachment.manifest, &MediaType::OCI_MANIFEST).unwrap();
        assert_eq!(manifest.subject, Some(image()));
        assert_eq!(manifest.referrer_type().unwrap().as_str(), SidecarKind::Lock.media_type());
        assert_eq!((manifest.layers.len(), &manifest.layers[0]), (1, &attachment.blobs[1].0));
        assert_eq!(manifest.config.unwrap().inline().as_deref(), Some(&b"{}"[..]));
    }
}
