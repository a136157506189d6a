//! Shows an image as it lies in its registry: platforms, sizes, and everything attached, as a tree. Reads no layer.

mod attachment;

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

pub use attachment::{AttachmentKind, InspectedAttachment};

use self::attachment::{Details, tree};
use super::bundle::verify::verify_resolved;
use super::image_content::{ImageContent, shown};
use crate::copy::{self, Attached, AttachmentTags};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest, MediaType, Reference, Tag};
use crate::seed::explain;
use crate::store::{Cached, ListingStore, Registry, Role, Root, Store as _};
use crate::verify::{Candidate, Demands, Sidecar, SidecarKind, VerifyReport};
use crate::wire::Client;

/// An image, as far as it can be shown without its layers.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The reference, as the caller gave it.
    pub reference: Reference,
    /// The digest that it names.
    pub digest: Digest,
    /// The media type of the root.
    pub media_type: String,
    /// The artifact type of the root, if it declares one.
    pub artifact_type: Option<String>,
    /// The bytes that a pull of all platforms moves, each blob once.
    pub size: u64,
    /// When it was made, as far as an annotation or a configuration says so.
    pub created: Option<Timestamp>,
    /// Whether it is verified; none if no key was given.
    pub verified: Option<bool>,
    /// The manifests of the image, with their platforms.
    pub platforms: Vec<InspectedPlatform>,
    /// Everything attached to the root, sidecars included.
    pub attached: Vec<InspectedAttachment>,
    /// The lock that counts; none if there is none, or if several claim to be it.
    pub lock: Option<Digest>,
    /// The policy that counts, likewise.
    pub policy: Option<Digest>,
    /// The report of the verification, if a key was given.
    pub verification: Option<VerifyReport>,
    /// Warnings for the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A manifest of an image.
#[derive(Debug, Serialize)]
pub struct InspectedPlatform {
    /// `os/arch[/variant]`; none for an entry that does not run, such as a build's attestation.
    pub platform: Option<String>,
    /// Its digest.
    pub digest: Digest,
    /// The bytes of its manifest and blobs.
    pub size: u64,
    /// Whether the repository holds it: an index may be there without all of its platforms.
    pub held: bool,
    /// Everything attached to it.
    pub attached: Vec<InspectedAttachment>,
}

/// The image and its sidecars, before anything attached is known.
struct ResolvedImage<'a> {
    reference: &'a Reference,
    store: Arc<Cached>,
    root: Root,
    content: ImageContent,
    tags: Option<Vec<Tag>>,
    sidecars: Vec<(SidecarKind, Root)>,
}

impl Inspection {
    /// Inspects the image that `reference` names; verifies it too if there are `demands`. Sends at most `at_once` requests
    /// at the same time.
    ///
    /// # Errors
    ///
    /// Fails if the registry cannot be asked. A verification that fails is a report, not an error.
    pub async fn read(
        reference: &Reference,
        demands: Option<Demands>,
        client: &Client,
        at_once: NonZeroUsize,
    ) -> Result<Self> {
        let resolved = ResolvedImage::new(reference, client, at_once).await?;
        let ResolvedImage { store, root, content, .. } = &resolved;
        let attached = resolved.attached().await?;
        let details = resolved.details(&attached, at_once).await?;
        let verification = match demands {
            Some(demands) => {
                let pinned = Reference { digest: Some(root.node.digest), ..reference.clone() };
                let subject = Candidate::new(pinned, root.node.clone());
                Some(verify_resolved(store.as_ref(), subject, demands).await?)
            }
            None => None,
        };
        let proved: Vec<_> =
            verification.iter().flat_map(VerifyReport::evidence).map(|proof| proof.node().digest).collect();
        let [lock, policy] = [SidecarKind::Lock, SidecarKind::Policy].map(|kind| resolved.sidecar(kind, &details));
        let ((lock, lock_warning), (policy, policy_warning)) = (lock.await?, policy.await?);
        let mut warnings: Vec<_> = lock_warning.into_iter().chain(policy_warning).collect();
        let mut trees = tree(details, &proved);
        let config = content.config(store.as_ref()).await?;
        let whole = config.platform.map(|platform| shown(&platform.to_string()));
        let platform = |member: &super::image_content::Member| InspectedPlatform {
            platform: member.platform().map(|platform| shown(&platform.to_string())).or_else(|| whole.clone()),
            digest: member.node.digest,
            size: member.size(),
            held: member.manifest.is_some(),
            attached: if content.indexes.is_empty() { Vec::new() } else { trees.of(&member.node.digest) },
        };
        // An artifact that runs nowhere has no platforms.
        let is_artifact = content.indexes.is_empty() && whole.is_none();
        let platforms = content.members.iter().filter(|_| !is_artifact).map(platform).collect();
        let mut attached = trees.of(&root.node.digest);
        let nested = content.indexes.iter().skip(1);
        attached.extend(nested.flat_map(|index| trees.of(index)));
        warnings.extend(trees.warning());
        Ok(Self {
            reference: reference.clone(),
            digest: root.node.digest,
            media_type: shown(root.node.media_type.as_str()),
            artifact_type: content.manifest.artifact_type.as_ref().map(MediaType::as_str).map(shown),
            size: content.size,
            created: config.created,
            verified: verification.as_ref().map(VerifyReport::is_verified),
            platforms,
            attached,
            lock,
            policy,
            verification,
            warnings,
        })
    }
}

