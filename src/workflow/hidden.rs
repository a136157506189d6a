//! What a destination hides: GHCR, GitLab and ECR answer 401 or 403 for what is not there.

use std::sync::atomic::{AtomicBool, Ordering};

use super::former::Tagging;
use crate::error::{Kind, Result};

/// Whether what is refused counts as absent, and whether that has happened.
///
/// Whoever may push finds out by pushing; whoever may not is refused then. A run that keeps former roots has to know them
/// (contract §6).
#[derive(Debug)]
pub(super) struct Hidden {
    tagging: Tagging,
    was_met: AtomicBool,
}

impl Hidden {
    pub(super) fn new(tagging: Tagging) -> Self {
        Self { tagging, was_met: AtomicBool::new(false) }
    }

    /// What stands for nothing, in place of a refusal that counts as that.
    ///
    /// # Errors
    ///
    /// All others; refusals too in a run that keeps former roots.
    pub(super) fn absent<T: Default>(&self, answer: Result<T>) -> Result<T> {
        match answer {
            Err(error) if error.kind() == Kind::Denied && self.tagging == Tagging::Plain => {
                tracing::debug!(error = %error.chain(), "refused, and taken for absent");
                self.was_met.store(true, Ordering::Relaxed);
                Ok(T::default())
            }
            answer => answer,
        }
    }

    /// The words for the record, if it has happened.
    pub(super) fn weakened(&self) -> Option<String> {
        let words = "what the destination refuses to show (401 or 403) was taken for absent";
        self.was_met.load(Ordering::Relaxed).then(|| words.to_owned())
    }
}
