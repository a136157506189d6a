//! Removes an image from its registry, with everything attached to it, or one of its tags alone.
//!
//! Checks first, acts afterwards. The image goes first, and what is attached to it after that: no tag ever names an image
//! that has lost a part. A tag that another client has moved since the check is left alone.

mod plan;
mod survey;
mod tag;

use std::num::NonZeroUsize;

use serde::Serialize;

use self::survey::Survey;
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Digest, Name, Reference, Tag};
use crate::seed::{LAST_WORDS, explain, interrupted};
use crate::store::{self, Registry, Role, Store as _, Untagged};
use crate::wire::Client;

/// Most tags that a message names.
const MAX_NAMED: usize = 5;

/// Hint for a registry that does not delete.
const UNDELETABLE: &str = "permit deletion at the registry (distribution: REGISTRY_STORAGE_DELETE_ENABLED=true; registry serve: \
                           no --read-only), or delete it with the registry's own tools";

/// Hint for something that has changed since it was looked at.
const LOOK_AGAIN: &str = "look at it with registry inspect, and run registry rm again if it is still to go";

/// A removal, checked against the registry: its planned steps, and later their results.
#[derive(Debug, Serialize)]
pub struct Removal {
    /// The reference, as the caller gave it.
    pub reference: Reference,
    /// The digest that it names.
    pub digest: Digest,
    /// The other tags that name the same manifest, which therefore stays.
    pub also_named_by: Vec<String>,
    /// The steps, in the order in which they are carried out.
    pub items: Vec<RemovalItem>,
    #[serde(skip)]
    survey: Survey,
    /// For reading and deleting.
    #[serde(skip)]
    reader: Registry,
    /// For the one case in which a tag has to be put before it can be deleted.
    #[serde(skip)]
    writer: Registry,
    /// The first error.
    #[serde(skip)]
    error: Option<Error>,
}

/// A tag or a manifest to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovalItem {
    /// Its role.
    pub what: &'static str,
    /// Its tag, or else its digest, with the repository.
    pub reference: Reference,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its planned or actual outcome.
    #[serde(flatten)]
    pub fate: RemovalFate,
    #[serde(skip)]
    scope: RemovalScope,
}

/// How much of an item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalScope {
    /// Its tag alone: another tag names the manifest too.
    Tag,
    /// Its manifest, with its tag.
    Manifest,
}

/// The planned or actual outcome for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum RemovalFate {
    /// To be removed.
    Remove,
    /// Was removed.
    Removed,
    /// Was not there any more.
    Gone,
    /// Stays, because something else needs it.
    Kept {
        /// The reason.
        why: String,
    },
    /// Its tag names something else by now: left alone.
    Moved {
        /// The digest that it names.
        now: Digest,
    },
    /// The registry does not delete it.
    Left {
        /// The reason, in the registry's words.
        why: String,
    },
    /// It could not be removed.
    Failed {
        /// The reason.
        why: String,
    },
}

impl RemovalFate {
    /// Returns the outcome in one word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Removed => "removed",
            Self::Gone => "gone",
            Self::Kept { .. } => "kept",
            Self::Moved { .. } => "moved",
            Self::Left { .. } => "left",
            Self::Failed { .. } => "failed",
        }
    }

    /// Returns whether the item is not there any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Removed | Self::Gone)
    }
}

impl RemovalItem {
    /// Returns the item's tag; none if only its digest names it.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.reference.tag.as_ref()
    }
}

