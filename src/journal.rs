//! The journal of a site: an effect is written down before it happens, and its outcome after it.
//!
//! It covers the tags of images and of their lock and policy sidecars, where a seed moves them or a rollback moves them
//! back. It covers nothing else: neither content nor the tags that hold former roots, signatures and lists of referrers,
//! which a seed adds and which change no image; nor the pushes of other clients, nor garbage collection.
//!
//! Events cannot serve for this: they may be lost, and they tell what has happened. A journal is asked first. If it
//! cannot write, nothing happens, except that a run puts back the tags that it has moved itself.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Reference};

/// The move of a tag of an image, or of a lock or policy sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A seed makes a tag of the destination name an image or a sidecar. A tag that names it already has no effect.
    Seed(TagChange),
    /// A rollback makes a tag name its former root again, or deletes it; so does a run whose tags move together or not
    /// at all, when one of them cannot move.
    Rollback(TagChange),
}

/// The change of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// The tag.
    pub to: Reference,
    /// The digest that it names before; `None` if it does not exist.
    pub was: Option<Digest>,
    /// The digest that it is to name; `None` if it is to be deleted.
    pub digest: Option<Digest>,
}

/// The number of an intent in its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntentNumber(pub u64);

/// Writes a journal.
#[async_trait]
pub trait JournalWriter: Debug + Send + Sync {
    /// Writes that `effect` is going to happen. It is durable once this returns.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if it cannot be written: then the effect does not happen, unless a run puts back what it has
    /// moved itself.
    async fn intent(&self, effect: &Effect) -> Result<IntentNumber>;

    /// Writes how the effect of `intent` ended, or why it was not begun. A run that is interrupted or killed leaves an
    /// intent without outcome.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if it cannot be written.
    async fn outcome(&self, intent: IntentNumber, done: std::result::Result<(), &Error>) -> Result<()>;
}

/// The journal of a run; workflows take it as they take the client.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<dyn JournalWriter>>);

impl Journal {
    /// Returns the journal of a run without a site: nothing is written.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the journal that `writer` writes.
    #[must_use]
    pub fn new(writer: Arc<dyn JournalWriter>) -> Self {
        Self(Some(writer))
    }

    /// Writes that `effects` are going to happen, all of them before the first. If one cannot be written, those before it
    /// get an outcome, because none has begun.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the journal cannot be written.
    pub(crate) async fn intend(&self, effects: impl FnOnce() -> Vec<Effect>) -> Result<Intents<'_>> {
        let mut intents = Intents { writer: self.0.as_deref(), open: VecDeque::new() };
        let Some(writer) = intents.writer else { return Ok(intents) };
        for effect in effects() {
            match writer.intent(&effect).await {
                Ok(number) => intents.open.push_back(number),
                Err(why) => {
                    let error = Error::new(Kind::Local, "write down what is to change").because(why);
                    // A journal that does not take this either is left as by a run that was killed.
                    let _ = intents.end(Err(&error)).await;
                    return Err(error);
                }
            }
        }
        Ok(intents)
    }

    /// Does `work`, and writes its effects before it and its outcome after it.
    ///
    /// # Errors
    ///
    /// Fails as `work` does. [`Local`](Kind::Local) if the journal cannot be written: before `work`, which is then not
    /// begun, or after it.
    pub(crate) async fn record<T>(
        &self,
        effects: impl FnOnce() -> Vec<Effect>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let intents = self.intend(effects).await?;
        let done = work.await;
        let written = intents.end(done.as_ref().map(drop)).await;
        let done = done?;
        written.map(|()| done)
    }

    /// Does `work` even if the journal cannot be written: work that must not wait for a disk with space. Returns beside
    /// its result whether all was written.
    pub(crate) async fn record_if_possible<T>(
        &self,
        effects: impl FnOnce() -> Vec<Effect>,
        work: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Result<()>) {
        let intents = self.intend(effects).await;
        let done = work.await;
        let written = match intents {
            Ok(intents) => intents.end(done.as_ref().map(drop)).await,
            Err(error) => Err(error),
        };
        (done, written)
    }
}

/// Intents without an outcome, in the order of their effects. None without a journal.
#[derive(Debug)]
#[must_use]
pub(crate) struct Intents<'a> {
    writer: Option<&'a dyn JournalWriter>,
    open: VecDeque<IntentNumber>,
}

impl Intents<'_> {
    /// Writes the outcome of the first one.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if it cannot be written.
    pub(crate) async fn end_first(&mut self, done: std::result::Result<(), &Error>) -> Result<()> {
        let (Some(writer), Some(number)) = (self.writer, self.open.pop_front()) else { return Ok(()) };
        let unwritten = |why: Error| Error::new(Kind::Local, "write down how the change ended").because(why);
        writer.outcome(number, done).await.map_err(unwritten)
    }

    /// Writes the outcome of all.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if one of them cannot be written; the others are written all the same.
    pub(crate) async fn end(mut self, done: std::result::Result<(), &Error>) -> Result<()> {
        let mut written = Ok(());
        while !self.open.is_empty() {
            written = written.and(self.end_first(done).await);
        }
        written
    }
}
