//! What is attached to the image and travels with it (contract §6): found at the source, and compared with the destination.
//!
//! A referrer stands beside the others of its subject. A cosign tag is replaced as a whole, as cosign itself does it: what
//! only the destination has under it is named in a warning before it goes.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::commons::Commons;
use super::ends::Ends;
use super::request::Seed;
use super::resolve::{self, Resolved};
use crate::copy::{self, Attached, AttachmentTags, Event, Events, Known, Presence, Target};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Manifest, Name};
use crate::store::{Repository, Want};

/// Questions asked at the same time.
pub(super) const QUESTIONS: usize = 4;
/// Most bytes of manifests that are read for what is missing at the destination.
const MAX_BYTES: usize = 16 << 20;

/// An attachment, and what the destination has in its place.
#[derive(Debug)]
pub(super) struct Companion {
    pub(super) attached: Attached,
    former: Option<Descriptor>,
}

impl Companion {
    /// Whether the destination has it already.
    pub(super) fn is_there(&self) -> bool {
        self.former.as_ref().is_some_and(|former| former.digest == self.attached.node.digest)
    }

    pub(super) fn target(&self) -> Target {
        Target {
            node: self.attached.node.clone(),
            bytes: self.attached.bytes.clone(),
            tags: self.attached.tag.iter().cloned().collect(),
            former: self.former.clone(),
        }
    }
}

/// Everything that is to be at the destination, with what is missing there read.
///
/// # Errors
///
/// Whatever keeps either end from telling what it has: "could not ask" is not "none".
pub(super) async fn travelling(
    seed: &Seed,
    ends: &Ends,
    found: &Resolved,
    commons: &Commons,
    events: &Events,
) -> Result<Vec<Companion>> {
    let attached = at_source(seed, ends, found, commons).await.map_err(|error| {
        let hint = "give --accessories none to go without what is attached to the image";
        error.at(Side::Source).during("list what is attached", &seed.from).hint(hint)
    })?;
    let compared = compared(seed, ends, found, commons, attached, events).await;
    let companions = compared.map_err(|error| error.at(Side::Destination).during("list what is attached", &seed.to))?;
    read_missing(ends.source.as_ref(), companions, events).await.map_err(|error| error.at(Side::Source))
}

async fn at_source(seed: &Seed, ends: &Ends, found: &Resolved, commons: &Commons) -> Result<Vec<Attached>> {
    let source = ends.source.as_ref();
    let subjects = match seed.accessories {
        Accessories::None => return Ok(Vec::new()),
        // What is attached to the original names that, and not what takes its place.
        Accessories::Root if found.original.is_some() => return Ok(Vec::new()),
        Accessories::Root => vec![found.root.node.digest],
        Accessories::All => {
            let mut subjects = found.subjects(source).await?;
            subjects.extend(found.sidecars().map(|sidecar| sidecar.root.node.digest));
            subjects
        }
    };
    let known = match &seed.from.tag {
        Some(tag) if seed.from.digest.is_none() => Known::Tag(tag),
        _ => Known::Something,
    };
    let tags = commons.tags(&seed.from.repository, source, known).await?;
    copy::attached(source, &tags, &subjects).await
}

/// Asks the destination for each.
///
/// Where it has had an image before, most of what is attached is likely to be there: each is asked for by itself, and a
/// list of all tags would come on top. Where the tag is new only cosign's tags are asked for, because they would be
/// replaced; if they are several, one list says that there are none.
async fn compared(
    seed: &Seed,
    ends: &Ends,
    found: &Resolved,
    commons: &Commons,
    attached: Vec<Attached>,
    events: &Events,
) -> Result<Vec<Companion>> {
    let sink = ends.sink.as_ref();
    let is_new = found.former.is_none();
    let is_proof = seed.engine.presence == Presence::Vouched;
    let tags = match attached.iter().filter(|one| one.tag.is_some()).count() {
        2.. if is_new => commons.tags(&seed.to.repository, sink, Known::Nothing).await?,
        _ => AttachmentTags::default(),
    };
    let listed = match is_new || !is_proof {
        true => HashSet::new(),
        false => listed(sink, attached.iter()).await?,
    };
    let compare = |attached| compare(sink, &tags, &listed, attached, is_proof, events);
    // Collected first: what a stream makes of closures cannot be told to be sendable.
    let companions: Vec<_> = attached.into_iter().map(compare).collect();
    stream::iter(companions).buffered(QUESTIONS).try_collect().await
}

async fn compare(
    sink: &dyn Repository,
    tags: &AttachmentTags,
    listed: &HashSet<Entry>,
    attached: Attached,
    is_proof: bool,
    events: &Events,
) -> Result<Companion> {
    let former = match &attached.tag {
        Some(tag) if tags.may_hold(tag) => replaced(sink, &Name::Tag(tag.clone()), &attached, events).await?,
        Some(_) => None,
        None => listed.contains(&entry(&attached)).then(|| attached.node.clone()),
    };
    Ok(Companion { attached, former: former.filter(|_| is_proof) })
}

