//! Going back: the former roots of a catalog's run, put back under their tags as its roll-up tells them.
//!
//! Asked first, done afterwards: what can be put back is known, and can be shown to a person, before the first tag moves.
//! A tag that somebody else has moved since is left alone. What was put back is no work the second time.

pub(super) mod restore;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Serialize, Serializer};

use super::rollback::restore::{PutBack, TagStanding};
use super::seed::{LAST_WORDS, interrupted};
use crate::document::roll_up::{Attempt, RollUp};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Digest, Name, Reference, Tag};
use crate::store::{self, Registry, Role, Store, Want};
use crate::wire::Client;

/// Tags that are asked for at the same time.
const QUESTIONS: usize = 8;

/// What a person can do about a former root that is gone.
const GONE: &str = "the registry dropped the former root when its tag moved: seed with --keep-previous next time, and bring it back \
                    from its source with registry seed";

/// A rollback, checked against the registries: what is to be done, and later what was.
#[derive(Debug, Serialize)]
pub struct RollbackPlan {
    /// One for each tag that the run moved, in the order of the roll-up, sidecars before their image.
    #[serde(rename = "tags")]
    pub steps: Vec<RollbackStep>,
    /// What a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One tag.
#[derive(Debug, Serialize)]
pub struct RollbackStep {
    /// The tag.
    #[serde(rename = "tag", serialize_with = "as_text")]
    pub to: Reference,
    /// What the run made it name.
    pub seeded_digest: Digest,
    /// What it named before; nothing if it did not exist.
    pub previous_digest: Option<Digest>,
    /// What is to become of it, or became.
    #[serde(flatten)]
    pub fate: RollbackFate,
    #[serde(skip)]
    tag: Tag,
    #[serde(skip)]
    sink: Arc<Registry>,
}

/// What is to become of a tag, or became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum RollbackFate {
    /// To be put back.
    Restore,
    /// To be deleted: it did not exist.
    Delete,
    /// Was put back.
    Restored,
    /// Was deleted.
    Deleted,
    /// Is where it was before the run: nothing was to be done.
    Unchanged,
    /// Names something else by now, or nothing: left alone.
    Moved {
        /// What it names.
        now: Option<Digest>,
    },
    /// Its former root is not there any more.
    Gone {
        /// What a person can do.
        hint: &'static str,
    },
    /// The registry does not delete tags: left as it is.
    Left {
        /// Why, in the registry's words.
        why: String,
    },
    /// It could not be asked for, or not be put.
    Failed {
        /// Why.
        why: String,
    },
}

impl RollbackFate {
    /// Whether it is still to be done.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Restore | Self::Delete)
    }

    /// Whether the tag is where it was before the run.
    #[must_use]
    pub fn is_back(&self) -> bool {
        matches!(self, Self::Restored | Self::Deleted | Self::Unchanged)
    }

    /// In a word.
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
    /// Reads from `roll_up` which tags its run moved, and asks the registries how each of them stands. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the roll-up contradicts itself, or plain HTTP is not permitted. A tag that cannot be
    /// asked for is no error: it is among the steps as failed.
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

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.steps.iter().any(|step| step.fate.is_pending())
    }

    /// Whether every tag is where it was before the run.
    #[must_use]
    pub fn is_back(&self) -> bool {
        self.steps.iter().all(|step| step.fate.is_back())
    }

    /// Puts back what can be, one tag after the other, until `stop`. The steps say what became of each.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](Kind::Interrupted) after `stop`: the tag under way is finished, if that can be done in time.
    pub async fn act(&mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut is_stopped = false;
        for step in self.steps.iter_mut().filter(|step| step.fate.is_pending()) {
            if is_stopped {
                step.fate = RollbackFate::Failed { why: "interrupted before it was its turn".into() };
                continue;
            }
            let fate = {
                let mut work = std::pin::pin!(step.done());
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
    /// Asks how the tag stands, and whether its former root is there.
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

    /// Puts the tag back, if it is still where the run put it.
    async fn done(&self) -> RollbackFate {
        let done = async {
            let former = match self.previous_digest {
                Some(former) => match self.sink.resolve(&Name::Digest(former), Want::Bytes).await {
                    Err(error) if error.kind() == Kind::NotFound => return Ok(RollbackFate::Gone { hint: GONE }),
                    former => Some(former?),
                },
                None => None,
            };
            Ok(match restore::put_back(&self.sink, &self.tag, &self.seeded_digest, former.as_ref()).await? {
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

/// The tags that an image's seed moved. What was not seeded has moved none.
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

fn as_text<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reference)
}