impl Removal {
    /// Finds out what `reference` names and what is attached to it. Changes nothing. Sends at most `at_once` requests at the
    /// same time: one for each tag of the repository, because only that shows which tags name the same manifest.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for a reference without tag and digest; [`Refused`](Kind::Refused) for a digest that tags
    /// still name; otherwise fails as the registry does.
    pub async fn check(reference: &Reference, client: &Client, at_once: NonZeroUsize) -> Result<Self> {
        if reference.tag.is_none() && reference.digest.is_none() {
            return Err(Error::new(Kind::Usage, "registry rm names a tag or a digest, and does not mean latest")
                .hint(format!("write {}:latest if that is the one", reference.repository)));
        }
        let [reader, writer] =
            [Role::Source, Role::Sink].map(|role| Registry::new(client, &reference.repository, role));
        let root = match &reference.tag {
            Some(tag) => Some(
                reader.fetch(&Name::Tag(tag.clone())).await.map_err(|error| explain::explained(error, reference))?,
            ),
            None => store::find_manifest(&reader, &reference.name()).await?,
        };
        let named = root.as_ref().map(|root| root.node.digest);
        let Some(digest) = reference.digest.or(named) else { return Err(unknown(reference)) };
        if let (Some(tag), Some(now)) = (&reference.tag, named.filter(|now| *now != digest)) {
            return Err(moved(reference, &reference.repository.tagged(tag), now));
        }
        let survey = Survey::take(&reader, reference.tag.as_ref().zip(root.as_ref()), at_once).await?;
        let others: Vec<_> =
            survey.naming(&digest).filter(|tag| Some(*tag) != reference.tag.as_ref()).cloned().collect();
        let items = match &reference.tag {
            None if !others.is_empty() => return Err(still_named(reference, &others)),
            Some(tag) if !others.is_empty() => vec![RemovalItem {
                what: "tag",
                reference: reference.repository.tagged(tag),
                digest,
                fate: RemovalFate::Remove,
                scope: RemovalScope::Tag,
            }],
            tag => {
                let image = plan::RemovedImage {
                    repository: &reference.repository,
                    digest,
                    root: root.as_ref(),
                    tag: tag.as_ref(),
                };
                plan::with_attachments(&image, &reader, &survey).await?
            }
        };
        if items.is_empty() {
            return Err(unknown(reference));
        }
        let also_named_by = others.iter().map(Tag::to_string).collect();
        let (reference, error) = (reference.clone(), None);
        Ok(Self { reference, digest, also_named_by, items, survey, reader, writer, error })
    }

    /// Returns whether `again` would do the same as this one: nothing has changed in between.
    #[must_use]
    pub fn is_same(&self, again: &Self) -> bool {
        self.digest == again.digest && self.items == again.items
    }

    /// Removes the items, one after the other, until `stop`. Each item records its result.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](Kind::Interrupted) after `stop`: the item in progress is finished, if time allows.
    pub async fn act(&mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let (mut is_stopped, mut stays) = (false, false);
        for position in 0..self.items.len() {
            if self.items[position].fate != RemovalFate::Remove {
                continue;
            }
            if is_stopped || stays {
                let why = if is_stopped { "interrupted before it was its turn" } else { "the image stays" };
                self.items[position].fate = RemovalFate::Kept { why: why.into() };
                continue;
            }
            let done = {
                let mut work = std::pin::pin!(self.done(position));
                tokio::select! {
                    biased;
                    () = &mut stop => {
                        is_stopped = true;
                        tokio::time::timeout(LAST_WORDS, work).await.ok()
                    }
                    done = &mut work => Some(done),
                }
            };
            let late = || Err(Error::new(Kind::Interrupted, "remove").because("interrupted: it may be gone"));
            let fate = done.unwrap_or_else(late).unwrap_or_else(|error| {
                let why = printable(&error.chain());
                self.error.get_or_insert(error);
                RemovalFate::Failed { why }
            });
            // Attachments of the image are removed only after the image.
            stays = self.is_image(position) && !fate.is_gone();
            self.items[position].fate = fate;
        }
        if is_stopped { Err(interrupted("", "interrupted; not everything was removed")) } else { Ok(()) }
    }

