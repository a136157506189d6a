//! Confirms that everything attached to the image has arrived: checked at the destination after everything was carried.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::cosign_tags::CosignTags;
use super::missing::{Rivals, lacking};
use super::{Accessory, ListEntry, QUESTIONS, entry, listed};
use crate::copy::Attached;
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::seed::endpoints::Endpoints;
use crate::store::{Put, Store, put_bytes};

/// Maximum number of checks for what was brought, while other clients may be overwriting it.
const MAX_LOOKS: u32 = 3;

/// Checks that the destination lists everything that was brought; verification found `proven` there. Returns whether
/// anything had to be put again.
///
/// Without the Referrers API two clients can overwrite each other's index (distribution-spec, "Pushing Manifests with
/// Subject"); on every registry they can overwrite each other's lists under cosign's tags. The last writer repairs these
/// by putting missing entries back.
///
/// # Errors
///
/// [`Incomplete`](Kind::Incomplete) if something stays missing. Also fails if the destination cannot be asked.
pub(crate) async fn arrived(
    ends: &Endpoints,
    cosign: &CosignTags,
    companions: &[Accessory],
    proven: &HashSet<Digest>,
) -> Result<bool> {
    let sink = ends.sink.as_ref();
    let brought: Vec<_> = brought(companions, |one| proven.contains(&one.attached.node.digest)).collect();
    let tags: Vec<_> = brought.iter().filter_map(|one| one.tag.as_ref()).collect();
    let mended = cosign.kept(&tags).await?;
    for look in 1.. {
        if brought.iter().any(|attached| attached.tag.is_none()) {
            ends.sink.settled().await;
        }
        let listed = listed(sink, brought.iter().copied()).await?;
        let is_missing = |attached: &&&Attached| attached.tag.is_none() && !listed.contains(&entry(attached));
        let missing: Vec<_> = brought.iter().filter(is_missing).copied().collect();
        match missing.first() {
            None => return Ok(mended || look > 1),
            Some(attached) if look == MAX_LOOKS => {
                let (node, rivals) = (&attached.node.digest, rivals(&listed, attached));
                return Err(lacking(sink.label(), node, &attached.subject, rivals));
            }
            Some(_) => {}
        }
        let mended: Vec<_> = missing.into_iter().map(|attached| put_again(sink, attached)).collect();
        stream::iter(mended).buffer_unordered(QUESTIONS).try_collect::<Vec<_>>().await?;
    }
    Ok(true)
}

/// Returns whether anything is brought under cosign's tags.
pub(crate) fn has_lists(companions: &[Accessory]) -> bool {
    brought(companions, |one| one.wanted.is_none()).next().is_some()
}

/// Returns how many requests [`arrived`] takes if nothing has to be put again; `proven` holds digests at the source.
pub(crate) fn questions(companions: &[Accessory], proven: &HashSet<Digest>) -> u64 {
    let brought: Vec<_> = brought(companions, |one| proven.contains(&one.original)).collect();
    let tagged = brought.iter().filter(|one| one.tag.is_some()).count();
    let subjects: HashSet<_> = brought.iter().filter(|one| one.tag.is_none()).map(|one| one.subject).collect();
    (tagged + subjects.len()) as u64
}

fn brought(companions: &[Accessory], is_known: impl Fn(&Accessory) -> bool) -> impl Iterator<Item = &Attached> {
    companions.iter().filter(move |one| !one.is_there() && !is_known(one)).map(|one| &one.attached)
}

/// Returns whether other clients have written other entries to the same list.
fn rivals(listed: &HashSet<ListEntry>, attached: &Attached) -> Rivals {
    if listed.iter().any(|(subject, _)| *subject == attached.subject) { Rivals::Seen } else { Rivals::NotSeen }
}

async fn put_again(sink: &dyn Store, attached: &Attached) -> Result<Put> {
    let unread = || Error::new(Kind::Incomplete, "put again without its bytes").on(attached.node.digest);
    put_bytes(sink, &attached.node, attached.bytes.clone().ok_or_else(unread)?, &[]).await
}
