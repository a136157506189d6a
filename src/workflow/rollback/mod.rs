//! Rollback: puts the former roots of a catalog's run back under their tags, as its roll-up records them.
//!
//! Checks first, acts afterwards: it is known, and can be shown to the operator, what can be put back before the first
//! tag moves. A tag that another client has moved since is left alone. A second rollback does nothing for tags that were
//! put back.

pub(super) mod restore;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::rollback::restore::{MovedTag, PutBack, TagStanding};
use crate::document::roll_up::{Attempt, RollUp};
use crate::error::{Error, Kind, Result, printable};
use crate::journal::Journal;
use crate::oci::{Digest, Name, Reference, Tag};
use crate::seed::{LAST_WORDS, interrupted};
use crate::store::{self, Registry, Role};
use crate::wire::Client;

/// Tags checked at the same time.
const QUESTIONS: usize = 8;

/// Hint for the operator when a former root is gone.
const GONE: &str = "the registry dropped the former root when its tag moved: seed with --keep-previous next time, and bring it back \
                    from its source with registry seed";

/// A rollback, checked against the registries: its planned steps, and later their results.
#[derive(Debug, Serialize)]
pub struct RollbackPlan {
    /// One step for each tag that the run moved, in the order of the roll-up, sidecars before their image.
    #[serde(rename = "tags")]
    pub steps: Vec<RollbackStep>,
    /// Warnings for the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The rollback of one tag.
#[derive(Debug, Serialize)]
pub struct RollbackStep {
    /// The tag.
    #[serde(rename = "tag")]
    pub to: Reference,
    /// The digest that the run put under the tag.
    pub seeded_digest: Digest,
    /// The digest that the tag named before; `None` if the tag did not exist.
    pub previous_digest: Option<Digest>,
    /// Its planned or actual outcome.
    #[serde(flatten)]
    pub fate: RollbackFate,
    #[serde(skip)]
    tag: Tag,
    #[serde(skip)]
    sink: Arc<Registry>,
}

/// The planned or actual outcome for a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum RollbackFate {
    /// To be put back.
    Restore,
    /// To be deleted: it did not exist before.
    Delete,
    /// Was put back.
    Restored,
    /// Was deleted.
    Deleted,
    /// Names what it named before the run: nothing to do.
    Unchanged,
    /// Names something else now, or does not exist: left alone.
    Moved {
        /// The digest that it names; `None` if it does not exist.
        now: Option<Digest>,
    },
    /// Its former root no longer exists.
    Gone {
        /// Advice for the operator.
        hint: &'static str,
    },
    /// The registry does not delete tags: left as it is.
    Left {
        /// The reason, in the registry's words.
        why: String,
    },
    /// It could not be checked, or not be put back.
    Failed {
        /// The reason.
        why: String,
    },
}

impl RollbackFate {
    /// Returns whether the step is still to be done.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Restore | Self::Delete)
    }

    /// Returns whether the tag names what it named before the run.
    #[must_use]
    pub fn is_back(&self) -> bool {
        matches!(self, Self::Restored | Self::Deleted | Self::Unchanged)
    }

    /// Returns the outcome in one word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Restored => "restored",
            Self::Deleted => "deleted",
            Self::Unchanged => "unchanged",
            Self::Moved { .. } => "moved",
            Self::Gone { .. } => "gone",
            Self::Left { .. } => "left",
            Self::Failed { .. } => "failed",
        }
    }
}

impl RollbackPlan {
    /// Reads from `roll_up` which tags its run moved, and asks the registries what each names now. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the roll-up contradicts itself, or plain HTTP is not permitted. A tag that cannot be
    /// checked is not an error: its step is marked as failed.
    pub async fn check(roll_up: &RollUp, client: &Client) -> Result<Self> {
        let (mut steps, mut warnings, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for entry in &roll_up.entries {
            for step in steps_of(entry, client, &mut warnings)? {
                if !seen.insert(step.to.canonical()) {
                    return Err(wrong(entry, "its tag stands twice"));
                }
                steps.push(step);
            }
        }
        let steps: Vec<_> = steps.into_iter().map(RollbackStep::checked).collect();
        let steps = stream::iter(steps).buffered(QUESTIONS).try_collect().await?;
        Ok(Self { steps, warnings })
    }

    /// Returns whether any step is still to be done.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.steps.iter().any(|step| step.fate.is_pending())
    }

    /// Returns whether every tag names what it named before the run.
    #[must_use]
    pub fn is_back(&self) -> bool {
        self.steps.iter().all(|step| step.fate.is_back())
    }

