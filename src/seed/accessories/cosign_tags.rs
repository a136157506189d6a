//! Puts lists under cosign's tags at the destination without losing existing entries, even if other clients write there
//! too.
//!
//! A registry puts a tag without comparing what it names: of two clients the last one wins. So each tag is read right
//! before it is put; if it does not name what the plan is based on, the lists are merged again. The check at the end
//! finds what another client has overwritten all the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::cosign_list::List;
use super::cosign_merge::{Merged, Wanted};
use super::missing::{Rivals, lacking};
use crate::copy::{Event, Events, Presence};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{self, Body, ByteStream, Put, Registry, Root, Store, put_bytes};

/// Maximum number of merges of one list, while other clients keep changing it.
const MAX_UNIONS: u32 = 10;
/// Maximum number of checks for what was brought, while other clients may be overwriting it.
const MAX_LOOKS: u32 = 3;
/// Tags checked at the same time.
const QUESTIONS: usize = 4;

/// The content of a tag in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagContent {
    /// All that was brought.
    InPlace,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

/// A repository, with the lists that its cosign tags are to name.
#[derive(Debug)]
pub(crate) struct CosignTags {
    sink: Arc<Registry>,
    wanted: HashMap<Tag, Wanted>,
    /// The digest that was put under each tag.
    placed: Mutex<HashMap<Tag, Digest>>,
    events: Events,
}

impl CosignTags {
    pub(crate) fn new(sink: Arc<Registry>, wanted: impl IntoIterator<Item = Wanted>, events: Events) -> Self {
        let wanted = wanted.into_iter().map(|one| (one.tag.clone(), one)).collect();
        Self { sink, wanted, placed: Mutex::default(), events }
    }

    /// Returns whether `tag` is among the wanted tags.
    pub(crate) fn has(&self, tag: &Tag) -> bool {
        self.wanted.contains_key(tag)
    }

    /// Returns the digest that was put under `tag`, if any.
    pub(crate) fn placed(&self, tag: &Tag) -> Option<Digest> {
        self.lock().get(tag).copied()
    }

    /// Checks whether `tag` names a list that holds all that was brought.
    ///
    /// # Errors
    ///
    /// Fails if the tag cannot be read.
    pub(crate) async fn look(&self, tag: &Tag) -> Result<TagContent> {
        let Some(wanted) = self.wanted.get(tag) else { return Ok(TagContent::InPlace) };
        let name = Name::Tag(tag.clone());
        let Some(held) = store::find(self.sink.as_ref(), &name).await? else {
            // This process has put the tag, and the registry never shows it.
            let is_out_of_sight = self.sink.refuses(tag) && self.placed(tag).is_some();
            return Ok(if is_out_of_sight { TagContent::InPlace } else { TagContent::Nothing });
        };
        let planned = wanted.planned.node.digest;
        if held.digest == self.placed(tag).unwrap_or(planned) {
            return Ok(TagContent::InPlace);
        }
        let Some(list) = self.list(wanted).await?.1 else { return Ok(TagContent::Other) };
        if !wanted.keeps.is_merged() {
            // Another client has put its own after ours.
            return Ok(TagContent::InPlace);
        }
        // A list that was cut does not hold all that was brought.
        let is_cut = !wanted.planned.holds(&wanted.brought);
        let expected = if is_cut { &wanted.planned } else { &wanted.brought };
        let is_in_place = list.shows(expected, wanted.keeps, wanted.proof.as_ref());
        Ok(if is_in_place { TagContent::InPlace } else { TagContent::Other })
    }

    /// Makes `tag` name a list that holds what was brought and the destination's own entries.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](Kind::Unavailable) if other clients keep changing the tag. Otherwise fails as the destination
    /// does.
    pub(crate) async fn place(&self, tag: &Tag) -> Result<Put> {
        let Some(wanted) = self.wanted.get(tag) else { return Ok(Put::Present) };
        let (mut next, mut base) = (wanted.planned.clone(), wanted.base);
        for _ in 0..MAX_UNIONS {
            let name = Name::Tag(tag.clone());
            let held = store::find(self.sink.as_ref(), &name).await?.map(|held| held.digest);
            if held == Some(next.node.digest) {
                self.lock().insert(tag.clone(), next.node.digest);
                return Ok(Put::Present);
            }
            if held == base {
                return self.put_list(wanted, &next).await;
            }
            (next, base) = (wanted.brought.clone(), None);
            if held.is_some() {
                let (digest, list) = self.list(wanted).await?;
                (next, base) = (self.merged(wanted, list).await?, digest.or(held));
            }
        }
        let why = format!("other clients have changed it {MAX_UNIONS} times");
        Err(Error::new(Kind::Unavailable, "put tag").on(tag).because(why))
    }

