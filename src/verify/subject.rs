//! Subjects: images to verify, resolved once. From here on only digests count, so that a tag that moves between
//! verification and copy changes nothing.

use futures_util::future::try_join3;

use super::requirements::{Demands, SidecarDemand};
use crate::document::sidecar::SidecarKind;
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Name, Reference, Tag};
use crate::store::{ListingStore, Root, find_manifest};
use crate::trust::failure::{ErrorClass, Failure};

/// The sidecar of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sidecar {
    /// There is none.
    #[default]
    Absent,
    /// The sidecar's manifest.
    Found(Box<Root>),
    /// Its descriptor alone: verification reads the manifest from the store.
    Known(Box<Descriptor>),
    /// The tag and the referrers, or several referrers without a tag, name different ones.
    Ambiguous(Vec<Digest>),
}

/// An image to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The reference as the caller gave it: for messages, and for a demanded identity.
    pub reference: Reference,
    /// The image's manifest or index. Its digest is verified.
    pub root: Descriptor,
    /// The lock beside it.
    pub lock: Sidecar,
    /// The policy beside it.
    pub policy: Sidecar,
    /// The referrers of the image, if they are known already: saves a request.
    pub referrers: Option<Vec<Descriptor>>,
}

impl Candidate {
    /// Returns an image without sidecars.
    #[must_use]
    pub fn new(reference: Reference, root: Descriptor) -> Self {
        Self { reference, root, lock: Sidecar::Absent, policy: Sidecar::Absent, referrers: None }
    }

    /// Resolves `reference` in its `store`, and the demanded sidecars.
    ///
    /// Costs one request for an image alone; with sidecars two more concurrently and one for each sidecar.
    ///
    /// # Errors
    ///
    /// Fails as the store does. A missing or ambiguous sidecar is no error here: the verification decides.
    pub async fn resolve(store: &dyn ListingStore, reference: &Reference, demands: &Demands) -> Result<Self> {
        let mut subject = Self::resolve_image(store, reference).await?;
        subject.resolve_sidecars(store, demands).await?;
        Ok(subject)
    }

    /// Runs the first half of [`Candidate::resolve`], one request: the image alone.
    ///
    /// # Errors
    ///
    /// Fails as the store does.
    pub async fn resolve_image(store: &dyn ListingStore, reference: &Reference) -> Result<Self> {
        let root = store.fetch(&reference.name()).await?;
        Ok(Self::new(reference.clone(), root.node))
    }

    /// Runs the second half: the demanded sidecars.
    ///
    /// # Errors
    ///
    /// Fails as the store does.
    pub async fn resolve_sidecars(&mut self, store: &dyn ListingStore, demands: &Demands) -> Result<()> {
        let asked = |kind| demands.sidecar(kind) == SidecarDemand::Required;
        if !asked(SidecarKind::Lock) && !asked(SidecarKind::Policy) {
            return Ok(());
        }
        let tagged = async |kind| match &self.reference.tag {
            Some(tag) if asked(kind) => Sidecar::tagged(store, kind, tag).await,
            _ => Ok(None),
        };
        let referrers = store.referrers(&self.root.digest);
        let (referrers, lock, policy) =
            try_join3(referrers, tagged(SidecarKind::Lock), tagged(SidecarKind::Policy)).await?;
        if asked(SidecarKind::Lock) {
            self.lock = Sidecar::choose(store, SidecarKind::Lock, lock, &referrers).await?;
        }
        if asked(SidecarKind::Policy) {
            self.policy = Sidecar::choose(store, SidecarKind::Policy, policy, &referrers).await?;
        }
        self.referrers = Some(referrers);
        Ok(())
    }
}

impl Sidecar {
    /// Returns the manifest that the sidecar's tag beside `tag` names, if any.
    ///
    /// # Errors
    ///
    /// Fails as the store does.
    pub async fn tagged(store: &dyn ListingStore, kind: SidecarKind, tag: &Tag) -> Result<Option<Root>> {
        let Some(tag) = kind.tag(tag) else { return Ok(None) };
        find_manifest(store, &Name::Tag(tag)).await
    }

