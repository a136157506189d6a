//! Making bundles: an image with its lock, its policy and the signatures over all three, put into a store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::try_join;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::copy::Events;
use crate::document::lock::{Inputs, Lock, Pin};
use crate::document::policy_bundle::Policy;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Reference, Repository, Tag};
use crate::store::{Body, Registry, Root, Store};
use crate::trust::artifact::{self, Attachment};
use crate::trust::{sigstore_bundle, simple_signing};
use crate::verify::{SidecarKind, SigningKey, signature_tag};
use crate::workflow::seed::accessories::cosign_list::{Keeps, List};
use crate::workflow::seed::accessories::cosign_merge::{Origin, Wanted};
use crate::workflow::seed::accessories::cosign_tags::CosignTags;

/// What stands beside an image.
#[derive(Debug, Clone)]
pub(crate) struct Sidecars {
    /// The lock file.
    pub(crate) lock: Vec<u8>,
    /// The policy bundle, `.tar.gz`.
    pub(crate) policy: Vec<u8>,
}

/// In which of cosign's two formats signatures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Under the tag `sha256-<hex>.sig`: what every version of cosign reads, and the fewest requests to verify.
    Legacy,
    /// As a bundle that refers to what it signs: what cosign writes since version 3.
    Bundle,
    /// Both of them.
    Both,
}

/// A signature that was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// What it signs.
    pub signs: Digest,
    /// `legacy` or `bundle`.
    pub format: &'static str,
    /// The manifest that holds it.
    pub digest: Digest,
}

/// Who signs, how, and when.
#[derive(Debug, Clone)]
pub(crate) struct Signer<'a> {
    key: &'a SigningKey,
    format: Format,
    /// One time for all signatures of a bundle.
    time: Timestamp,
    events: Events,
}

/// A signature that was put, and may yet be overwritten.
#[derive(Debug)]
pub(crate) struct Placed {
    signs: Digest,
    holder: Holder,
}

/// What holds a signature.
#[derive(Debug)]
enum Holder {
    /// A list under one of cosign's tags, which other clients write too.
    List(CosignTags, Tag),
    /// A manifest of its own.
    Manifest(Digest),
}

/// What has become of a bundle.
#[derive(Debug)]
pub(crate) struct Put {
    /// The lock's and the policy's manifest and tag.
    pub(crate) sidecars: Vec<(Descriptor, Tag)>,
    pub(crate) signatures: Vec<Signature>,
}

/// The lock for the image `agent` and a policy of `version`, whose `.tar.gz` is `archive`, beside it in `repository`.
pub(crate) fn lock(agent: &Reference, image: Digest, version: &str, archive: &[u8], inputs: Inputs) -> Lock {
    let policy = format!("{}-policy:{version}", agent.repository);
    let policy = Pin { reference: policy, digest: Digest::sha256(archive) };
    Lock::new(Pin { reference: agent.to_string(), digest: image }, policy, inputs)
}

/// The version of a policy as a tag can hold it: build metadata has no place in one, and is not compared either.
pub(crate) fn version_tag(policy: &Policy) -> String {
    semver::Version { build: semver::BuildMetadata::EMPTY, ..policy.version.clone() }.to_string()
}

/// Puts the sidecars of `image` beside the tag of `at`, and signs all that there is.
///
/// The sidecars are put by digest, signed, and only then tagged; the image's signature comes last. A bundle that breaks
/// off half-way leaves the tags on what they named before, or on what is not signed as a whole yet: never on more than
/// was sealed.
pub(crate) async fn seal(
    store: &Registry,
    at: &Reference,
    image: &Descriptor,
    sidecars: Option<&Sidecars>,
    signer: &Signer<'_>,
) -> Result<Put> {
    let repository = &at.repository;
    let mut put = Put { sidecars: Vec::new(), signatures: Vec::new() };
    let mut placed = Vec::new();
    if let Some(Sidecars { lock, policy }) = sidecars {
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
            self::put(store, &sidecar.node, sidecar.manifest, std::slice::from_ref(&tag)).await?;
            put.sidecars.push((sidecar.node, tag));
            placed.extend(signatures);
        }
    }
    placed.extend(signer.place(store, repository, image).await?);
    put.signatures = kept(placed).await?;
    Ok(put)
}