    /// Checks that the destination holds all that was brought under `tags`, and puts again what other clients have
    /// overwritten. Returns whether it put anything.
    ///
    /// # Errors
    ///
    /// [`Incomplete`](Kind::Incomplete) if something stays missing. Also fails if the destination cannot be asked.
    pub(crate) async fn kept(&self, tags: &[&Tag]) -> Result<bool> {
        for look in 1.. {
            if !tags.is_empty() {
                self.sink.settled().await;
            }
            let looks: Vec<_> = tags.iter().map(|tag| self.look(tag)).collect();
            let seen: Vec<_> = stream::iter(looks).buffered(QUESTIONS).try_collect().await?;
            let lost = tags.iter().zip(seen).filter(|(_, seen)| *seen != TagContent::InPlace);
            let lost: Vec<_> = lost.filter_map(|(tag, seen)| Some((self.wanted.get(*tag)?, seen))).collect();
            match lost.first() {
                None => return Ok(look > 1),
                Some((wanted, seen)) if look == MAX_LOOKS => {
                    let rivals = if *seen == TagContent::Other { Rivals::Seen } else { Rivals::NotSeen };
                    return Err(lacking(self.sink.label(), &wanted.tag, &wanted.subject, rivals));
                }
                Some(_) => {}
            }
            let mended: Vec<_> = lost.iter().map(|(wanted, _)| self.place(&wanted.tag)).collect();
            stream::iter(mended).buffer_unordered(QUESTIONS).try_collect::<Vec<_>>().await?;
        }
        Ok(true)
    }

    /// Returns the list to put in place of `own`.
    async fn merged(&self, wanted: &Wanted, own: Option<List>) -> Result<List> {
        let Merged { list, warnings } = wanted.merged(&self.sink, own, Presence::Vouched).await?;
        warnings.into_iter().for_each(|warning| self.events.send(Event::Warning(warning)));
        Ok(list)
    }

    async fn put_list(&self, wanted: &Wanted, list: &List) -> Result<Put> {
        let sink = self.sink.as_ref();
        // The configuration of the planned list is there already: the engine has copied it.
        let is_planned = list.node.digest == wanted.planned.node.digest;
        if let Some((node, bytes)) = list.config.as_ref().filter(|_| !is_planned) {
            put_bytes(sink, node, bytes.clone(), &[]).await?;
        }
        let done = put_bytes(sink, &list.node, list.bytes.clone(), std::slice::from_ref(&wanted.tag)).await?;
        self.sink.note_written();
        self.lock().insert(wanted.tag.clone(), list.node.digest);
        Ok(done)
    }

    /// Reads a tag that was shown just now: the digest that it names, and its list; `None` where either is unknown.
    async fn list(&self, wanted: &Wanted) -> Result<(Option<Digest>, Option<List>)> {
        let name = Name::Tag(wanted.tag.clone());
        match read(self.sink.as_ref(), &name).await? {
            Some(root) => Ok((Some(root.node.digest), List::read(wanted.keeps, &root))),
            // The tag exists: here a refusal does not mean its absence.
            None if self.sink.refuses(&wanted.tag) => {
                let why = "it is named in answer to HEAD, and refused in answer to GET";
                Err(Error::new(Kind::Denied, "read tag").on(&wanted.tag).because(why))
            }
            None => Ok((None, None)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tag, Digest>> {
        // A panic elsewhere leaves the map consistent: every change is one call.
        crate::sync::lock(&self.placed)
    }
}

/// Returns the root that `name` names, with its bytes; `None` if it is absent, or cannot be read as a manifest.
pub(crate) async fn read(sink: &dyn Store, name: &Name) -> Result<Option<Root>> {
    match sink.fetch(name).await {
        Ok(root) => Ok(Some(root)),
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Denied) => Err(error),
        Err(_) => Ok(None),
    }
}

#[async_trait]
impl Store for CosignTags {
    fn label(&self) -> &str {
        self.sink.label()
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.sink.resolve(name).await
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.sink.fetch(name).await
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.sink.contains(node).await
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        self.sink.open(node, from).await
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        let (cosign, plain): (Vec<_>, Vec<_>) = tags.iter().cloned().partition(|tag| self.has(tag));
        let mut put = Put::Present;
        if cosign.is_empty() || !plain.is_empty() {
            put = self.sink.put(node, body, &plain).await?;
        }
        for tag in &cosign {
            put = self.place(tag).await?;
        }
        Ok(put)
    }

    fn expect(&self, count: usize) {
        self.sink.expect(count);
    }
}
