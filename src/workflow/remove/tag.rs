//! Removes one tag and leaves its manifest, also at registries that delete manifests only.
//!
//! distribution 2.8 answers 400 to the deletion of a tag. There the tag is put on a manifest that exists for this alone,
//! and that is deleted by its digest: the tag goes with it, and the image and its other tags stay.

use super::RemovalFate;
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Descriptor, Digest, MediaType, Name, Tag};
use crate::store::{self, Registry, Root, Store as _, Untagged};

/// The repository, for reading and deleting, and for writing.
pub(super) struct Ends<'a> {
    pub(super) reader: &'a Registry,
    pub(super) writer: &'a Registry,
}

impl Ends<'_> {
    /// Removes `tag`, which names `digest`.
    ///
    /// # Errors
    ///
    /// Fails as the registry does.
    pub(super) async fn untag(&self, tag: &Tag, digest: Digest) -> Result<RemovalFate> {
        let why = match self.reader.untag(tag).await? {
            Untagged::Removed => return Ok(RemovalFate::Removed),
            Untagged::Absent if self.named(tag).await?.is_none() => return Ok(RemovalFate::Gone),
            Untagged::Absent => "the registry does not find the tag to delete".to_owned(),
            Untagged::Unsupported(why) => why,
        };
        tracing::debug!(%tag, why, "the tag is deleted with a manifest of its own");
        self.replace_and_delete(tag, digest).await
    }

    /// Puts a new manifest under `tag` and deletes that, if the registry deletes manifests at all.
    async fn replace_and_delete(&self, tag: &Tag, digest: Digest) -> Result<RemovalFate> {
        let placeholder = placeholder(tag)?;
        let own = placeholder.node.digest;
        // An absent manifest: 404 where deletion is permitted, 405 where it is not. Asked before anything changes.
        if let Untagged::Unsupported(why) = self.reader.delete_manifest(own).await? {
            return Ok(RemovalFate::Left { why: printable(&why) });
        }
        let former = self.reader.fetch(&Name::Digest(digest)).await?;
        match self.named(tag).await? {
            Some(now) if now == digest => {}
            Some(now) => return Ok(RemovalFate::Moved { now }),
            None => return Ok(RemovalFate::Gone),
        }
        self.put(&placeholder, tag).await?;
        let deleted = self.reader.delete_manifest(own).await;
        if matches!(deleted, Ok(Untagged::Removed)) && self.named(tag).await? != Some(own) {
            return Ok(RemovalFate::Removed);
        }
        self.put(&former, tag).await?;
        match deleted {
            Err(error) => Err(error),
            Ok(_) => {
                let why = "the tag stays when its manifest is deleted; it names the image again";
                Ok(RemovalFate::Left { why: why.to_owned() })
            }
        }
    }

    async fn put(&self, root: &Root, tag: &Tag) -> Result<()> {
        let put = store::put_bytes(self.writer, &root.node, root.bytes.clone(), std::slice::from_ref(tag)).await;
        put.map(|_| ())
    }

    async fn named(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(store::find(self.reader, &Name::Tag(tag.clone())).await?.map(|node| node.digest))
    }
}

/// Returns an index of no images that no other tag names: it holds a random number.
fn placeholder(tag: &Tag) -> Result<Root> {
    let mut number = [0; 16];
    let failed = |why: getrandom::Error| Error::new(Kind::Local, "draw a random number").because(why.to_string());
    getrandom::fill(&mut number).map_err(failed)?;
    // A tag holds no character that JSON escapes.
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"autonomy.removes-tag":"{tag}","autonomy.nonce":"{}"}}}}"#,
        MediaType::OCI_INDEX,
        hex::encode(number),
    );
    Ok(Root { node: Descriptor::of(MediaType::OCI_INDEX, text.as_bytes()), bytes: text.into() })
}
