//! Puts one tag back to its former root, unless another client has moved it since.

use crate::error::Result;
use crate::journal::{Effect, Journal, TagChange};
use crate::oci::{Digest, Name, Reference, Tag};
use crate::seed::previous;
use crate::store::{self, Registry, Root, Untagged};

/// The state of a tag that a run moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagStanding {
    /// It names what the run put there.
    Moved,
    /// It names its former root again, or does not exist, as before.
    Back,
    /// It names something else: another client has moved it. `None` if the tag is gone.
    Elsewhere(Option<Digest>),
}

/// The result of putting a tag back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutBack {
    /// It names its former root again.
    Restored,
    /// It does not exist, as before.
    Deleted,
    /// It was back before this call.
    Already,
    /// Another client has moved it: it is left alone.
    Elsewhere(Option<Digest>),
    /// The registry does not delete tags; holds the reason in its words.
    Undeletable(String),
}

/// A tag that a run moved.
#[derive(Debug)]
pub(crate) struct MovedTag<'a> {
    pub(crate) to: &'a Reference,
    pub(crate) tag: &'a Tag,
    /// The digest that the run put there.
    pub(crate) moved: Digest,
}

/// Asks what `tag`, which was moved from `former` to `moved`, names now.
///
/// # Errors
///
/// Fails like [`store::find`].
pub(crate) async fn standing(
    sink: &Registry,
    tag: &Tag,
    moved: &Digest,
    former: Option<&Digest>,
) -> Result<TagStanding> {
    let now = store::find(sink, &Name::Tag(tag.clone())).await?.map(|node| node.digest);
    Ok(match now {
        now if now.as_ref() == former => TagStanding::Back,
        Some(now) if now == *moved => TagStanding::Moved,
        now => TagStanding::Elsewhere(now),
    })
}

/// Makes a tag name `former` again, or deletes it if that is `None`; only if it still names what the run put there.
///
/// # Errors
///
/// Fails like [`standing`], or if the registry or the journal refuses the change.
pub(crate) async fn put_back(
    journal: &Journal,
    sink: &Registry,
    moved: &MovedTag<'_>,
    former: Option<&Root>,
) -> Result<PutBack> {
    match left_alone(sink, moved, former).await? {
        Some(result) => Ok(result),
        None => journal.record(|| vec![effect(moved, former)], change_back(sink, moved, former)).await,
    }
}

/// Puts back a tag that this run itself has moved, even if the journal cannot be written: all of the run's tags move, or
/// none. Returns beside the result whether all was written.
pub(crate) async fn put_own_back(
    journal: &Journal,
    sink: &Registry,
    moved: &MovedTag<'_>,
    former: Option<&Root>,
) -> (Result<PutBack>, Result<()>) {
    match left_alone(sink, moved, former).await {
        Ok(Some(result)) => (Ok(result), Ok(())),
        Ok(None) => {
            let work = change_back(sink, moved, former);
            journal.record_if_possible(|| vec![effect(moved, former)], work).await
        }
        Err(error) => (Err(error), Ok(())),
    }
}

/// Returns the result for a tag that does not name what the run put there; `None` if it is to be changed back.
async fn left_alone(sink: &Registry, moved: &MovedTag<'_>, former: Option<&Root>) -> Result<Option<PutBack>> {
    let former = former.map(|former| &former.node.digest);
    Ok(match standing(sink, moved.tag, &moved.moved, former).await? {
        TagStanding::Back => Some(PutBack::Already),
        TagStanding::Elsewhere(now) => Some(PutBack::Elsewhere(now)),
        TagStanding::Moved => None,
    })
}

fn effect(moved: &MovedTag<'_>, former: Option<&Root>) -> Effect {
    let digest = former.map(|former| former.node.digest);
    Effect::Rollback(TagChange { to: moved.to.clone(), was: Some(moved.moved), digest })
}

async fn change_back(
    sink: &Registry,
    MovedTag { tag, moved, .. }: &MovedTag<'_>,
    former: Option<&Root>,
) -> Result<PutBack> {
    if let Some(former) = former {
        return previous::put(sink, former, tag).await.map(|()| PutBack::Restored);
    }
    Ok(match sink.untag(tag).await? {
        Untagged::Removed => PutBack::Deleted,
        // An earlier attempt deleted it and its response was lost; or the registry looked for a digest only.
        Untagged::Absent if standing(sink, tag, moved, None).await? == TagStanding::Back => PutBack::Deleted,
        Untagged::Absent => PutBack::Undeletable("the registry does not find the tag to delete".into()),
        Untagged::Unsupported(why) => PutBack::Undeletable(why),
    })
}
