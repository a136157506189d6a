//! Publishes a roll-up as an artifact that refers to a parent: one query by the parent's tag then finds every catalog
//! that was seeded here.

use std::path::Path;

use serde::Serialize;

use super::batch::history::read_roll_up;
use crate::document::roll_up::RollUp;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Name, Reference, Tag};
use crate::seed::signing::put_attachment;
use crate::store::{self, Listing as _, Registry, Role, Store};
use crate::trust::artifact::{self, Attachment};
use crate::wire::Client;

/// The parent that is made where none exists: an index of no images.
const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// The result of publishing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Publication {
    /// Whether anything was put.
    pub status: Change,
    /// The parent as the user named it.
    pub parent: Reference,
    /// The digest of the parent.
    pub parent_digest: Digest,
    /// Whether the parent was made, as an empty index.
    pub parent_created: bool,
    /// The artifact.
    pub artifact: Reference,
    /// Its artifact type, which the query filters by.
    pub artifact_type: &'static str,
    /// Its tag, if there is no Referrers API.
    pub tag: Option<String>,
    /// Whether the registry has the Referrers API.
    pub referrers_api: bool,
    /// The URL that lists every roll-up of the parent.
    pub query: String,
    /// The URL of the roll-up itself.
    pub content: String,
    /// Images in the roll-up.
    pub entries: u64,
    /// Images in it that failed.
    pub failed: u64,
}

/// Whether anything was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was put now.
    Published,
    /// It was there already, and can be found.
    Unchanged,
}

/// Publishes the roll-up in the file `manifest` as an artifact that refers to `to`.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a file that is not a roll-up and for a parent without a tag, before any request is sent.
/// Otherwise fails as the registry does.
pub async fn publish_index(manifest: &Path, to: &Reference, client: &Client) -> Result<Publication> {
    let (rollup, bytes) = read_roll_up(manifest)?;
    let (tag, own_tag) = tags(to)?;
    let store = Registry::new(client, &to.repository, Role::Sink);
    let failed = |error: Error| error.during("publish the roll-up under", to);
    let (parent, parent_created) = parent(&store, &tag).await.map_err(failed)?;
    let media_type = MediaType::new(RollUp::MEDIA_TYPE);
    let artifact = artifact::file_manifest(&media_type, &parent, (RollUp::FILE, &bytes), rollup.seeded_at);
    let status = put(&store, &parent, &artifact, &own_tag).await.map_err(failed)?;
    let referrers_api = !store.lacks_referrers_api();
    let repository = base_url(&store, to);
    Ok(Publication {
        status,
        parent: to.clone(),
        parent_digest: parent.digest,
        parent_created,
        artifact: to.repository.pinned(artifact.node.digest),
        artifact_type: RollUp::MEDIA_TYPE,
        tag: (!referrers_api).then(|| own_tag.to_string()),
        referrers_api,
        query: if referrers_api {
            // A plus sign in a query would be read as a space.
            let artifact_type = RollUp::MEDIA_TYPE.replace('+', "%2B");
            format!("{repository}/referrers/{}?artifactType={artifact_type}", parent.digest)
        } else {
            format!("{repository}/manifests/{}", parent.digest.fallback_tag())
        },
        content: format!("{repository}/blobs/{}", Digest::sha256(&bytes)),
        entries: rollup.totals.entries,
        failed: rollup.totals.failed,
    })
}

/// Returns the parent's tag, and the artifact's own.
fn tags(to: &Reference) -> Result<(Tag, Tag)> {
    let (Some(tag), None) = (&to.tag, &to.digest) else {
        let error = Error::new(Kind::Usage, "--to names the parent by its tag, not by a digest").on(to);
        return Err(error.hint(format!("write {}:<tag>", to.repository)));
    };
    let own = format!("{tag}-catalog").parse().map_err(|why| {
        Error::new(Kind::Usage, "the tag of --to is too long to stand before -catalog").on(to).because(why)
    })?;
    Ok((tag.clone(), own))
}

/// Returns the node that `tag` names, and whether it was made here: an empty index is put if the tag does not exist.
async fn parent(store: &Registry, tag: &Tag) -> Result<(Descriptor, bool)> {
    if let Some(root) = store::find_manifest(store, &Name::Tag(tag.clone())).await? {
        return Ok((root.node, false));
    }
    let node = Descriptor::of(MediaType::OCI_INDEX, EMPTY_INDEX);
    store::put_bytes(store, &node, EMPTY_INDEX, std::slice::from_ref(tag)).await?;
    Ok((node, true))
}

/// Puts missing content. Without the Referrers API it also tags the artifact, and the store maintains the fallback index.
async fn put(store: &Registry, parent: &Descriptor, artifact: &Attachment, own_tag: &Tag) -> Result<Change> {
    let node = &artifact.node;
    let listed = store.referrers(&parent.digest).await?.iter().any(|entry| entry.digest == node.digest);
    let tags = if store.lacks_referrers_api() { std::slice::from_ref(own_tag) } else { &[] };
    if listed && is_held(store, node, tags).await? {
        return Ok(Change::Unchanged);
    }
    put_attachment(store, artifact, tags).await?;
    Ok(Change::Published)
}

/// Returns whether the artifact is there, under its tag if it has one: a list may name deleted content.
async fn is_held(store: &Registry, node: &Descriptor, tags: &[Tag]) -> Result<bool> {
    match tags {
        [] => store.contains(node).await,
        [tag, ..] => {
            let tagged = store::find(store, &Name::Tag(tag.clone())).await?;
            Ok(tagged.is_some_and(|tagged| tagged.digest == node.digest))
        }
    }
}

/// Returns the URL below which the repository's content is served.
fn base_url(store: &Registry, to: &Reference) -> String {
    let scheme = if store.speaks_plain_http() { "http" } else { "https" };
    format!("{scheme}://{}/v2/{}", to.repository.api_host(), to.repository.path)
}