impl<'a> ResolvedImage<'a> {
    async fn new(reference: &'a Reference, client: &Client, at_once: NonZeroUsize) -> Result<Self> {
        let origin: Arc<dyn ListingStore> = Arc::new(Registry::new(client, &reference.repository, Role::Source));
        let store = Arc::new(Cached::new(Arc::clone(&origin)));
        let root = store.fetch(&reference.name()).await.map_err(|error| explain::explained(error, reference))?;
        let content = ImageContent::read(store.as_ref(), &root, at_once).await?;
        let tag = reference.effective_tag();
        let tags = known_tags(origin.as_ref(), tag.as_ref()).await;
        let mut sidecars = Vec::new();
        for kind in [SidecarKind::Lock, SidecarKind::Policy] {
            let Some(tag) = &tag else { continue };
            let may_be = tags.as_ref().is_none_or(|tags| kind.tag(tag).is_some_and(|tag| tags.contains(&tag)));
            if may_be && let Some(found) = Sidecar::tagged(store.as_ref(), kind, tag).await? {
                sidecars.push((kind, found));
            }
        }
        Ok(Self { reference, store, root, content, tags, sidecars })
    }

    /// Returns everything attached: to the image, to each of its manifests, to the sidecars, and to what is attached.
    async fn attached(&self) -> Result<Vec<Attached>> {
        let tags = self.tags.clone().map_or_else(AttachmentTags::default, AttachmentTags::of);
        let held = self.content.held();
        let subjects: Vec<_> = held.chain(self.sidecars.iter().map(|(_, root)| root.node.digest)).collect();
        let mut attached = copy::attached(self.store.as_ref(), &tags, &subjects).await?;
        for (kind, root) in &self.sidecars {
            let digest = root.node.digest;
            attached.retain(|one| one.subject != self.root.node.digest || one.node.digest != digest);
            let tag = self.reference.effective_tag().and_then(|tag| kind.tag(&tag));
            let (node, bytes) = (root.node.clone(), Some(root.bytes.clone()));
            attached.push(Attached { subject: self.root.node.digest, node, bytes, tag });
        }
        Ok(attached)
    }

    /// Reads what is attached, as far as it is shown.
    async fn details(&self, attached: &[Attached], at_once: NonZeroUsize) -> Result<Vec<Details>> {
        let reads: Vec<_> = attached.iter().map(|one| Details::read(self.store.as_ref(), one)).collect();
        let found: Vec<_> = stream::iter(reads).buffered(at_once.get()).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the sidecar that `bundle verify` would choose, or a warning if the choice is ambiguous.
    async fn sidecar(&self, kind: SidecarKind, details: &[Details]) -> Result<(Option<Digest>, Option<String>)> {
        let tagged = self.sidecars.iter().find(|(own, _)| *own == kind).map(|(_, root)| root.clone());
        let referring = details.iter().filter(|one| one.subject == self.root.node.digest && one.is_referrer);
        let referring: Vec<Descriptor> = referring.map(Details::listed).collect();
        let chosen = Sidecar::choose(self.store.as_ref(), kind, tagged, &referring).await?;
        Ok(match chosen {
            Sidecar::Found(root) => (Some(root.node.digest), None),
            Sidecar::Known(node) => (Some(node.digest), None),
            Sidecar::Absent => (None, None),
            Sidecar::Ambiguous(_) => (None, chosen.found(kind).err().map(|failure| failure.to_string())),
        })
    }
}

/// Returns the tags of the repository if they can be listed with few requests, and include the one that is known.
async fn known_tags(store: &dyn ListingStore, known: Option<&Tag>) -> Option<Vec<Tag>> {
    match store.few_tags().await {
        Ok(tags) if known.is_none_or(|known| tags.contains(known)) => Some(tags),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(error = %Error::chain(&error), "tags are asked for by their names");
            None
        }
    }
}
