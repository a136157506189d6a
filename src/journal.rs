//! The journal of a site: an effect is written down before it happens, and its outcome after it.
//!
//! Events cannot serve for this: they may be lost, and they tell what has happened. A journal is asked first. If it
//! cannot write, nothing happens.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Reference};

/// Something that changes what a registry or a data folder serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A seed makes a tag of the destination name an image or a sidecar.
    Seed(TagChange),
    /// A rollback makes a tag name its former root again, or deletes it.
    Rollback(TagChange),
    /// The garbage collection of a data folder removes what nothing refers to.
    Gc {
        /// The data folder.
        data: PathBuf,
    },
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
    /// [`Local`](Kind::Local) if it cannot be written: then the effect does not happen.
    async fn intent(&self, effect: &Effect) -> Result<IntentNumber>;

    /// Writes how the effect of `intent` ended. A run that is interrupted or killed leaves an intent without outcome.
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

    /// Does `work`, and writes its effects before it and its outcome after it.
    ///
    /// # Errors
    ///
    /// Fails as `work` does. [`Local`](Kind::Local) if the journal cannot be written: before `work`, which is then not
    /// begun, or after it.
    pub(super) async fn record<T>(
        &self,
        effects: impl FnOnce() -> Vec<Effect>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(writer) = &self.0 else { return work.await };
        let unwritten = |what| move |why: Error| Error::new(Kind::Local, what).because(why);
        let mut intents = Vec::new();
        for effect in effects() {
            intents.push(writer.intent(&effect).await.map_err(unwritten("write down what is to change"))?);
        }
        let done = work.await;
        let mut written = Ok(());
        for intent in intents {
            written = written.and(writer.outcome(intent, done.as_ref().map(drop)).await);
        }
        let done = done?;
        written.map_err(unwritten("write down that it has changed"))?;
        Ok(done)
    }
}
