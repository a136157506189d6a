//! Replaces the source's index with a smaller one, for registries that require all that an index lists.
//!
//! The new index has another digest, so the publisher's signature is not valid for it: the site signs it with its own
//! key, after the publisher's signature was verified at the source. Accessories of the original index name that digest
//! and are not copied; accessories of the images in it are copied.

use std::collections::HashMap;

use serde::Serialize;

use crate::copy::{Chosen, Event, Events, Stage};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::filter_index::{EntryFate, narrow};
use crate::oci::{Descriptor, Digest};
use crate::seed::endpoints::Endpoints;
use crate::seed::request::{IndexHandling, Seed};
use crate::seed::resolve::Resolved;
use crate::seed::signing::{Signature, SignatureFormat, Signer};
use crate::seed::verification;
use crate::store::{Root, Store, read_manifest};
use crate::verify::Approved;

/// An index that was made to replace the source's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// The digest of the source's index.
    pub source_digest: Digest,
    /// The key that signed it, as the user named it; null after `--skip-verify`.
    pub signed_with: Option<String>,
}

/// Replaces the root of `found` with the smaller index, and keeps the original beside it.
///
/// # Errors
///
/// Fails if indexes cannot be read.
pub(crate) async fn rewrite(source: &dyn Store, found: &mut Resolved, chosen: &Chosen) -> Result<()> {
    let mut made: HashMap<Digest, Root> = HashMap::new();
    for index in chosen.indexes.iter().filter(|index| chosen.selection.keeps_any(&index.digest)) {
        let bytes = match index.digest == found.root.node.digest {
            true => found.root.bytes.clone(),
            false => read_manifest(source, index).await?,
        };
        let fate = |entry: &Digest| match made.get(entry) {
            _ if !chosen.selection.takes(&index.digest, entry) => EntryFate::Drop,
            Some(root) => EntryFate::Become(root.bytes.clone()),
            None => EntryFate::Keep,
        };
        let unreadable = |why| Error::new(Kind::Invalid, "rewrite the index").on(index.digest).because(why);
        let narrowed = narrow(&bytes, fate).map_err(unreadable)?;
        if narrowed != bytes {
            let node = Descriptor::of(index.media_type.clone(), &narrowed);
            made.insert(index.digest, Root { node, bytes: narrowed });
        }
    }
    let root = made.remove(&found.root.node.digest).unwrap_or_else(|| found.root.clone());
    found.original = Some(std::mem::replace(&mut found.root, root));
    found.nested = made.into_values().collect();
    found.nested.sort_by_key(|nested| nested.node.digest);
    Ok(())
}

/// Verifies what arrived. A rewritten index without a valid signature of the site's key is signed and verified again; one
/// with such a signature gets no second one.
///
/// # Errors
///
/// Fails like [`verification::destination`], or if a signature cannot be put.
pub(crate) async fn verified(
    seed: &Seed,
    ends: &Endpoints,
    found: &Resolved,
    events: &Events,
) -> Result<(Option<Approved>, Option<Signature>)> {
    // Everything has been put: content that the destination refuses to show now is there, or was lost.
    let put = ends.sink.taking_refusals_as_errors();
    let IndexHandling::Rewrite(Some(site)) = &seed.scope.index else {
        return Ok((verification::destination(seed, &put, found, events).await?, None));
    };
    match verification::destination(seed, ends.sink.as_ref(), found, events).await {
        Err(error) if error.kind() == Kind::Untrusted => {
            tracing::debug!(error = %error.chain(), "not signed by this site yet");
        }
        approved => return Ok((approved?, None)),
    }
    events.send(Event::Stage(Stage::SigningIndex));
    // The legacy format: one tag, which every version of cosign reads, and which needs no Referrers API.
    let signer = Signer::new(&site.key, SignatureFormat::Legacy, events);
    let signed = signer.sign(&ends.sink, &seed.to.repository, &found.root.node).await;
    let signed = signed.map_err(|error| error.at(Side::Destination).during("sign the rewritten index", &seed.to))?;
    Ok((verification::destination(seed, &put, found, events).await?, signed.into_iter().next()))
}
