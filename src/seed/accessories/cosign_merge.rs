//! Merges a list with the one that exists under a cosign tag: for a plan, right before a tag is put, and for a signature
//! that is made here.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::cosign_list::{First, Keeps, List, Union, union};
use crate::copy::Presence;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Tag};
use crate::store::{Registry, Store};

/// Payloads checked at the same time.
const QUESTIONS: usize = 4;

/// The origin of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListOrigin {
    /// The source: its layers come first, and it replaces content under the tag that cannot be merged.
    Source,
    /// Made here: its layers come last, as cosign does it. Content that cannot be merged is left alone, and so is a list
    /// without room for all.
    Here,
}

/// The list that is to be under one of cosign's tags.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) tag: Tag,
    /// The digest of the manifest that the tag belongs to.
    pub(crate) subject: Digest,
    pub(crate) keeps: Keeps,
    pub(crate) origin: ListOrigin,
    /// The list to add.
    pub(crate) brought: List,
    /// The layer of `brought` that was verified.
    pub(crate) proof: Option<Descriptor>,
    /// The list to put, as planned: `brought`, or its union with the destination's list.
    pub(crate) planned: List,
    /// The digest that the tag named when that was planned.
    pub(crate) base: Option<Digest>,
}

/// The result of merging two lists.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) list: List,
    /// Warnings for the operator.
    pub(crate) warnings: Vec<String>,
}

impl Wanted {
    /// Merges `brought` with `own`, the list under the tag in `sink`; `own` is `None` if the tag names something that is
    /// not such a list. Leaves out payloads that the destination has lost: no list that names them could be put.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) and [`Limit`](Kind::Limit) if the content under the tag must be kept, and cannot be.
    /// Also fails if the destination cannot be asked for payloads.
    pub(crate) async fn merged(&self, sink: &Registry, own: Option<List>, presence: Presence) -> Result<Merged> {
        let (Self { tag, keeps, brought, .. }, mut warnings) = (self, Vec::new());
        let told = |what: String| format!("{tag} at the destination {what}");
        let (kept, is_here) = (keeps.as_str(), self.origin == ListOrigin::Here);
        let first = if is_here { First::Own } else { First::Brought };
        let united = |own: &List| union(*keeps, brought, own, self.proof.as_ref(), first);
        let refused = |kind, why: String| Error::new(kind, "keep the signatures under").on(tag).because(why);
        let Some(mut own) = own else {
            if is_here {
                return Err(refused(Kind::Invalid, format!("what stands there does not hold {kept}")));
            }
            return Ok(self.as_brought(told(format!("does not hold {kept}: it is replaced"))));
        };
        if !keeps.is_merged() {
            let kept_by = "it is replaced, and can be had by that digest while it is kept";
            return Ok(self.as_brought(told(format!("names {}: {kept_by}", own.node.digest))));
        }
        let is_needed = |union: &Union| presence != Presence::Vouched || matches!(union, Union::Made { .. });
        if is_needed(&united(&own)) {
            let gone = gone(sink, &own, brought).await?;
            if !gone.is_empty() {
                let what = format!("lists {} that it does not hold any more: they are left out", gone.len());
                warnings.push(told(what));
            }
            own = own.without(&gone);
        }
        let list = match united(&own) {
            Union::Held => own,
            Union::Made { left_out, .. } if left_out > 0 && is_here => {
                let why = format!("there is no room for {left_out} of the entries");
                return Err(
                    refused(Kind::Limit, why).hint("delete that tag and sign again, or seal with --format bundle")
                );
            }
            Union::Made { list, left_out } => {
                let no_room =
                    || format!("{tag} has no room for {left_out} of the entries of both sides: they are left out");
                warnings.extend((left_out > 0).then(no_room));
                *list
            }
            Union::Brought => {
                let strange = || told(format!("holds more than {kept}: {} layers are left out", own.strange));
                warnings.extend((own.strange > 0).then(strange));
                brought.clone()
            }
        };
        Ok(Merged { list, warnings })
    }

    fn as_brought(&self, warning: String) -> Merged {
        Merged { list: self.brought.clone(), warnings: vec![warning] }
    }
}

/// Returns the layers of `own`, except those of `brought`, that the destination no longer holds. A payload that it
/// refuses to show may be there.
async fn gone(sink: &Registry, own: &List, brought: &List) -> Result<Vec<Digest>> {
    let mut seen: HashSet<_> = brought.layers.iter().map(|layer| layer.digest).collect();
    // Several keys may have signed one payload.
    let asked: Vec<_> = own.layers.iter().filter(|layer| seen.insert(layer.digest)).collect();
    // Collected first: rustc cannot prove that a stream of these closures is `Send`.
    let asked: Vec<_> = asked.into_iter().map(|layer| lost(sink, layer)).collect();
    let lost: Vec<_> = stream::iter(asked).buffered(QUESTIONS).try_collect().await?;
    Ok(lost.into_iter().flatten().collect())
}

async fn lost(sink: &Registry, layer: &Descriptor) -> Result<Option<Digest>> {
    match sink.contains(layer).await {
        Err(error) if error.kind() == Kind::Denied => Ok(None),
        held => Ok((!held?).then_some(layer.digest)),
    }
}
