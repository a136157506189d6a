//! Tags that another process may move during a run: checked right before they move.

use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Name, Tag};
use crate::store::{self, Store};

use super::Target;

/// A tag that is checked right before `node` is put under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The tag.
    pub tag: Tag,
    /// The root that it will name.
    pub node: Digest,
    /// The root that it named when the run began; none if it did not exist then.
    pub former: Option<Digest>,
}

impl Watch {
    /// Returns the first tag of `target`, if it currently names another root.
    pub(super) fn of(target: &Target) -> Option<Self> {
        let former = target.former.as_ref().map(|former| former.digest).filter(|it| *it != target.node.digest)?;
        Some(Self { tag: target.tags.first()?.clone(), node: target.node.digest, former: Some(former) })
    }

    /// Asks `sink` what the tag names. Returns true if that is `node` already, so that there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) if it names a third root: what another process put there meanwhile stays. Any error
    /// of the sink.
    pub async fn has_moved(&self, sink: &dyn Store) -> Result<bool> {
        let now = store::find(sink, &Name::Tag(self.tag.clone())).await;
        // A tag that was deleted has nothing to lose.
        let Some(now) = now.map_err(|error| error.at(Side::Destination))? else { return Ok(false) };
        self.is_named_by(&now.digest)
    }

    /// Does the same for a tag that was seen to name `now`.
    ///
    /// # Errors
    ///
    /// [`Conflict`](Kind::Conflict) if it names a third root.
    pub fn is_named_by(&self, now: &Digest) -> Result<bool> {
        if *now == self.node || Some(now) == self.former.as_ref() {
            return Ok(*now == self.node);
        }
        let former = self.former.map_or_else(|| "nothing".to_owned(), |former| former.to_string());
        let why = format!("somebody else has moved the tag during this run: it named {former} and names {now} now");
        let told = Error::new(Kind::Conflict, "put tag").on(&self.tag).because(why).at(Side::Destination);
        Err(told.hint("nothing was put under it; run the same command again to put this image there all the same"))
    }
}