    /// Removes one item, if its tag still names it.
    async fn done(&self, position: usize) -> Result<RemovalFate> {
        let item = &self.items[position];
        if let Some(tag) = item.tag() {
            match store::find(&self.reader, &Name::Tag(tag.clone())).await? {
                Some(node) if node.digest != item.digest => return Ok(RemovalFate::Moved { now: node.digest }),
                None if item.scope == RemovalScope::Tag => return Ok(RemovalFate::Gone),
                _ => {}
            }
        }
        let ends = tag::Ends { reader: &self.reader, writer: &self.writer };
        match (item.scope, item.tag()) {
            (RemovalScope::Tag, Some(tag)) => return ends.untag(tag, item.digest).await,
            (RemovalScope::Manifest, _) if self.is_image(position) => {
                if let Some(tag) = self.survey.new_name(&self.reader, &item.digest).await? {
                    let why = format!("the tag {tag} names it since this run began");
                    return Ok(RemovalFate::Kept { why });
                }
            }
            _ => {}
        }
        let removed = match self.reader.delete_manifest(item.digest).await? {
            Untagged::Removed => RemovalFate::Removed,
            Untagged::Absent => RemovalFate::Gone,
            Untagged::Unsupported(why) => return Ok(RemovalFate::Left { why: printable(&why) }),
        };
        // The specification leaves open whether the tag goes with its manifest.
        let Some(tag) = item.tag() else { return Ok(removed) };
        match store::find(&self.reader, &Name::Tag(tag.clone())).await? {
            Some(node) if node.digest == item.digest => ends.untag(tag, item.digest).await,
            _ => Ok(removed),
        }
    }

    /// Returns the error for the items that were not removed; none if all is as planned.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        if let Some(error) = &self.error {
            // How far the removal came matters more than a hint about its end.
            let broken_off = Error::new(error.kind(), "remove").on(&self.reference);
            return Some(broken_off.hint(self.remaining_hint()).because(error.clone()));
        }
        let refused = |why: String| Error::new(Kind::Refused, "remove").on(&self.reference).because(why);
        self.items.iter().enumerate().find_map(|(position, item)| match &item.fate {
            RemovalFate::Moved { now } => Some(moved(&self.reference, &item.reference, *now)),
            RemovalFate::Left { why } => {
                Some(refused(format!("the registry does not delete {}: {why}", item.reference)).hint(UNDELETABLE))
            }
            RemovalFate::Kept { why } if self.is_image(position) => Some(refused(why.clone()).hint(LOOK_AGAIN)),
            _ => None,
        })
    }

    /// Returns the hint for a removal that broke off.
    fn remaining_hint(&self) -> String {
        match self.items.first() {
            Some(first) if first.fate.is_gone() && first.scope == RemovalScope::Manifest => {
                let image = self.reference.repository.pinned(self.digest);
                format!("the image is gone, and some of its attachments are left: remove them with registry rm {image}")
            }
            _ => "nothing was removed; run it again".to_owned(),
        }
    }

    /// Returns whether the item is the image itself, and not something attached to it.
    fn is_image(&self, position: usize) -> bool {
        position == 0 && self.items[0].digest == self.digest
    }
}

fn unknown(reference: &Reference) -> Error {
    explain::explained(Error::new(Kind::NotFound, "find manifest").on(reference), reference)
}

/// The error for a tag that another client has moved.
fn moved(reference: &Reference, tag: &Reference, now: Digest) -> Error {
    let why = format!("{tag} names {now} by now and is left alone");
    Error::new(Kind::Refused, "remove").on(reference).because(why).hint(LOOK_AGAIN)
}

/// The error for a digest that tags name.
fn still_named(reference: &Reference, tags: &[Tag]) -> Error {
    let mut names: Vec<_> = tags.iter().take(MAX_NAMED).map(Tag::as_str).collect();
    let more = format!("{} more", tags.len().saturating_sub(MAX_NAMED));
    if tags.len() > MAX_NAMED {
        names.push(&more);
    }
    Error::new(Kind::Refused, "remove").on(reference).because(format!("tags name it: {}", names.join(", "))).hint(
        format!(
            "remove its tags, the last one takes the image along: registry rm {}:{}",
            reference.repository, tags[0]
        ),
    )
}
