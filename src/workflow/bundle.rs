//! Making bundles: an image with its lock, its policy and the signatures over all three, put into a store.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, MediaType, Reference, Repository, Tag};
use crate::store::{Body, Store};
use crate::verify::attach::{self, Attachment};
use crate::verify::{SidecarKind, SigningKey, payload, signature_tag};

/// What stands beside an image.
#[derive(Debug, Clone)]
pub(super) struct Sidecars {
    /// The lock file.
    pub(super) lock: Vec<u8>,
    /// The policy bundle, `.tar.gz`.
    pub(super) policy: Vec<u8>,
}

/// Puts the sidecars of `image` beside the tag of `at`, and signs all three with `key`.
pub(super) async fn seal(
    store: &dyn Store,
    at: &Reference,
    image: &Descriptor,
    sidecars: &Sidecars,
    key: &SigningKey,
) -> Result<()> {
    let repository = &at.repository;
    sign(store, repository, image, key).await?;
    for (kind, content) in [(SidecarKind::Lock, &sidecars.lock), (SidecarKind::Policy, &sidecars.policy)] {
        let tag = at.tag.as_ref().and_then(|tag| kind.tag(tag));
        let tag = tag.ok_or_else(|| Error::new(Kind::Usage, "name the sidecar's tag").on(at))?;
        let sidecar = attach::sidecar_manifest(kind, image, content);
        put_attachment(store, &sidecar, &[tag]).await?;
        sign(store, repository, &sidecar.node, key).await?;
    }
    Ok(())
}

/// Signs `node` in cosign's legacy format: a payload that names it, under the tag that is derived from its digest.
pub(super) async fn sign(
    store: &dyn Store,
    repository: &Repository,
    node: &Descriptor,
    key: &SigningKey,
) -> Result<Attachment> {
    let signed = payload::legacy(repository, &node.digest, Some(Timestamp::now()));
    let signature = key.sign(&signed)?;
    let attachment = attach::legacy_manifest(&[], &[(signed, signature)]);
    let tag = signature_tag(&node.digest);
    let tag = tag.ok_or_else(|| Error::new(Kind::Unsupported, "name the signature's tag").on(node.digest))?;
    put_attachment(store, &attachment, &[tag]).await?;
    Ok(attachment)
}

/// Puts the blobs of an attachment, then its manifest.
pub(super) async fn put_attachment(store: &dyn Store, attachment: &Attachment, tags: &[Tag]) -> Result<()> {
    for (node, bytes) in &attachment.blobs {
        put(store, node, bytes.clone(), &[]).await?;
    }
    put(store, &attachment.node, attachment.manifest.clone(), tags).await
}

/// Puts a small image for each of `architectures`, whose one layer holds `text`, and their index under `tag`.
pub(super) async fn image(store: &dyn Store, architectures: &[&str], text: &str, tag: &Tag) -> Result<Descriptor> {
    let mut entries = Vec::new();
    for architecture in architectures {
        let layer = layer(&format!("{text} ({architecture})\n"))?;
        let layer = put_new(store, MediaType::OCI_LAYER, layer).await?;
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]}, "config": {},
        });
        let config = put_new(store, MediaType::OCI_CONFIG, config.to_string()).await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer]});
        let manifest = put_new(store, MediaType::OCI_MANIFEST, manifest.to_string()).await?;
        entries.push(json!({
            "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    put(store, &node, index.into(), std::slice::from_ref(tag)).await?;
    Ok(node)
}

fn layer(text: &str) -> Result<Vec<u8>> {
    let failed = |why| Error::new(Kind::Local, "make a layer").because(why);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/behavior.txt", text.as_bytes()).map_err(failed)?;
    tar.into_inner().map_err(failed)
}

async fn put_new(store: &dyn Store, media_type: MediaType, bytes: impl Into<Bytes>) -> Result<Descriptor> {
    let bytes = bytes.into();
    let node = Descriptor::of(media_type, &bytes);
    put(store, &node, bytes, &[]).await?;
    Ok(node)
}

async fn put(store: &dyn Store, node: &Descriptor, bytes: Bytes, tags: &[Tag]) -> Result<()> {
    store.put(node, &Body::bytes(node.clone(), bytes), tags).await.map(drop)
}
