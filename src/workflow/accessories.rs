//! What is attached to the image and travels with it (contract §6): found at the source, compared with the destination,
//! and looked for there once more when it has been carried.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::commons::Commons;
use super::ends::Ends;
use super::request::Seed;
use super::resolve::{self, Resolved};
use crate::copy::{self, Attached, AttachmentTags, Event, Events, Presence, Target};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Manifest, Name, Tag};
use crate::store::{Listing, Registry, Repository, Store, Want};

/// Questions asked at the same time.
const QUESTIONS: usize = 8;
/// Most bytes of manifests that are read for what is missing at the destination.
const MAX_BYTES: u64 = 16 << 20;

/// An attachment, and what the destination has in its place.
#[derive(Debug)]
pub(super) struct Companion {
    pub(super) attached: Attached,
    former: Option<Descriptor>,
}

impl Companion {
    /// Whether the destination has it already.
    fn is_there(&self) -> bool {
        self.former.as_ref().is_some_and(|former| former.digest == self.attached.node.digest)
    }

    fn is_unread(&self) -> bool {
        !self.is_there() && self.attached.bytes.is_none()
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
    let compared = compared(seed, ends, found, commons, attached).await;
    let mut companions =
        compared.map_err(|error| error.at(Side::Destination).during("list what is attached", &seed.to))?;
    read_missing(ends.source.as_ref(), &mut companions, events).await.map_err(|error| error.at(Side::Source))?;
    Ok(companions)
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
    let known = if seed.from.digest.is_some() { None } else { seed.from.tag.as_ref() };
    let tags = commons.tags(&seed.from.repository, source, known).await?;
    copy::attached(source, &tags, &subjects).await
}

/// Asks the destination for each, where it has had an image before.
async fn compared(
    seed: &Seed,
    ends: &Ends,
    found: &Resolved,
    commons: &Commons,
    attached: Vec<Attached>,
) -> Result<Vec<Companion>> {
    let is_asked = found.former.is_some() && seed.engine.presence == Presence::Vouched;
    if attached.is_empty() || !is_asked {
        return Ok(attached.into_iter().map(|attached| Companion { attached, former: None }).collect());
    }
    let sink = ends.sink.as_ref();
    let tags = commons.tags(&seed.to.repository, sink, seed.to.tag.as_ref()).await?;
    let subjects = subjects_of_referrers(attached.iter());
    // Collected first: a future over a stream of closures cannot be told to be sendable.
    let questions: Vec<_> = subjects.into_iter().map(|subject| listed(sink, &tags, subject)).collect();
    let lists: HashMap<_, _> = stream::iter(questions).buffer_unordered(QUESTIONS).try_collect().await?;
    let questions: Vec<_> = attached.into_iter().map(|attached| compare(sink, &tags, &lists, attached)).collect();
    stream::iter(questions).buffered(QUESTIONS).try_collect().await
}

async fn listed(sink: &Registry, tags: &AttachmentTags, subject: Digest) -> Result<(Digest, Vec<Descriptor>)> {
    Ok((subject, copy::referrers(sink, tags, &subject).await?))
}

async fn compare(
    sink: &Registry,
    tags: &AttachmentTags,
    lists: &HashMap<Digest, Vec<Descriptor>>,
    attached: Attached,
) -> Result<Companion> {
    let former = match &attached.tag {
        Some(tag) if tags.may_hold(tag) => resolve::held(sink, &Name::Tag(tag.clone())).await?,
        Some(_) => None,
        None => lists.get(&attached.subject).and_then(|list| entry(list, &attached)).cloned(),
    };
    Ok(Companion { attached, former })
}

/// Reads the manifests that the destination lacks. A list may name what is not there, or what does not refer to the
/// subject at all: neither is a referrer, and neither can travel.
async fn read_missing(source: &dyn Repository, companions: &mut Vec<Companion>, events: &Events) -> Result<()> {
    let unread = companions.iter().filter(|one| one.is_unread());
    let announced = unread.map(|one| one.attached.node.size).fold(0, u64::saturating_add);
    if announced > MAX_BYTES {
        let why = format!("{announced} bytes of manifests, at most {MAX_BYTES} are read");
        return Err(Error::new(Kind::Limit, "read what is attached").on(source.label()).because(why));
    }
    let read: Vec<_> = std::mem::take(companions).into_iter().map(|companion| referrer(source, companion)).collect();
    let mut read = stream::iter(read).buffered(QUESTIONS);
    while let Some(read) = read.next().await {
        match read? {
            Ok(companion) => companions.push(companion),
            Err(why) => events.send(Event::Warning(why)),
        }
    }
    Ok(())
}

async fn referrer(source: &dyn Repository, mut companion: Companion) -> Result<Result<Companion, String>> {
    if !companion.is_unread() {
        return Ok(Ok(companion));
    }
    let Attached { node, subject, .. } = &companion.attached;
    let root = match source.resolve(&Name::Digest(node.digest), Want::Bytes).await {
        Ok(root) => root,
        Err(error) if error.kind() == Kind::NotFound => {
            return Ok(Err(format!("{} is listed as attached to {subject}, and is not there", node.digest)));
        }
        Err(error) => return Err(error),
    };
    let manifest = root.bytes.as_ref().and_then(|bytes| Manifest::parse(bytes, &root.node.media_type).ok());
    if manifest.and_then(|manifest| manifest.subject).is_none_or(|own| own.digest != *subject) {
        return Ok(Err(format!("{} is listed as attached to {subject}, and does not say so itself", node.digest)));
    }
    companion.attached.node = root.node;
    companion.attached.bytes = root.bytes;
    Ok(Ok(companion))
}

/// Looks at the destination for everything that was brought; `proven` was found there by verification.
///
/// # Errors
///
/// [`Incomplete`](Kind::Incomplete) if something is missing; whatever keeps the destination from answering.
pub(super) async fn arrived(ends: &Ends, companions: &[Companion], proven: &HashSet<Digest>) -> Result<()> {
    let sink = ends.sink.as_ref();
    let brought = brought(companions, proven);
    let tagged: Vec<_> = brought.iter().filter_map(|one| Some(lost(sink, one.tag.as_ref()?, one))).collect();
    let mut missing: Vec<_> = stream::iter(tagged).buffer_unordered(QUESTIONS).try_collect().await?;
    for subject in subjects_of_referrers(brought.iter().copied()) {
        let listed = sink.referrers(&subject).await?;
        let expected = brought.iter().filter(|one| one.tag.is_none() && one.subject == subject);
        missing.extend(expected.map(|one| entry(&listed, one).is_none().then_some(*one)));
    }
    match missing.into_iter().flatten().next() {
        None => Ok(()),
        Some(Attached { subject, node, tag, .. }) => {
            let name = tag.as_ref().map_or_else(|| node.digest.to_string(), ToString::to_string);
            let why = format!("{name}, attached to {subject}, was put and is not listed");
            let hint = "somebody else may be writing to the same repository: run the same command again";
            Err(Error::new(Kind::Incomplete, "find what was attached").on(sink.label()).because(why).hint(hint))
        }
    }
}

/// Says what the destination does not hold under `tag`.
async fn lost<'a>(sink: &Registry, tag: &Tag, attached: &'a Attached) -> Result<Option<&'a Attached>> {
    let held = resolve::held(sink, &Name::Tag(tag.clone())).await?;
    Ok(held.is_none_or(|held| held.digest != attached.node.digest).then_some(attached))
}

/// How many requests [`arrived`] takes when all goes well.
pub(super) fn last_questions(companions: &[Companion], proven: &HashSet<Digest>) -> u64 {
    let brought = brought(companions, proven);
    let tagged = brought.iter().filter(|one| one.tag.is_some()).count();
    (tagged + subjects_of_referrers(brought.iter().copied()).len()) as u64
}

/// What has to be looked for at the destination in the end.
fn brought<'a>(companions: &'a [Companion], proven: &HashSet<Digest>) -> Vec<&'a Attached> {
    let is_brought = |one: &&Companion| !one.is_there() && !proven.contains(&one.attached.node.digest);
    companions.iter().filter(is_brought).map(|one| &one.attached).collect()
}

/// What has referrers among `attached`, each once.
fn subjects_of_referrers<'a>(attached: impl Iterator<Item = &'a Attached>) -> Vec<Digest> {
    let mut seen = HashSet::new();
    attached.filter(|one| one.tag.is_none() && seen.insert(one.subject)).map(|one| one.subject).collect()
}

fn entry<'a>(listed: &'a [Descriptor], attached: &Attached) -> Option<&'a Descriptor> {
    listed.iter().find(|entry| entry.digest == attached.node.digest)
}
