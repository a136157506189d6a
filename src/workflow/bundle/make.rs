//! Makes bundles: puts an image with its lock, its policy and the signatures over all three into a store.

use bytes::Bytes;
use futures_util::try_join;
use serde_json::json;

use crate::document::lock::{Inputs, Lock, Pin};
use crate::document::policy_bundle::Policy;
use crate::document::sidecar::SidecarKind;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Reference, Tag};
use crate::seed::signing::{Signature, Signer, kept, put_attachment};
use crate::store::{Registry, Store, put_bytes};
use crate::trust::artifact;

/// The sidecars of an image.
#[derive(Debug, Clone)]
pub(crate) struct SidecarContents {
    /// The lock file.
    pub(crate) lock: Vec<u8>,
    /// The policy bundle, `.tar.gz`.
    pub(crate) policy: Vec<u8>,
}

/// The parts of a bundle that was sealed.
#[derive(Debug)]
pub(crate) struct SealedArtifacts {
    /// Manifest and tag of the lock and of the policy.
    pub(crate) sidecars: Vec<(Descriptor, Tag)>,
    pub(crate) signatures: Vec<Signature>,
}

/// Returns the lock for the image `agent` and a policy of `version`, whose `.tar.gz` is `archive`, beside it in
/// `repository`.
pub(crate) fn lock(agent: &Reference, image: Digest, version: &str, archive: &[u8], inputs: Inputs) -> Lock {
    let policy = format!("{}-policy:{version}", agent.repository);
    let policy = Pin { reference: policy, digest: Digest::sha256(archive) };
    Lock::new(Pin { reference: agent.to_string(), digest: image }, policy, inputs)
}

/// Returns a policy's version in the form that a tag can hold: without build metadata, which a tag cannot hold and
/// comparison ignores.
pub(crate) fn version_tag(policy: &Policy) -> String {
    semver::Version { build: semver::BuildMetadata::EMPTY, ..policy.version.clone() }.to_string()
}

/// Puts the sidecars of `image` beside the tag of `at`, and signs everything.
///
/// Puts the sidecars by digest, signs them, and only then tags them; signs the image last. If sealing stops half-way,
/// each tag names what it named before, or content that is not fully signed yet: never more than was sealed.
pub(crate) async fn seal(
    store: &Registry,
    at: &Reference,
    image: &Descriptor,
    sidecars: Option<&SidecarContents>,
    signer: &Signer<'_>,
) -> Result<SealedArtifacts> {
    let repository = &at.repository;
    let mut put = SealedArtifacts { sidecars: Vec::new(), signatures: Vec::new() };
    let mut placed = Vec::new();
    if let Some(SidecarContents { lock, policy }) = sidecars {
        let sidecar = async |kind: SidecarKind, content: &[u8]| {
            let tag = at.tag.as_ref().and_then(|tag| kind.tag(tag));
            let tag = tag.ok_or_else(|| Error::new(Kind::Usage, "name the sidecar's tag").on(at))?;
            let sidecar = artifact::sidecar_manifest(kind, image, content);
            put_attachment(store, &sidecar, &[]).await?;
            let placed = signer.place(store, repository, &sidecar.node).await?;
            Ok::<_, Error>((sidecar, tag, placed))
        };
        let (lock, policy) = try_join!(sidecar(SidecarKind::Lock, lock), sidecar(SidecarKind::Policy, policy))?;
        for (sidecar, tag, signatures) in [lock, policy] {
            put_bytes(store, &sidecar.node, sidecar.manifest, std::slice::from_ref(&tag)).await?;
            put.sidecars.push((sidecar.node, tag));
            placed.extend(signatures);
        }
    }
    placed.extend(signer.place(store, repository, image).await?);
    put.signatures = kept(placed).await?;
    Ok(put)
}

/// Puts an image for each of `architectures`, with a layer that holds `text` and one of each of the `sizes`, and their
/// index under `tag`.
pub(crate) async fn image(
    store: &dyn Store,
    architectures: &[&str],
    text: &str,
    sizes: &[usize],
    tag: &Tag,
) -> Result<Descriptor> {
    let mut entries = Vec::new();
    for architecture in architectures {
        let text = format!("{text} ({architecture})\n");
        let mut layers = vec![put_new(store, MediaType::OCI_LAYER, layer("etc/behavior.txt", text.as_bytes())?).await?];
        for (number, &size) in sizes.iter().enumerate() {
            let layer = layer(&format!("opt/weights-{number}"), &noise(&format!("{text}{number}"), size))?;
            layers.push(put_new(store, MediaType::OCI_LAYER, layer).await?);
        }
        let digests: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": digests}, "config": {},
        });
        let config = put_new(store, MediaType::OCI_CONFIG, config.to_string()).await?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers});
        let manifest = put_new(store, MediaType::OCI_MANIFEST, manifest.to_string()).await?;
        entries.push(json!({
            "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    put_bytes(store, &node, index, std::slice::from_ref(tag)).await?;
    Ok(node)
}

/// Returns content that no compression makes smaller: the same for the same `name`.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Returns a layer with one file.
fn layer(path: &str, content: &[u8]) -> Result<Vec<u8>> {
    let failed = |why| Error::new(Kind::Local, "make a layer").because(why);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content).map_err(failed)?;
    tar.into_inner().map_err(failed)
}

async fn put_new(store: &dyn Store, media_type: MediaType, bytes: impl Into<Bytes>) -> Result<Descriptor> {
    let bytes = bytes.into();
    let node = Descriptor::of(media_type, &bytes);
    put_bytes(store, &node, bytes, &[]).await?;
    Ok(node)
}
