//! Accessories: everything attached to the image that is copied with it (contract §6). Finds them at the source, and
//! compares them with the destination.
//!
//! Referrers of one subject exist side by side. A cosign tag names one list: the source's and the destination's are
//! merged here, so that the plan knows the result before anything moves.

pub(crate) mod confirm;
pub(crate) mod cosign_list;
pub(crate) mod cosign_merge;
pub(crate) mod cosign_tags;
pub(crate) mod missing;

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::accessories::cosign_list::{Keeps, List};
use super::accessories::cosign_merge::{ListOrigin, Merged, Wanted};
use super::shared::Commons;

use super::endpoints::Endpoints;
use super::request::Seed;
use super::resolve::Resolved;
use crate::copy::{self, Attached, AttachmentTags, Event, Events, KnownTags, Presence, Target};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{self, ListingStore, Root, Store as _};
use crate::verify::{Approved, Evidence, signature_tag};

/// Requests in flight at the same time.
pub(crate) const QUESTIONS: usize = 4;
/// Maximum number of bytes of manifests that are read because the destination lacks them.
const MAX_BYTES: usize = 16 << 20;

/// An attachment as it is to be at the destination, and what the destination has in its place.
#[derive(Debug)]
pub(crate) struct Accessory {
    pub(crate) attached: Attached,
    /// The digest at the source: differs where two lists were merged.
    pub(super) original: Digest,
    former: Option<Descriptor>,
    /// The wanted list, if it is under one of cosign's tags.
    pub(crate) wanted: Option<Box<Wanted>>,
}

impl Accessory {
    /// Returns whether the destination has it already.
    pub(crate) fn is_there(&self) -> bool {
        self.former.as_ref().is_some_and(|former| former.digest == self.attached.node.digest)
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            node: self.attached.node.clone(),
            bytes: self.attached.bytes.clone(),
            tags: self.attached.tag.iter().cloned().collect(),
            former: self.former.clone(),
        }
    }
}

/// Something attached to the image, at the source.
#[derive(Debug)]
struct FoundAccessory {
    attached: Attached,
    /// The list, if it is under one of cosign's tags.
    list: Option<(Keeps, List)>,
}

/// Returns everything that is to be at the destination; manifests that it lacks are read.
///
/// # Errors
///
/// Fails if either end cannot be asked what it has: "could not ask" is not "none".
pub(super) async fn travelling(
    seed: &Seed,
    ends: &Endpoints,
    found: &Resolved,
    approved: &Approved,
    commons: &Commons,
    events: &Events,
) -> Result<Vec<Accessory>> {
    // Evidence for the original index says nothing about the index that replaces it.
    let evidence = if found.original.is_some() { &[] } else { approved.evidence() };
    let attached = async {
        let mut attached = at_source(seed, ends, found, commons).await?;
        add_signatures(ends, found, evidence, &mut attached).await?;
        Ok::<_, Error>(attached)
    };
    let attached = attached.await.map_err(|error| {
        let hint = "give --accessories none to go without what is attached to the image";
        error.at(Side::Source).during("list what is attached", &seed.from).hint(hint)
    })?;
    unlisted(ends, events);
    let attached = belonging(attached, events);
    let compared = compared(seed, ends, found, commons, attached, evidence, events).await;
    let companions = compared.map_err(|error| error.at(Side::Destination).during("list what is attached", &seed.to))?;
    for (node, bytes) in companions.iter().filter_map(|one| one.wanted.as_ref()?.planned.config.as_ref()) {
        ends.memory.add(node, bytes);
    }
    read_missing(ends.source.as_ref(), companions, events).await.map_err(|error| error.at(Side::Source))
}

/// Warns about manifests for which the source, which has the Referrers API, responds like a registry without it.
fn unlisted(ends: &Endpoints, events: &Events) {
    let unlisted = ends.origin.unlisted();
    let Some(first) = unlisted.first() else { return };
    let more = if unlisted.len() > 1 { format!(" and {} others", unlisted.len() - 1) } else { String::new() };
    let what = format!("{} has the Referrers API and does not answer it for {first}{more}", ends.origin.label());
    events.send(Event::Warning(format!("{what}: what is attached to that may be missing")));
}

async fn at_source(seed: &Seed, ends: &Endpoints, found: &Resolved, commons: &Commons) -> Result<Vec<Attached>> {
    let source = ends.source.as_ref();
    let subjects = match seed.scope.accessories {
        Accessories::None => return Ok(Vec::new()),
        // Attachments of the original index name that digest, not the index that replaces it.
        Accessories::Root if found.original.is_some() => return Ok(Vec::new()),
        Accessories::Root => vec![found.root.node.digest],
        Accessories::All => {
            let mut subjects = found.subjects(source).await?;
            subjects.extend(found.sidecars.all().map(|sidecar| sidecar.root.node.digest));
            subjects
        }
    };
    let known = match &seed.from.tag {
        Some(tag) if seed.from.digest.is_none() => KnownTags::Tag(tag),
        _ => KnownTags::Something,
    };
    let tags = commons.tags(&seed.from.repository, source, known).await;
    copy::attached(source, &tags, &subjects).await
}

