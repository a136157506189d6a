//! Former roots: what a tag named before it moves, kept reachable under a holding tag.
//!
//! Some registries (zot) delete untagged content as soon as its tag moves. A run that keeps former roots therefore puts
//! each under `<tag>-was-<first 12 hex digits>` first. Each tag is read right before it moves, and must name what it
//! named at the start of the run: everything that was compared with that (when it was signed, which parts of it are
//! there) says nothing about content that another client has put there since. Such content is left in place, and the run
//! fails.

use super::request::{Seed, SidecarHandling, Tagging, Trust};
use super::resolve::Resolved;
use crate::copy::Watch;
use crate::document::sidecar::SidecarKind;
use crate::error::{Error, Kind, Result, Side};
use crate::journal::{Effect, TagChange};
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{self, Registry, Root};

/// A tag that is to name `root`.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) tag: Tag,
    pub(crate) root: Root,
    /// The root that the tag names before the move.
    pub(crate) former: Former,
    /// The kind of sidecar, if it is not the image.
    pub(crate) sidecar: Option<SidecarKind>,
}

/// A root before its tag moves.
#[derive(Debug)]
pub(crate) enum Former {
    /// The tag does not exist.
    Nothing,
    /// It is not put back, so it was not read.
    Known(Digest),
    /// It is put back if another tag of the run cannot move.
    Read(Root),
}

impl Former {
    fn known(node: &Option<Descriptor>) -> Self {
        node.as_ref().map_or(Self::Nothing, |node| Self::Known(node.digest))
    }
}

impl Move {
    /// Returns whether the tag names something else, or nothing.
    pub(crate) fn is_needed(&self) -> bool {
        self.former_digest() != Some(self.root.node.digest)
    }

    pub(super) fn former_digest(&self) -> Option<Digest> {
        match &self.former {
            Former::Nothing => None,
            Former::Known(digest) => Some(*digest),
            Former::Read(root) => Some(root.node.digest),
        }
    }
}

/// Returns the tag that holds `former` once `tag` names something else; `None` if it would be too long.
pub(super) fn holding_tag(tag: &Tag, former: &Digest) -> Option<Tag> {
    format!("{tag}-was-{}", former.short()).parse().ok()
}

/// Checks that the holding tags are not too long. Sends no request: which roots they hold does not matter.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a tag whose holding tag would be too long.
pub(super) fn check_names(seed: &Seed) -> Result<()> {
    if seed.tagging == Tagging::Plain {
        return Ok(());
    }
    let tag = seed.tag()?;
    let mut tags = vec![Some(tag.clone())];
    if seed.scope.sidecars == SidecarHandling::Copy {
        tags.extend([SidecarKind::Lock, SidecarKind::Policy].map(|kind| kind.tag(&tag)));
    }
    let any = Digest::sha256(b"");
    if tags.iter().all(|tag| tag.as_ref().and_then(|tag| holding_tag(tag, &any)).is_some()) {
        return Ok(());
    }
    let why = format!("the tag that would hold its former root is too long: {tag}-was-<12 digits>");
    let hint = "choose a shorter tag, or go without --keep-previous and --atomic";
    Err(Error::new(Kind::Usage, "keep what the tag names").on(&seed.to).because(why).hint(hint))
}

/// Returns whether everything is put by digest first, and the tags after that.
pub(super) fn is_staged(seed: &Seed, found: &Resolved) -> bool {
    let is_moved = |(root, former): (&Root, &Option<Descriptor>)| {
        former.as_ref().is_some_and(|former| former.digest != root.node.digest)
    };
    !matches!(seed.trust, Trust::Skip)
        || match seed.tagging {
            Tagging::Plain => false,
            // A new tag has no former root; see `new_tags`.
            Tagging::Keep => found.roots().any(is_moved),
            Tagging::Together => true,
        }
}

/// Returns the tags of a seed in the order in which they move, the image's last, after putting the holding tags of former
/// roots that are to be kept.
///
/// # Errors
///
/// [`Conflict`](Kind::Conflict) if another client has moved a tag since the run began. Also fails if former roots cannot
/// be read or written.
pub(crate) async fn moves(seed: &Seed, sink: &Registry, found: &Resolved) -> Result<Vec<Move>> {
    let mut moves = Vec::new();
    for sidecar in found.sidecars.all() {
        let kind = Some(sidecar.kind);
        moves.push(ready(seed, sink, found, &sidecar.tag, &sidecar.root, &sidecar.former, kind).await?);
    }
    moves.push(ready(seed, sink, found, &seed.tag()?, &found.root, &found.former, None).await?);
    Ok(moves)
}