    /// Chooses the sidecar from its tag and from the referrers of the image.
    ///
    /// The tag decides if the referrers contain its manifest: older locks of one image stay among its referrers. If
    /// they contain only others, or there is no tag and there are several, the sidecar is ambiguous.
    ///
    /// # Errors
    ///
    /// Fails as the store does, for a referrer that has to be fetched.
    pub async fn choose(
        store: &dyn ListingStore,
        kind: SidecarKind,
        tagged: Option<Root>,
        referrers: &[Descriptor],
    ) -> Result<Self> {
        let is_of_kind = |node: &&Descriptor| {
            node.artifact_type.as_ref().is_some_and(|artifact_type| artifact_type.as_str() == kind.media_type())
        };
        let mut referring: Vec<_> = referrers.iter().filter(is_of_kind).map(|node| node.digest).collect();
        // A list may contain an entry twice.
        referring.sort_unstable();
        referring.dedup();
        match (tagged, referring.as_slice()) {
            (Some(root), []) => Ok(Self::Found(Box::new(root))),
            (Some(root), known) if known.contains(&root.node.digest) => Ok(Self::Found(Box::new(root))),
            (Some(root), _) => Ok(Self::Ambiguous([&[root.node.digest], referring.as_slice()].concat())),
            (None, []) => Ok(Self::Absent),
            (None, [digest]) => {
                let root = find_manifest(store, &Name::Digest(*digest)).await?;
                Ok(root.map_or(Self::Absent, |root| Self::Found(Box::new(root))))
            }
            (None, _) => Ok(Self::Ambiguous(referring)),
        }
    }

    /// Returns the descriptor of the sidecar's manifest, or the reason why there is none to verify.
    ///
    /// # Errors
    ///
    /// Fails as a verification that demands it does.
    pub fn found(&self, kind: SidecarKind) -> Result<&Descriptor, Failure> {
        let kind = kind.as_str();
        match self {
            Self::Found(root) => Ok(&root.node),
            Self::Known(node) => Ok(node),
            Self::Absent => Err(Failure::new(
                ErrorClass::SidecarMissing,
                format!("a {kind} is demanded, and none is beside the image"),
            )),
            Self::Ambiguous(digests) => {
                let names: Vec<_> = digests.iter().map(Digest::to_string).collect();
                let why = format!("tag and referrers name different {kind} sidecars: {}", names.join(", "));
                Err(Failure::new(ErrorClass::SidecarAmbiguous, why))
            }
        }
    }
}

/// Returns the one layer of a sidecar's manifest. Layer and manifest must have its type; older writers omit the
/// manifest's.
pub(super) fn layer(root: &Root, kind: SidecarKind) -> Result<Descriptor, Failure> {
    let wrong = |why: String| {
        let what = format!("{} is no {} sidecar: {why}", root.node.digest, kind.as_str());
        Failure::new(ErrorClass::SidecarMissing, what)
    };
    let manifest = root.manifest().map_err(|why| wrong(why.to_string()))?;
    if let Some(artifact_type) = manifest.artifact_type.as_ref().filter(|it| it.as_str() != kind.media_type()) {
        return Err(wrong(format!("its artifact type is {}, not {}", artifact_type.as_str(), kind.media_type())));
    }
    match manifest.layers.as_slice() {
        [layer] if layer.media_type.as_str() == kind.media_type() => Ok(layer.clone()),
        layers => {
            let types: Vec<_> = layers.iter().take(3).map(|layer| layer.media_type.as_str()).collect();
            Err(wrong(format!("its layers are [{}], not one {}", types.join(", "), kind.media_type())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn a_sidecar_is_of_its_type_in_the_layer_and_in_the_manifest_if_that_says_one() {
        let (lock, policy) = (SidecarKind::Lock.media_type(), SidecarKind::Policy.media_type());
        let judged = |layer_type: &str, artifact_type: Option<&str>| {
            let node = Descriptor::of(MediaType::new(layer_type), b"{}");
            let mut manifest = serde_json::json!({"schemaVersion": 2, "layers": [node]});
            if let Some(artifact_type) = artifact_type {
                manifest["artifactType"] = artifact_type.into();
            }
            let bytes = manifest.to_string();
            let node = Descriptor::of(MediaType::OCI_MANIFEST, bytes.as_bytes());
            layer(&Root { node, bytes: bytes.into() }, SidecarKind::Lock).map_err(|failure| failure.class)
        };
        assert!(judged(lock, Some(lock)).is_ok() && judged(lock, None).is_ok());
        for (layer_type, artifact_type) in [(lock, Some(policy)), (policy, Some(lock)), (policy, None)] {
            assert_eq!(judged(layer_type, artifact_type), Err(ErrorClass::SidecarMissing));
        }
    }
}
