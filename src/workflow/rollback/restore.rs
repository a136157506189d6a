//! Putting one tag back to what it named before, unless somebody else has moved it since.

use crate::error::Result;
use crate::oci::{Digest, Name, Tag};
use crate::store::{self, Registry, Root, Untagged};
use crate::workflow::seed::previous;

/// Where a tag stands that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagStanding {
    /// Where it was moved to.
    Moved,
    /// Where it was before.
    Back,
    /// Somewhere else: somebody else's word counts. Nothing if the tag is gone.
    Elsewhere(Option<Digest>),
}

/// What became of a tag that was to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutBack {
    /// It names its former root again.
    Restored,
    /// It is gone, as before.
    Deleted,
    /// It was where it belongs.
    Already,
    /// Somebody else has moved it: it is left alone.
    Elsewhere(Option<Digest>),
    /// The registry does not delete tags; why, in its words.
    Undeletable(String),
}

/// Asks where `tag` stands, which was moved from `former` to `moved`.
///
/// # Errors
///
/// Whatever keeps the registry from telling.
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

/// Makes `tag` name `former` again, or nothing, if it still names `moved`.
///
/// # Errors
///
/// Those of the registry.
pub(crate) async fn put_back(sink: &Registry, tag: &Tag, moved: &Digest, former: Option<&Root>) -> Result<PutBack> {
    match standing(sink, tag, moved, former.map(|former| &former.node.digest)).await? {
        TagStanding::Back => Ok(PutBack::Already),
        TagStanding::Elsewhere(now) => Ok(PutBack::Elsewhere(now)),
        TagStanding::Moved => match former {
            Some(former) => previous::put(sink, former, tag).await.map(|()| PutBack::Restored),
            None => Ok(match sink.untag(tag).await? {
                Untagged::Removed => PutBack::Deleted,
                // Gone in an attempt whose answer was lost; or looked for among the digests alone.
                Untagged::Absent if standing(sink, tag, moved, None).await? == TagStanding::Back => PutBack::Deleted,
                Untagged::Absent => PutBack::Undeletable("the registry does not find the tag to delete".into()),
                Untagged::Unsupported(why) => PutBack::Undeletable(why),
            }),
        },
    }
}
