//! Signing: puts signatures in cosign's formats beside existing ones.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::accessories::cosign_list::{Keeps, List};
use super::accessories::cosign_merge::{ListOrigin, Wanted};
use super::accessories::cosign_tags::CosignTags;
use crate::clock::Clock;
use crate::copy::Events;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Repository, Tag};
use crate::store::{Registry, Root, Store, put_bytes};
use crate::trust::artifact::{self, Attachment};
use crate::trust::{sigstore_bundle, simple_signing};
use crate::verify::{SigningKey, signature_tag};

/// The format of signatures: one of cosign's two, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureFormat {
    /// Under the tag `sha256-<hex>.sig`: every version of cosign reads it, and verification takes the fewest requests.
    Legacy,
    /// As a bundle that refers to the signed content: cosign writes it since version 3.
    Bundle,
    /// Both of them.
    Both,
}

/// A signature that was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The digest that it signs.
    pub signs: Digest,
    /// `legacy` or `bundle`.
    pub format: &'static str,
    /// The manifest that holds it.
    pub digest: Digest,
}

/// The key, the format and the time of signatures.
#[derive(Debug, Clone)]
pub(crate) struct Signer<'a> {
    key: &'a SigningKey,
    format: SignatureFormat,
    /// One time for all signatures of a bundle.
    time: Timestamp,
    events: Events,
}

/// A signature that was put; another client may still overwrite it.
#[derive(Debug)]
pub(crate) struct Placed {
    signs: Digest,
    holder: SignatureHolder,
}

/// The manifest that holds a signature.
#[derive(Debug)]
enum SignatureHolder {
    /// A list under one of cosign's tags, which other clients write too.
    List(CosignTags, Tag),
    /// A manifest of its own.
    Manifest(Digest),
}

/// Checks that the placed signatures are still there, and puts again those that other clients have overwritten.
pub(crate) async fn kept(placed: Vec<Placed>) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for Placed { signs, holder } in placed {
        let (format, digest) = match holder {
            SignatureHolder::List(cosign, tag) => {
                cosign.kept(&[&tag]).await?;
                let lost = || Error::new(Kind::Incomplete, "find the signature under").on(&tag);
                ("legacy", cosign.placed(&tag).ok_or_else(lost)?)
            }
            SignatureHolder::Manifest(digest) => ("bundle", digest),
        };
        signatures.push(Signature { signs, format, digest });
    }
    Ok(signatures)
}

impl<'a> Signer<'a> {
    /// Creates a signer with `key` and the current time, which sends its warnings to `events`.
    pub(crate) fn new(key: &'a SigningKey, format: SignatureFormat, events: &Events) -> Self {
        Self { key, format, time: Clock::System.now(), events: events.clone() }
    }

    /// Puts a signature over `node` in each requested format, and checks that it stays.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) if there are too many signatures already. Otherwise fails as the store does.
    pub(crate) async fn sign(
        &self,
        store: &Registry,
        repository: &Repository,
        node: &Descriptor,
    ) -> Result<Vec<Signature>> {
        kept(self.place(store, repository, node).await?).await
    }

    pub(crate) async fn place(
        &self,
        store: &Registry,
        repository: &Repository,
        node: &Descriptor,
    ) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        if self.format != SignatureFormat::Bundle {
            placed.push(Placed { signs: node.digest, holder: self.legacy(store, repository, node).await? });
        }
        if self.format != SignatureFormat::Legacy {
            placed.push(Placed { signs: node.digest, holder: self.bundle(store, node).await? });
        }
        Ok(placed)
    }

    /// Puts a payload that names `node` under the tag derived from its digest, beside the signatures that are there. Does
    /// not overwrite content that is not a list of signatures.
    async fn legacy(&self, store: &Registry, repository: &Repository, node: &Descriptor) -> Result<SignatureHolder> {
        let tag = signature_tag(&node.digest);
        let tag = tag.ok_or_else(|| Error::new(Kind::Unsupported, "name the signature's tag").on(node.digest))?;
        let signed = simple_signing::legacy(repository, &node.digest, Some(self.time));
        let signature = self.key.sign(&signed)?;
        let attachment = artifact::legacy_manifest(&[], &[(signed, signature)]);
        for (node, bytes) in &attachment.blobs {
            put_bytes(store, node, bytes.clone(), &[]).await?;
        }
        let (keeps, origin) = (Keeps::Signatures, ListOrigin::Here);
        let root = Root { node: attachment.node, bytes: attachment.manifest };
        let brought = List::read(keeps, &root);
        let brought = brought.ok_or_else(|| Error::new(Kind::Local, "make a signature of").on(node.digest))?;
        let (proof, planned) = (brought.layers.first().cloned(), brought.clone());
        let wanted =
            Wanted { tag: tag.clone(), subject: node.digest, keeps, origin, brought, proof, planned, base: None };
        let cosign = CosignTags::new(Arc::new(store.clone()), [wanted], self.events.clone());
        cosign.place(&tag).await?;
        Ok(SignatureHolder::List(cosign, tag))
    }

    async fn bundle(&self, store: &Registry, node: &Descriptor) -> Result<SignatureHolder> {
        let statement = sigstore_bundle::statement(&node.digest, Some(self.time));
        let signature = self.key.sign(&sigstore_bundle::pae(&statement))?;
        let bundle = sigstore_bundle::build(&self.key.public_key()?, &statement, &signature);
        let attachment = artifact::bundle_manifest(node, &bundle, self.time);
        put_attachment(store, &attachment, &[]).await?;
        Ok(SignatureHolder::Manifest(attachment.node.digest))
    }
}

/// Puts the blobs of an attachment, then its manifest.
pub(crate) async fn put_attachment(store: &dyn Store, attachment: &Attachment, tags: &[Tag]) -> Result<()> {
    for (node, bytes) in &attachment.blobs {
        put_bytes(store, node, bytes.clone(), &[]).await?;
    }
    put_bytes(store, &attachment.node, attachment.manifest.clone(), tags).await.map(drop)
}