/// Adds the lists of signatures that verification has found, unless they are copied anyway.
async fn add_signatures(
    ends: &Endpoints,
    found: &Resolved,
    evidence: &[Evidence],
    attached: &mut Vec<Attached>,
) -> Result<()> {
    let signed = found.sidecars.all().map(|sidecar| sidecar.root.node.digest).chain([found.root.node.digest]);
    let signed: Vec<_> = signed.filter_map(|digest| Some((signature_tag(&digest)?, digest))).collect();
    for one in evidence {
        let Evidence::Tagged { tag, .. } = one else { continue };
        let Some((_, subject)) = signed.iter().find(|(own, _)| own == tag) else { continue };
        if attached.iter().all(|other| other.tag.as_ref() != Some(tag)) {
            // The same bytes that verification has read: the source is cached.
            let root = ends.source.fetch(&Name::Tag(tag.clone())).await?;
            let (node, bytes) = (root.node, Some(root.bytes));
            attached.push(Attached { subject: *subject, node, bytes, tag: Some(tag.clone()) });
        }
    }
    Ok(())
}

/// Leaves out content that does not belong under a cosign tag, and what is attached to that: a tag for signatures must
/// not name an image.
fn belonging(attached: Vec<Attached>, events: &Events) -> Vec<FoundAccessory> {
    let (mut belonging, mut left_out) = (Vec::new(), Vec::new());
    for mut attached in attached {
        let Some((keeps, tag)) = attached.tag.as_ref().and_then(|tag| Some((Keeps::under(tag)?, tag))) else {
            belonging.push(FoundAccessory { attached, list: None });
            continue;
        };
        let root = attached.bytes.clone().map(|bytes| Root { node: attached.node.clone(), bytes });
        let kept = keeps.as_str();
        let Some(list) = root.and_then(|root| List::read(keeps, &root)) else {
            let named = format!("{tag} names {} at the source, which does not hold {kept}", attached.node.digest);
            events.send(Event::Warning(format!("{named}: it is left out")));
            left_out.push(attached.node.digest);
            continue;
        };
        if list.strange > 0 {
            let named = format!("{tag} names {} at the source, which holds more than {kept}", attached.node.digest);
            events.send(Event::Warning(format!("{named}: {} layers are left out", list.strange)));
        }
        let list = list.pure();
        (attached.node, attached.bytes) = (list.node.clone(), Some(list.bytes.clone()));
        belonging.push(FoundAccessory { attached, list: Some((keeps, list)) });
    }
    drop_orphans(&mut belonging, left_out, |found| &found.attached);
    belonging
}

/// Drops accessories that are attached to something that was left out.
fn drop_orphans<T>(travelling: &mut Vec<T>, mut left_out: Vec<Digest>, attached: fn(&T) -> &Attached) {
    while let Some(digest) = left_out.pop() {
        // The same manifest may be attached elsewhere.
        if !travelling.iter().any(|one| attached(one).node.digest == digest) {
            let orphans = travelling.extract_if(.., |one| attached(one).subject == digest);
            left_out.extend(orphans.map(|one| attached(&one).node.digest));
        }
    }
}

/// Asks the destination for each accessory.
///
/// If the destination has had an image before, it is likely to have most of them: each is asked for separately, because a
/// list of all tags would be an extra request. If the tag is new, only cosign's tags are asked for, because their lists
/// would be lost; if there are several, one list shows that there are none.
async fn compared(
    seed: &Seed,
    ends: &Endpoints,
    found: &Resolved,
    commons: &Commons,
    attached: Vec<FoundAccessory>,
    evidence: &[Evidence],
    events: &Events,
) -> Result<Vec<Accessory>> {
    let sink = ends.sink.as_ref();
    let is_new = found.former.is_none();
    let presence = seed.engine.presence;
    let tags = match attached.iter().filter(|one| one.list.is_some()).count() {
        2.. if is_new => commons.tags(&seed.to.repository, sink, KnownTags::Nothing).await,
        _ => AttachmentTags::default(),
    };
    let listed = match is_new || presence != Presence::Vouched {
        true => HashSet::new(),
        false => listed(sink, attached.iter().map(|one| &one.attached)).await?,
    };
    let comparing = &Comparing { ends, tags, listed, evidence, presence, events };
    // Collected first: rustc cannot prove that a stream of these closures is `Send`.
    let companions: Vec<_> = attached.into_iter().map(|found| comparing.compare(found)).collect();
    stream::iter(companions).buffered(QUESTIONS).try_collect().await
}

/// The inputs of a comparison with the destination.
struct Comparing<'a> {
    ends: &'a Endpoints,
    tags: AttachmentTags,
    listed: HashSet<ListEntry>,
    evidence: &'a [Evidence],
    presence: Presence,
    events: &'a Events,
}