/// What the tag of an attachment names now. If something goes with it that the source does not have, that is said.
async fn replaced(
    sink: &dyn Repository,
    tag: &Name,
    attached: &Attached,
    events: &Events,
) -> Result<Option<Descriptor>> {
    let held = resolve::held(sink, tag).await?;
    if let Some(former) = held.as_ref().filter(|held| held.digest != attached.node.digest) {
        let what = match parts(sink, former).await? {
            None => "could not be read".to_owned(),
            Some(former) => {
                let bytes = attached.bytes.as_deref().unwrap_or_default();
                let new = Manifest::parse(bytes, &attached.node.media_type).map(parts_of).unwrap_or_default();
                match former.iter().filter(|part| !new.contains(part)).count() {
                    0 => return Ok(held),
                    lost => format!("has {lost} of {} entries that the source does not have", former.len()),
                }
            }
        };
        let named = format!("{tag} names {} at the destination, which {what}", former.digest);
        events.send(Event::Warning(format!("{named}; it is replaced, and can be had by that digest while it is kept")));
    }
    Ok(held)
}

/// The signatures, or whatever else a manifest is made of. None where that cannot be told.
async fn parts(sink: &dyn Repository, node: &Descriptor) -> Result<Option<Vec<Descriptor>>> {
    match sink.resolve(&Name::Digest(node.digest), Want::Bytes).await {
        Ok(root) => {
            let manifest = Manifest::parse(root.bytes.as_deref().unwrap_or_default(), &root.node.media_type);
            Ok(manifest.map(parts_of).ok())
        }
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Denied) => Err(error),
        Err(_) => Ok(None),
    }
}

fn parts_of(manifest: Manifest) -> Vec<Descriptor> {
    manifest.layers.into_iter().chain(manifest.manifests).collect()
}

/// Reads the manifests that the destination lacks. A list may name what is not there, or what does not refer to the
/// subject at all: neither is a referrer, and neither travels, nor does what is attached to it.
async fn read_missing(source: &dyn Repository, companions: Vec<Companion>, events: &Events) -> Result<Vec<Companion>> {
    let read: Vec<_> = companions.into_iter().map(|companion| referrer(source, companion)).collect();
    let mut read = stream::iter(read).buffered(QUESTIONS);
    let (mut travelling, mut left_out, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(read) = read.next().await {
        match read? {
            Ok(companion) => {
                bytes += companion.attached.bytes.as_ref().map_or(0, |bytes| bytes.len());
                travelling.push(companion);
            }
            Err((Attached { node, subject, .. }, why)) => {
                events.send(Event::Warning(format!("{} is listed as attached to {subject}, {why}", node.digest)));
                left_out.push(node.digest);
            }
        }
        // What the list announces proves nothing: what was read counts.
        if bytes > MAX_BYTES {
            let why = format!("more than {MAX_BYTES} bytes of manifests");
            return Err(Error::new(Kind::Limit, "read what is attached").on(source.label()).because(why));
        }
    }
    while let Some(digest) = left_out.pop() {
        // The same manifest may be attached elsewhere.
        if !travelling.iter().any(|one| one.attached.node.digest == digest) {
            let orphans = travelling.extract_if(.., |one| one.attached.subject == digest);
            left_out.extend(orphans.map(|one| one.attached.node.digest));
        }
    }
    Ok(travelling)
}

/// A referrer with its bytes, or why it is none. What is there, or was read, is as it is.
async fn referrer(
    source: &dyn Repository,
    mut companion: Companion,
) -> Result<Result<Companion, (Attached, &'static str)>> {
    if companion.is_there() || companion.attached.bytes.is_some() {
        return Ok(Ok(companion));
    }
    let root = match source.resolve(&Name::Digest(companion.attached.node.digest), Want::Bytes).await {
        Ok(root) => root,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Err((companion.attached, "and is not there"))),
        Err(error) => return Err(error),
    };
    if !copy::refers_to(&root, &companion.attached.subject) {
        return Ok(Err((companion.attached, "and does not say so itself")));
    }
    companion.attached.node = root.node;
    companion.attached.bytes = root.bytes;
    Ok(Ok(companion))
}

/// A referrer as an entry of its subject's list.
pub(super) type Entry = (Digest, Digest);

pub(super) fn entry(attached: &Attached) -> Entry {
    (attached.subject, attached.node.digest)
}

/// What the destination lists for the subjects of the referrers among `attached`.
pub(super) async fn listed(sink: &dyn Repository, attached: impl Iterator<Item = &Attached>) -> Result<HashSet<Entry>> {
    let subjects: HashSet<_> = attached.filter(|one| one.tag.is_none()).map(|one| one.subject).collect();
    let asked: Vec<_> = subjects.into_iter().map(|subject| entries(sink, subject)).collect();
    let lists: Vec<_> = stream::iter(asked).buffer_unordered(QUESTIONS).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn entries(sink: &dyn Repository, subject: Digest) -> Result<Vec<Entry>> {
    Ok(sink.referrers(&subject).await?.into_iter().map(|node| (subject, node.digest)).collect())
}
