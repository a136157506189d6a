//! Whether what is attached to the image has arrived: looked for at the destination when everything has been carried.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::accessories::{Companion, QUESTIONS, entry, listed};
use super::ends::Ends;
use super::resolve;
use crate::copy::Attached;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Name, Tag};
use crate::store::{Body, Put, Store};

/// How often the destination is looked at for what was brought, which other clients may be overwriting meanwhile.
const MAX_LOOKS: u32 = 3;

/// Looks at the destination for everything that was brought; `proven` was found there by verification.
///
/// Without the Referrers API two clients can overwrite each other's index (distribution-spec, "Pushing Manifests with
/// Subject"). Whoever looks last mends it: what is missing is put again.
///
/// # Errors
///
/// [`Incomplete`](Kind::Incomplete) if something stays missing; whatever keeps the destination from answering.
pub(super) async fn arrived(ends: &Ends, companions: &[Companion], proven: &HashSet<Digest>) -> Result<()> {
    let sink = ends.sink.as_ref();
    let brought = brought(companions, proven);
    let tagged: Vec<_> = brought.iter().filter_map(|one| Some(lost(sink, one.tag.as_ref()?, one))).collect();
    let missing: Vec<_> = stream::iter(tagged).buffer_unordered(QUESTIONS).try_collect().await?;
    if let Some(attached) = missing.into_iter().flatten().next() {
        return Err(lacking(sink, attached));
    }
    for look in 1.. {
        if brought.iter().any(|attached| attached.tag.is_none()) {
            ends.sink.settled().await;
        }
        let listed = listed(sink, brought.iter().copied()).await?;
        let is_missing = |attached: &&&Attached| attached.tag.is_none() && !listed.contains(&entry(attached));
        let missing: Vec<_> = brought.iter().filter(is_missing).copied().collect();
        match missing.first() {
            None => break,
            Some(attached) if look == MAX_LOOKS => return Err(lacking(sink, attached)),
            Some(_) => {}
        }
        let mended: Vec<_> = missing.into_iter().map(|attached| put_again(sink, attached)).collect();
        stream::iter(mended).buffer_unordered(QUESTIONS).try_collect::<Vec<_>>().await?;
    }
    Ok(())
}

/// How many requests [`arrived`] takes when all goes well.
pub(super) fn questions(companions: &[Companion], proven: &HashSet<Digest>) -> u64 {
    let brought = brought(companions, proven);
    let tagged = brought.iter().filter(|one| one.tag.is_some()).count();
    let subjects: HashSet<_> = brought.iter().filter(|one| one.tag.is_none()).map(|one| one.subject).collect();
    (tagged + subjects.len()) as u64
}

fn brought<'a>(companions: &'a [Companion], proven: &HashSet<Digest>) -> Vec<&'a Attached> {
    let brought = companions.iter().filter(|one| !one.is_there()).map(|one| &one.attached);
    brought.filter(|attached| !proven.contains(&attached.node.digest)).collect()
}

/// Says what the destination does not hold under `tag`.
async fn lost<'a>(sink: &dyn Store, tag: &Tag, attached: &'a Attached) -> Result<Option<&'a Attached>> {
    let held = resolve::held(sink, &Name::Tag(tag.clone())).await?;
    Ok(held.is_none_or(|held| held.digest != attached.node.digest).then_some(attached))
}

async fn put_again(sink: &dyn Store, attached: &Attached) -> Result<Put> {
    let body = Body::bytes(attached.node.clone(), attached.bytes.clone().unwrap_or_default());
    sink.put(&attached.node, &body, &[]).await
}

fn lacking(sink: &dyn Store, attached: &Attached) -> Error {
    let Attached { subject, node, tag, .. } = attached;
    let name = tag.as_ref().map_or_else(|| node.digest.to_string(), ToString::to_string);
    let why = format!("{name}, attached to {subject}, was put and is not listed");
    let hint = "somebody else may be writing to the same repository: run the same command again";
    Error::new(Kind::Incomplete, "find what was attached").on(sink.label()).because(why).hint(hint)
}
