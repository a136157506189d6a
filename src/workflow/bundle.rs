//! Making bundles: an image with its lock, its policy and the signatures over all three, put into a store.

use bytes::Bytes;
use futures_util::try_join;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::document::lock::{Inputs, Lock, Pin};
use crate::document::policy::Policy;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Reference, Repository, Shape, Tag};
use crate::store::{Body, Store, Want};
use crate::verify::attach::{self, Attachment};
use crate::verify::{MAX_SIGNATURES, SidecarKind, SigningKey, bundle, payload, signature_tag};

/// What stands beside an image.
#[derive(Debug, Clone)]
pub(super) struct Sidecars {
    /// The lock file.
    pub(super) lock: Vec<u8>,
    /// The policy bundle, `.tar.gz`.
    pub(super) policy: Vec<u8>,
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer<'a> {
    key: &'a SigningKey,
    format: Format,
    /// One time for all signatures of a bundle.
    time: Timestamp,
}

/// What has become of a bundle.
#[derive(Debug)]
pub(super) struct Put {
    /// The lock's and the policy's manifest and tag.
    pub(super) sidecars: Vec<(Descriptor, Tag)>,
    pub(super) signatures: Vec<Signature>,
}

/// The lock for the image `agent` and a policy of `version`, whose `.tar.gz` is `archive`, beside it in `repository`.
pub(super) fn lock(agent: &Reference, image: Digest, version: &str, archive: &[u8], inputs: Inputs) -> Lock {
    let policy = format!("{}-policy:{version}", agent.repository);
    let policy = Pin { reference: policy, digest: Digest::sha256(archive) };
    Lock::new(Pin { reference: agent.to_string(), digest: image }, policy, inputs)
}

/// The version of a policy as a tag can hold it: build metadata has no place in one, and is not compared either.
pub(super) fn version_tag(policy: &Policy) -> String {
    semver::Version { build: semver::BuildMetadata::EMPTY, ..policy.version.clone() }.to_string()
}

/// Puts the sidecars of `image` beside the tag of `at`, and signs all that there is.
///
/// The sidecars are put by digest, signed, and only then tagged; the image's signature comes last. A bundle that breaks
/// off half-way leaves the tags on what they named before, or on what is not signed as a whole yet: never on more than
/// was sealed.
pub(super) async fn seal(
    store: &dyn Store,
    at: &Reference,
    image: &Descriptor,
    sidecars: Option<&Sidecars>,
    signer: Signer<'_>,
) -> Result<Put> {
    let repository = &at.repository;
    let mut put = Put { sidecars: Vec::new(), signatures: Vec::new() };
    if let Some(Sidecars { lock, policy }) = sidecars {
        let sidecar = async |kind: SidecarKind, content: &[u8]| {
            let tag = at.tag.as_ref().and_then(|tag| kind.tag(tag));
            let tag = tag.ok_or_else(|| Error::new(Kind::Usage, "name the sidecar's tag").on(at))?;
            let sidecar = attach::sidecar_manifest(kind, image, content);
            put_attachment(store, &sidecar, &[]).await?;
            let signatures = signer.sign(store, repository, &sidecar.node).await?;
            Ok::<_, Error>((sidecar, tag, signatures))
        };
        let (lock, policy) = try_join!(sidecar(SidecarKind::Lock, lock), sidecar(SidecarKind::Policy, policy))?;
        for (sidecar, tag, signatures) in [lock, policy] {
            self::put(store, &sidecar.node, sidecar.manifest, std::slice::from_ref(&tag)).await?;
            put.sidecars.push((sidecar.node, tag));
            put.signatures.extend(signatures);
        }
    }
    put.signatures.extend(signer.sign(store, repository, image).await?);
    Ok(put)
}

impl<'a> Signer<'a> {
    /// Signs with `key`, as of now.
    pub(super) fn new(key: &'a SigningKey, format: Format) -> Self {
        Self { key, format, time: Timestamp::now() }
    }

    /// Puts a signature over `node`, in each format that is wanted.
    ///
    /// # Errors
    ///
    /// Those of the store; [`Limit`](Kind::Limit) where there are too many already.
    pub(super) async fn sign(
        &self,
        store: &dyn Store,
        repository: &Repository,
        node: &Descriptor,
    ) -> Result<Vec<Signature>> {
        let mut made = Vec::new();
        let told = |format, holder: &Attachment| Signature { signs: node.digest, format, digest: holder.node.digest };
        if self.format != Format::Bundle {
            made.push(told("legacy", &self.legacy(store, repository, node).await?));
        }
        if self.format != Format::Legacy {
            made.push(told("bundle", &self.bundle(store, node).await?));
        }
        Ok(made)
    }

    /// A payload that names `node`, under the tag that is derived from its digest, beside the signatures that are there.
    ///
    /// Two signers at the same time overwrite each other, as cosign's do: the last one to write wins.
    async fn legacy(&self, store: &dyn Store, repository: &Repository, node: &Descriptor) -> Result<Attachment> {
        let tag = signature_tag(&node.digest);
        let tag = tag.ok_or_else(|| Error::new(Kind::Unsupported, "name the signature's tag").on(node.digest))?;
        let carried = signatures(store, &tag).await?;
        let signed = payload::legacy(repository, &node.digest, Some(self.time));
        let signature = self.key.sign(&signed)?;
        let attachment = attach::legacy_manifest(&carried, &[(signed, signature)]);
        put_attachment(store, &attachment, &[tag]).await?;
        Ok(attachment)
    }

    async fn bundle(&self, store: &dyn Store, node: &Descriptor) -> Result<Attachment> {
        let statement = bundle::statement(&node.digest, Some(self.time));
        let signature = self.key.sign(&bundle::pae(&statement))?;
        let bundle = bundle::build(&self.key.public_key()?, &statement, &signature);
        let attachment = attach::bundle_manifest(node, &bundle, self.time);
        put_attachment(store, &attachment, &[]).await?;
        Ok(attachment)
    }
}

/// The signatures that stand under `tag`. Whatever is there and is no list of signatures is not overwritten.
async fn signatures(store: &dyn Store, tag: &Tag) -> Result<Vec<Descriptor>> {
    let root = match store.resolve(&Name::Tag(tag.clone()), Want::Bytes).await {
        Err(absent) if absent.kind() == Kind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let refused = |kind, why: String| Error::new(kind, "keep the signatures under").on(tag).because(why);
    let manifest = Manifest::parse(root.bytes.as_deref().unwrap_or_default(), &root.node.media_type);
    let manifest = manifest.map_err(|why| refused(Kind::Invalid, why.to_string()))?;
    if manifest.shape == Shape::Index {
        return Err(refused(Kind::Invalid, "an index stands there, not a manifest".to_owned()));
    }
    if manifest.layers.len() >= MAX_SIGNATURES {
        let why = format!("{} stand there already, and {MAX_SIGNATURES} are read", manifest.layers.len());
        return Err(refused(Kind::Limit, why).hint("delete that tag and sign again, or seal with --format bundle"));
    }
    Ok(manifest.layers)
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