impl Comparing<'_> {
    async fn compare(&self, found: FoundAccessory) -> Result<Accessory> {
        let FoundAccessory { attached, list } = found;
        let original = attached.node.digest;
        let mut companion = Accessory { attached, original, former: None, wanted: None };
        match (companion.attached.tag.clone(), list) {
            (Some(tag), Some((keeps, brought))) => self.compare_lists(&mut companion, &tag, keeps, brought).await?,
            _ => {
                let is_listed = self.listed.contains(&entry(&companion.attached));
                companion.former = is_listed.then(|| companion.attached.node.clone());
            }
        }
        // In a deep check, presence at the destination proves nothing.
        companion.former = companion.former.filter(|_| self.presence == Presence::Vouched);
        Ok(companion)
    }

    /// Plans what the tag is to name: the source's list, the destination's, or the union of both.
    async fn compare_lists(&self, companion: &mut Accessory, tag: &Tag, keeps: Keeps, brought: List) -> Result<()> {
        let sink = self.ends.sink.as_ref();
        let name = Name::Tag(tag.clone());
        let held = match self.tags.may_hold(tag) {
            true => store::find(sink, &name).await?,
            false => None,
        };
        let proof = self.evidence.iter().find_map(|one| match one {
            Evidence::Tagged { tag: own, layer, .. } if own == tag => brought.layers.get(*layer).cloned(),
            _ => None,
        });
        let base = held.as_ref().map(|held| held.digest);
        let planned = brought.clone();
        let (subject, origin) = (companion.attached.subject, ListOrigin::Source);
        let mut wanted = Wanted { tag: tag.clone(), subject, keeps, origin, brought, proof, planned, base };
        if let Some(held) = held.as_ref().filter(|held| held.digest != wanted.brought.node.digest) {
            let own = cosign_tags::read(sink, &Name::Digest(held.digest)).await?;
            let own = own.and_then(|root| List::read(keeps, &root));
            let Merged { list, warnings } = wanted.merged(sink, own, self.presence).await?;
            warnings.into_iter().for_each(|warning| self.events.send(Event::Warning(warning)));
            wanted.planned = list;
        }
        let planned = &wanted.planned;
        (companion.attached.node, companion.attached.bytes) = (planned.node.clone(), Some(planned.bytes.clone()));
        companion.former = held;
        companion.wanted = Some(Box::new(wanted));
        Ok(())
    }
}

/// Reads the manifests that the destination lacks. A list may name an absent manifest, or one that does not refer to the
/// subject: neither is a referrer, so neither is copied, nor is anything attached to it.
async fn read_missing(
    source: &dyn ListingStore,
    companions: Vec<Accessory>,
    events: &Events,
) -> Result<Vec<Accessory>> {
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
        // Sizes in the list prove nothing: the bytes that were read count.
        if bytes > MAX_BYTES {
            let why = format!("more than {MAX_BYTES} bytes of manifests");
            return Err(Error::new(Kind::Limit, "read what is attached").on(source.label()).because(why));
        }
    }
    drop_orphans(&mut travelling, left_out, |companion| &companion.attached);
    Ok(travelling)
}

/// Returns a referrer with its bytes, or the reason why it is none. Returns it unchanged if it is at the destination, or
/// was read already.
async fn referrer(
    source: &dyn ListingStore,
    mut companion: Accessory,
) -> Result<Result<Accessory, (Attached, &'static str)>> {
    if companion.is_there() || companion.attached.bytes.is_some() {
        return Ok(Ok(companion));
    }
    let Some(root) = store::find_manifest(source, &Name::Digest(companion.attached.node.digest)).await? else {
        return Ok(Err((companion.attached, "and is not there")));
    };
    if !copy::refers_to(&root, &companion.attached.subject) {
        return Ok(Err((companion.attached, "and does not say so itself")));
    }
    companion.attached.node = root.node;
    companion.attached.bytes = Some(root.bytes);
    Ok(Ok(companion))
}

/// A referrer as an entry of its subject's list.
pub(crate) type ListEntry = (Digest, Digest);

pub(crate) fn entry(attached: &Attached) -> ListEntry {
    (attached.subject, attached.node.digest)
}

/// Returns what the destination lists for the subjects of the referrers among `attached`.
pub(crate) async fn listed(
    sink: &dyn ListingStore,
    attached: impl Iterator<Item = &Attached>,
) -> Result<HashSet<ListEntry>> {
    let subjects: HashSet<_> = attached.filter(|one| one.tag.is_none()).map(|one| one.subject).collect();
    let asked: Vec<_> = subjects.into_iter().map(|subject| entries(sink, subject)).collect();
    let lists: Vec<_> = stream::iter(asked).buffer_unordered(QUESTIONS).try_collect().await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn entries(sink: &dyn ListingStore, subject: Digest) -> Result<Vec<ListEntry>> {
    Ok(sink.referrers(&subject).await?.into_iter().map(|node| (subject, node.digest)).collect())
}