async fn ready(
    seed: &Seed,
    sink: &Registry,
    found: &Resolved,
    tag: &Tag,
    root: &Root,
    known: &Option<Descriptor>,
    sidecar: Option<SidecarKind>,
) -> Result<Move> {
    let is_there = known.as_ref().is_some_and(|known| known.digest == root.node.digest);
    let kept = async {
        if is_there || !is_staged(seed, found) {
            return Ok(Former::known(known));
        }
        let watch = watch(tag, root, known);
        if seed.tagging == Tagging::Plain {
            // Read right before the tag moves, as when former roots are kept: content of another client stays.
            watch.has_moved(sink).await?;
            return Ok(Former::known(known));
        }
        let Some(former) = store::find_manifest(sink, &Name::Tag(tag.clone())).await? else {
            return Ok(Former::Nothing);
        };
        if !watch.is_named_by(&former.node.digest)? {
            hold(sink, tag, &former).await?;
        }
        Ok(Former::Read(former))
    };
    let former =
        kept.await.map_err(|error: Error| error.at(Side::Destination).during("keep what the tag names", tag))?;
    Ok(Move { tag: tag.clone(), root: root.clone(), former, sidecar })
}

/// Returns the changes of all tags that do not name their new root yet.
pub(super) fn effects(seed: &Seed, found: &Resolved) -> Vec<Effect> {
    let sidecars = found.sidecars.all().map(|sidecar| (Some(&sidecar.tag), &sidecar.root, &sidecar.former));
    let all = sidecars.chain([(seed.to.tag.as_ref(), &found.root, &found.former)]);
    let change = |(tag, root, former): (Option<&Tag>, &Root, &Option<Descriptor>)| {
        let (was, digest) = (former.as_ref().map(|former| former.digest), Some(root.node.digest));
        let to = seed.to.repository.tagged(tag?);
        (was != digest).then_some(Effect::Seed(TagChange { to, was, digest }))
    };
    all.filter_map(change).collect()
}

fn watch(tag: &Tag, root: &Root, known: &Option<Descriptor>) -> Watch {
    Watch { tag: tag.clone(), node: root.node.digest, former: known.as_ref().map(|known| known.digest) }
}

/// Returns the new tags of a run that keeps former roots, if they are put together with their roots. Each is read once,
/// right before it is put, so that content of another client is not overwritten.
pub(super) fn new_tags(seed: &Seed, found: &Resolved) -> Result<Vec<Watch>> {
    if seed.tagging != Tagging::Keep || is_staged(seed, found) {
        return Ok(Vec::new());
    }
    let tag = seed.tag()?;
    let sidecars = found.sidecars.all().map(|sidecar| (&sidecar.tag, &sidecar.root, &sidecar.former));
    let all = sidecars.chain([(&tag, &found.root, &found.former)]);
    Ok(all.filter(|(.., former)| former.is_none()).map(|(tag, root, former)| watch(tag, root, former)).collect())
}

/// Puts `former` under its holding tag, unless that names it already.
async fn hold(sink: &Registry, tag: &Tag, former: &Root) -> Result<()> {
    let too_long = || Error::new(Kind::Usage, "name the tag that holds the former root");
    let holding = holding_tag(tag, &former.node.digest).ok_or_else(too_long)?;
    let held = store::find(sink, &Name::Tag(holding.clone())).await?;
    if held.is_some_and(|held| held.digest == former.node.digest) {
        return Ok(());
    }
    put(sink, former, &holding).await
}

/// Makes `tag` name `root`, whose bytes are in memory.
pub(crate) async fn put(sink: &Registry, root: &Root, tag: &Tag) -> Result<()> {
    store::put_bytes(sink, &root.node, root.bytes.clone(), std::slice::from_ref(tag)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holding_tag_is_the_tag_and_twelve_digits_and_no_longer_than_a_tag_may_be() {
        let digest = Digest::sha256(b"");
        let tag = |length: usize| -> Tag { "v".repeat(length).parse().unwrap() };
        let v1: Tag = "v1".parse().unwrap();
        assert_eq!(holding_tag(&v1, &digest).unwrap().as_str(), "v1-was-e3b0c44298fc");
        assert_eq!(holding_tag(&tag(111), &digest).unwrap().as_str().len(), 128);
        assert!(holding_tag(&tag(112), &digest).is_none());
    }
}
