//! Moves all tags of a run, or none: one after the other, and if one fails, those that moved are put back.
//!
//! A registry has no transactions, so this is an approximation: all content is staged and all former roots are kept
//! before the first tag moves, and the error names each tag that cannot be put back. The journal gets all moves before
//! the first, so that a full disk stops the run while it can still be stopped.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::oci::Reference;
use crate::seed::previous::{Former, Move};
use crate::seed::{self, LAST_WORDS, interrupted};
use crate::store::Registry;
use crate::workflow::rollback::restore::{self, MovedTag, PutBack};

/// A tag that is to move, and its destination.
#[derive(Debug)]
pub(crate) struct TagMove<'a> {
    pub(crate) to: Reference,
    pub(crate) sink: Arc<Registry>,
    pub(crate) step: &'a Move,
}

/// The state of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TagState {
    Waiting,
    UnderWay,
    Moved,
    /// It names its former root again.
    Back,
    /// It cannot be put back; holds the reason.
    Stuck(String),
}

/// Moves the tags of `steps`, in their order. A `stop` before the first move leaves all tags as they are; after that the
/// remaining moves are finished, within `LAST_WORDS`.
///
/// # Errors
///
/// Fails with the kind of the tag that could not be put; the text lists which tags were put back and which were not.
/// [`Local`](crate::Kind::Local) if the journal cannot be written. [`Interrupted`](crate::Kind::Interrupted) after `stop`.
pub(super) async fn move_all(
    journal: &Journal,
    name: &str,
    steps: &[TagMove<'_>],
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let states = States { tags: Mutex::new(vec![TagState::Waiting; steps.len()]), unwritten: Mutex::default() };
    let mut work = std::pin::pin!(run(journal, name, steps, &states));
    tokio::select! {
        biased;
        () = stop => {
            if !states.has_begun() {
                return Err(interrupted(name, "interrupted; no tag was moved"));
            }
            let done = tokio::time::timeout(LAST_WORDS, work).await;
            done.unwrap_or_else(|_| {
                let why = "interrupted while the tags were moving";
                Err(interrupted(name, &format!("{why}: {}", states.told(steps))))
            })
        }
        done = &mut work => done,
    }
}

async fn run(journal: &Journal, name: &str, steps: &[TagMove<'_>], states: &States) -> Result<()> {
    let effects = || steps.iter().map(|TagMove { to, step, .. }| seed::effect(to, step)).collect();
    let intents = journal.intend(effects).await;
    let mut intents = intents.map_err(|error| error.during("move all tags; no tag was moved; seed", name))?;
    for (at, TagMove { to, sink, step }) in steps.iter().enumerate() {
        states.set(at, TagState::UnderWay);
        let done = seed::put_tag(sink, step).await;
        let written = intents.end_first(done.as_ref().copied()).await;
        let error = match (done, written) {
            (Ok(()), Ok(())) => {
                states.set(at, TagState::Moved);
                continue;
            }
            (Ok(()), Err(error)) => error,
            (Err(error), written) => {
                states.note(written);
                error
            }
        };
        put_back(journal, &steps[..=at], states).await;
        // The moves that have not begun. Later than putting back: the tags are mixed until then.
        states.note(intents.end(Err(&error)).await);
        return Err(error.during(format!("move all tags; {}; at", states.told(steps)), to));
    }
    Ok(())
}

/// Puts moved tags back, the last one first. Includes the tag that failed: it may have moved.
async fn put_back(journal: &Journal, steps: &[TagMove<'_>], states: &States) {
    for (at, TagMove { to, sink, step }) in steps.iter().enumerate().rev() {
        let former = match &step.former {
            Former::Nothing => None,
            Former::Read(root) => Some(root),
            Former::Known(digest) => {
                states.set(at, TagState::Stuck(format!("its former root {digest} was not read")));
                continue;
            }
        };
        let moved = MovedTag { to, tag: &step.tag, moved: step.root.node.digest };
        let (result, written) = restore::put_own_back(journal, sink, &moved, former).await;
        states.note(written);
        let state = match result {
            // It had not moved after all.
            Ok(PutBack::Already) if states.get(at) == TagState::UnderWay => TagState::Waiting,
            Ok(PutBack::Restored | PutBack::Deleted | PutBack::Already) => TagState::Back,
            Ok(PutBack::Elsewhere(_)) => TagState::Stuck("somebody else has moved it since".into()),
            Ok(PutBack::Undeletable(why)) => TagState::Stuck(format!("it is new, and cannot be deleted: {why}")),
            Err(error) => TagState::Stuck(Error::chain(&error)),
        };
        states.set(at, state);
    }
}

/// The states of all tags; readable after the work was cancelled.
struct States {
    tags: Mutex<Vec<TagState>>,
    /// The reason why the journal lacks a part of this; empty if it does not, or if that alone made the run fail.
    unwritten: Mutex<String>,
}

impl States {
    /// Keeps the first failure of the journal.
    fn note(&self, written: Result<()>) {
        let mut unwritten = crate::sync::lock(&self.unwritten);
        if let Err(error) = written
            && unwritten.is_empty()
        {
            *unwritten = error.chain();
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Vec<TagState>) -> T) -> T {
        // A panic elsewhere leaves the list consistent: every change is one assignment.
        look(&mut crate::sync::lock(&self.tags))
    }

    fn set(&self, at: usize, state: TagState) {
        self.with(|states| states[at] = state);
    }

    fn get(&self, at: usize) -> TagState {
        self.with(|states| states[at].clone())
    }

    fn has_begun(&self) -> bool {
        self.with(|states| states.iter().any(|state| *state != TagState::Waiting))
    }

    /// Describes the state of each tag, grouped by outcome.
    fn told(&self, steps: &[TagMove<'_>]) -> String {
        let states = self.with(|states| states.clone());
        let named = |wanted: &TagState| {
            let found = steps.iter().zip(&states).filter(|(_, state)| *state == wanted);
            found.map(|(step, _)| step.to.to_string()).collect::<Vec<_>>().join(", ")
        };
        let stuck = steps.iter().zip(&states).filter_map(|(step, state)| match state {
            TagState::Stuck(why) => Some(format!("{} ({why})", step.to)),
            _ => None,
        });
        let parts = [
            ("put back: ", named(&TagState::Back)),
            ("NOT put back: ", stuck.collect::<Vec<_>>().join(", ")),
            ("moved: ", named(&TagState::Moved)),
            ("may have moved: ", named(&TagState::UnderWay)),
            ("not moved: ", named(&TagState::Waiting)),
            ("not everything was written down: ", crate::sync::lock(&self.unwritten).clone()),
        ];
        let parts = parts.iter().filter(|(_, tags)| !tags.is_empty());
        parts.map(|(what, tags)| format!("{what}{tags}")).collect::<Vec<_>>().join("; ")
    }
}
