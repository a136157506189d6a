//! The destination, where cosign's tags are put so that nothing that stands under them is lost, whoever else writes there.
//!
//! A registry puts a tag without asking what it names: of two clients the last one wins. So the tag is asked right before
//! it is put; if it does not name what the plan rests on, both lists are put together again. What another client
//! overwrites all the same is found by the look at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::cosign_list::{Keeps, List, Union, union};
use super::hidden::Hidden;
use super::resolve;
use crate::copy::{Event, Events};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Tag};
use crate::store::{Body, ByteStream, Put, Registry, Root, Store, Want};

/// How often a list is put together that other clients overwrite meanwhile.
const MAX_UNIONS: u32 = 10;

/// What is to stand under one of cosign's tags.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) tag: Tag,
    pub(super) keeps: Keeps,
    /// What the source has.
    pub(super) brought: List,
    /// The layer of it that was verified.
    pub(super) proof: Option<Descriptor>,
    /// What is put, as it is planned: what was brought, or the union with what the destination had.
    pub(super) planned: List,
    /// What the tag named when that was planned.
    pub(super) base: Option<Digest>,
}

/// What stands under a tag in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All that was brought.
    InPlace,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

/// A repository, with what is to stand under its tags.
#[derive(Debug)]
pub(super) struct CosignTags {
    sink: Arc<Registry>,
    hidden: Arc<Hidden>,
    wanted: HashMap<Tag, Wanted>,
    /// What was put under a tag.
    placed: Mutex<HashMap<Tag, Digest>>,
    events: Events,
}

impl CosignTags {
    pub(super) fn new(
        sink: Arc<Registry>,
        hidden: Arc<Hidden>,
        wanted: impl IntoIterator<Item = Wanted>,
        events: Events,
    ) -> Self {
        let wanted = wanted.into_iter().map(|one| (one.tag.clone(), one)).collect();
        Self { sink, hidden, wanted, placed: Mutex::default(), events }
    }

    /// Whether `tag` is one of them.
    pub(super) fn has(&self, tag: &Tag) -> bool {
        self.wanted.contains_key(tag)
    }

    /// What was put under `tag`, if anything was.
    pub(super) fn placed(&self, tag: &Tag) -> Option<Digest> {
        self.lock().get(tag).copied()
    }

    /// Looks whether `tag` names a list that holds all that was brought.
    ///
    /// # Errors
    ///
    /// Those of reading the tag.
    pub(super) async fn look(&self, tag: &Tag) -> Result<Seen> {
        let Some(wanted) = self.wanted.get(tag) else { return Ok(Seen::InPlace) };
        let name = Name::Tag(tag.clone());
        let held = match resolve::held(self.sink.as_ref(), &name).await {
            // It may be put, and is never shown.
            Err(error) if error.kind() == Kind::Denied && self.hidden.weakened().is_some() => return Ok(Seen::InPlace),
            held => held?,
        };
        let Some(held) = held else { return Ok(Seen::Nothing) };
        let planned = wanted.planned.node.digest;
        if held.digest == self.placed(tag).unwrap_or(planned) {
            return Ok(Seen::InPlace);
        }
        let Some(list) = self.list(wanted.keeps, &name).await?.1 else { return Ok(Seen::Other) };
        if !wanted.keeps.is_merged() {
            // Somebody has put another one after ours.
            return Ok(Seen::InPlace);
        }
        // Of a list that was cut, not all was put.
        let is_cut = !wanted.planned.holds(&wanted.brought);
        let is_in_place = list.holds(if is_cut { &wanted.planned } else { &wanted.brought });
        Ok(if is_in_place { Seen::InPlace } else { Seen::Other })
    }

    /// Makes `tag` name a list that holds what was brought and what stands there.
    ///
    /// # Errors
    ///
    /// Those of the destination; [`Unavailable`](Kind::Unavailable) if other clients change the tag all the time.
    pub(super) async fn place(&self, tag: &Tag) -> Result<Put> {
        let Some(wanted) = self.wanted.get(tag) else { return Ok(Put::Present) };
        let (mut next, mut base) = (wanted.planned.clone(), wanted.base);
        for _ in 0..MAX_UNIONS {
            let name = Name::Tag(tag.clone());
            let held = self.hidden.absent(resolve::held(self.sink.as_ref(), &name).await)?;
            let held = held.map(|held| held.digest);
            if held == Some(next.node.digest) {
                self.lock().insert(tag.clone(), next.node.digest);
                return Ok(Put::Present);
            }
            if held == base {
                return self.put_list(wanted, &next).await;
            }
            let (digest, list) = if held.is_some() { self.list(wanted.keeps, &name).await? } else { (None, None) };
            (next, base) = (self.united(wanted, list), digest.or(held));
        }
        let why = format!("other clients have changed it {MAX_UNIONS} times");
        Err(Error::new(Kind::Unavailable, "put tag").on(tag).because(why))
    }

    /// What is to be put where `own` stands.
    fn united(&self, wanted: &Wanted, own: Option<List>) -> List {
        let Some(own) = own.filter(|_| wanted.keeps.is_merged()) else { return wanted.brought.clone() };
        match union(wanted.keeps, &wanted.brought, &own, wanted.proof.as_ref()) {
            Union::Brought => wanted.brought.clone(),
            Union::Held => own,
            Union::Made { list, left_out } => {
                if left_out > 0 {
                    self.events.send(Event::Warning(no_room(&wanted.tag, left_out)));
                }
                *list
            }
        }
    }

    async fn put_list(&self, wanted: &Wanted, list: &List) -> Result<Put> {
        let put = async |node: &Descriptor, bytes: &bytes::Bytes, tags: &[Tag]| {
            self.sink.put(node, &Body::bytes(node.clone(), bytes.clone()), tags).await
        };
        // That of the plan is there already: the engine has brought it.
        let is_planned = list.node.digest == wanted.planned.node.digest;
        if let Some((node, bytes)) = list.config.as_ref().filter(|_| !is_planned) {
            put(node, bytes, &[]).await?;
        }
        let done = put(&list.node, &list.bytes, std::slice::from_ref(&wanted.tag)).await?;
        self.sink.note_written();
        self.lock().insert(wanted.tag.clone(), list.node.digest);
        Ok(done)
    }

    /// What a tag names, and the list that it is; none where that cannot be told.
    async fn list(&self, keeps: Keeps, name: &Name) -> Result<(Option<Digest>, Option<List>)> {
        let Some(root) = read(self.sink.as_ref(), name).await? else { return Ok((None, None)) };
        Ok((Some(root.node.digest), List::read(keeps, &root)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tag, Digest>> {
        // A panic elsewhere leaves the map whole: every change is one call.
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `name` stands for, with its bytes; none if it is not there, or cannot be read as a manifest.
pub(super) async fn read(sink: &dyn Store, name: &Name) -> Result<Option<Root>> {
    match sink.resolve(name, Want::Bytes).await {
        Ok(root) => Ok(Some(root)),
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Denied) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The warning where a list is cut.
pub(super) fn no_room(tag: &Tag, left_out: usize) -> String {
    format!("{tag} has no room for {left_out} of the entries of both sides: they are left out")
}

#[async_trait]
impl Store for CosignTags {
    fn label(&self) -> &str {
        self.sink.label()
    }

    async fn resolve(&self, name: &Name, want: Want) -> Result<Root> {
        self.sink.resolve(name, want).await
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