/// Looks whether what was placed is still there, and puts again what others have overwritten.
async fn kept(placed: Vec<Placed>) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for Placed { signs, holder } in placed {
        let (format, digest) = match holder {
            Holder::List(cosign, tag) => {
                cosign.kept(&[&tag]).await?;
                let lost = || Error::new(Kind::Incomplete, "find the signature under").on(&tag);
                ("legacy", cosign.placed(&tag).ok_or_else(lost)?)
            }
            Holder::Manifest(digest) => ("bundle", digest),
        };
        signatures.push(Signature { signs, format, digest });
    }
    Ok(signatures)
}

impl<'a> Signer<'a> {
    /// Signs with `key`, as of now, and tells `events` of what stands in the way.
    pub(crate) fn new(key: &'a SigningKey, format: Format, events: &Events) -> Self {
        Self { key, format, time: Timestamp::now(), events: events.clone() }
    }

    /// Puts a signature over `node`, in each format that is wanted, and sees that it stays.
    ///
    /// # Errors
    ///
    /// Those of the store; [`Limit`](Kind::Limit) where there are too many already.
    pub(crate) async fn sign(
        &self,
        store: &Registry,
        repository: &Repository,
        node: &Descriptor,
    ) -> Result<Vec<Signature>> {
        kept(self.place(store, repository, node).await?).await
    }

    async fn place(&self, store: &Registry, repository: &Repository, node: &Descriptor) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        if self.format != Format::Bundle {
            placed.push(Placed { signs: node.digest, holder: self.legacy(store, repository, node).await? });
        }
        if self.format != Format::Legacy {
            placed.push(Placed { signs: node.digest, holder: self.bundle(store, node).await? });
        }
        Ok(placed)
    }

    /// A payload that names `node`, under the tag that is derived from its digest, beside the signatures that are there.
    /// Whatever is there and is no list of signatures is not overwritten.
    async fn legacy(&self, store: &Registry, repository: &Repository, node: &Descriptor) -> Result<Holder> {
        let tag = signature_tag(&node.digest);
        let tag = tag.ok_or_else(|| Error::new(Kind::Unsupported, "name the signature's tag").on(node.digest))?;
        let signed = simple_signing::legacy(repository, &node.digest, Some(self.time));
        let signature = self.key.sign(&signed)?;
        let attachment = artifact::legacy_manifest(&[], &[(signed, signature)]);
        for (node, bytes) in &attachment.blobs {
            put(store, node, bytes.clone(), &[]).await?;
        }
        let (keeps, origin) = (Keeps::Signatures, Origin::Here);
        let root = Root { node: attachment.node, bytes: Some(attachment.manifest) };
        let brought = List::read(keeps, &root);
        let brought = brought.ok_or_else(|| Error::new(Kind::Local, "make a signature of").on(node.digest))?;
        let (proof, planned) = (brought.layers.first().cloned(), brought.clone());
        let wanted =
            Wanted { tag: tag.clone(), subject: node.digest, keeps, origin, brought, proof, planned, base: None };
        let cosign = CosignTags::new(Arc::new(store.clone()), [wanted], self.events.clone());
        cosign.place(&tag).await?;
        Ok(Holder::List(cosign, tag))
    }

    async fn bundle(&self, store: &Registry, node: &Descriptor) -> Result<Holder> {
        let statement = sigstore_bundle::statement(&node.digest, Some(self.time));
        let signature = self.key.sign(&sigstore_bundle::pae(&statement))?;
        let bundle = sigstore_bundle::build(&self.key.public_key()?, &statement, &signature);
        let attachment = artifact::bundle_manifest(node, &bundle, self.time);
        put_attachment(store, &attachment, &[]).await?;
        Ok(Holder::Manifest(attachment.node.digest))
    }
}

/// Puts the blobs of an attachment, then its manifest.
pub(crate) async fn put_attachment(store: &dyn Store, attachment: &Attachment, tags: &[Tag]) -> Result<()> {
    for (node, bytes) in &attachment.blobs {
        put(store, node, bytes.clone(), &[]).await?;
    }
    put(store, &attachment.node, attachment.manifest.clone(), tags).await
}

/// Puts a small image for each of `architectures`, whose one layer holds `text`, and their index under `tag`.
pub(crate) async fn image(store: &dyn Store, architectures: &[&str], text: &str, tag: &Tag) -> Result<Descriptor> {
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