    /// Puts tags back, one after the other, until `stop`. Each step records its result.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](Kind::Interrupted) after `stop`: the tag in progress is finished, if time allows.
    pub async fn act(&mut self, journal: &Journal, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut is_stopped = false;
        for step in self.steps.iter_mut().filter(|step| step.fate.is_pending()) {
            if is_stopped {
                step.fate = RollbackFate::Failed { why: "interrupted before it was its turn".into() };
                continue;
            }
            let fate = {
                let mut work = std::pin::pin!(step.done(journal));
                tokio::select! {
                    biased;
                    () = &mut stop => {
                        is_stopped = true;
                        tokio::time::timeout(LAST_WORDS, work).await.ok()
                    }
                    fate = &mut work => Some(fate),
                }
            };
            let late =
                || RollbackFate::Failed { why: "interrupted while it was being put back: it may have moved".into() };
            step.fate = fate.unwrap_or_else(late);
        }
        if is_stopped { Err(interrupted("", "interrupted; not every tag was put back")) } else { Ok(()) }
    }
}

impl RollbackStep {
    /// Asks what the tag names now, and whether its former root exists.
    async fn checked(mut self) -> Result<Self> {
        let asked = async {
            let previous = self.previous_digest.as_ref();
            Ok(match restore::standing(&self.sink, &self.tag, &self.seeded_digest, previous).await? {
                TagStanding::Back => RollbackFate::Unchanged,
                TagStanding::Elsewhere(now) => RollbackFate::Moved { now },
                TagStanding::Moved => match self.previous_digest {
                    None => RollbackFate::Delete,
                    Some(former) => match store::find(self.sink.as_ref(), &Name::Digest(former)).await? {
                        Some(_) => RollbackFate::Restore,
                        None => RollbackFate::Gone { hint: GONE },
                    },
                },
            })
        };
        match asked.await {
            Ok(fate) => self.fate = fate,
            Err(error) if Error::kind(&error) == Kind::Usage => return Err(error),
            Err(error) => self.fate = failed(&error),
        }
        Ok(self)
    }

    /// Puts the tag back, if it still names what the run put there.
    async fn done(&self, journal: &Journal) -> RollbackFate {
        let done = async {
            let former = match self.previous_digest {
                Some(former) => match store::find_manifest(self.sink.as_ref(), &Name::Digest(former)).await? {
                    Some(former) => Some(former),
                    None => return Ok(RollbackFate::Gone { hint: GONE }),
                },
                None => None,
            };
            let moved = MovedTag { to: &self.to, tag: &self.tag, moved: self.seeded_digest };
            Ok(match restore::put_back(journal, &self.sink, &moved, former.as_ref()).await? {
                PutBack::Restored => RollbackFate::Restored,
                PutBack::Deleted => RollbackFate::Deleted,
                PutBack::Already => RollbackFate::Unchanged,
                PutBack::Elsewhere(now) => RollbackFate::Moved { now },
                PutBack::Undeletable(why) => RollbackFate::Left { why: printable(&why) },
            })
        };
        done.await.unwrap_or_else(|error: Error| failed(&error))
    }
}

fn failed(error: &Error) -> RollbackFate {
    RollbackFate::Failed { why: printable(&error.chain()) }
}

/// Returns the tags that an image's seed moved. An image that was not seeded has moved none.
fn steps_of(entry: &Attempt, client: &Client, warnings: &mut Vec<String>) -> Result<Vec<RollbackStep>> {
    let (Some(seed), Some(tag)) = (&entry.seed, &entry.to.tag) else { return Ok(Vec::new()) };
    if seed.dest_ref != entry.to {
        return Err(wrong(entry, &format!("its seed went to {}", seed.dest_ref)));
    }
    if seed.copied_policy && entry.sidecars.is_empty() {
        let what = "its sidecars travelled, and the roll-up does not say what their tags named: they are left alone";
        warnings.push(format!("{}: {what}", entry.to));
    }
    let sink = Arc::new(Registry::new(client, &entry.to.repository, Role::Sink));
    let mut tags = Vec::new();
    for sidecar in &entry.sidecars {
        let tag = sidecar.kind.tag(tag).ok_or_else(|| wrong(entry, "its tag is too long for sidecars"))?;
        tags.push((tag, sidecar.digest, sidecar.previous_digest));
    }
    tags.push((tag.clone(), seed.dest_digest, entry.previous_digest));
    let moved = tags.into_iter().filter(|(_, seeded, previous)| *previous != Some(*seeded));
    let step = |(tag, seeded_digest, previous_digest)| RollbackStep {
        to: entry.to.repository.tagged(&tag),
        seeded_digest,
        previous_digest,
        fate: RollbackFate::Unchanged,
        tag,
        sink: Arc::clone(&sink),
    };
    Ok(moved.map(step).collect())
}

fn wrong(entry: &Attempt, why: &str) -> Error {
    Error::new(Kind::Usage, "use the roll-up's entry for").on(&entry.to).because(why.to_owned())
}
