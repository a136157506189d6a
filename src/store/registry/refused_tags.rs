//! Content that a registry hides: tags for which it denies access, and manifests that its Referrers API leaves out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use super::listing::NoPage;
use super::{Registry, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Name, Tag};

/// How a handle treats a refusal to show a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The tag may or may not exist: an error.
    #[default]
    Unknown,
    /// The tag does not exist: GHCR, GitLab and ECR answer 401 or 403 for missing tags.
    Absent,
}

/// The refusals that one handle and its clones have met so far.
#[derive(Debug, Default)]
pub(super) struct RefusedTags(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    /// Tags whose refusal was taken for absence, and whether the last answer was one.
    refused: HashMap<Tag, bool>,
    /// Subjects for which a registry with a Referrers API answers as if it had none.
    unlisted: HashMap<Digest, NoPage>,
}

impl RefusedTags {
    fn lock(&self) -> MutexGuard<'_, Met> {
        // A panic elsewhere leaves it whole: every change is one call.
        crate::sync::lock(&self.0)
    }
}

impl Registry {
    /// Returns a handle for a registry that hides missing tags: from here on a refusal to show a tag means that there
    /// is no such tag, and is recorded. For a destination: a client that may push finds out by pushing, and another one
    /// is refused then.
    #[must_use]
    pub fn taking_refused_tags_for_absent(self) -> Self {
        Self { refusal: Refusal::Absent, unshown: Default::default(), ..self }
    }

    /// Returns a handle for use after all content has been put: a refusal is an error again.
    #[must_use]
    pub fn taking_refusals_as_errors(&self) -> Self {
        Self { refusal: Refusal::Unknown, ..self.clone() }
    }

    /// Whether a refusal to show a tag was taken for absence.
    #[must_use]
    pub fn has_refused_tags(&self) -> bool {
        !self.unshown.lock().refused.is_empty()
    }

    /// Whether the last request for `tag` was refused, and the refusal taken for absence.
    #[must_use]
    pub fn refuses(&self, tag: &Tag) -> bool {
        self.unshown.lock().refused.get(tag).copied().unwrap_or_default()
    }

    /// Returns the manifests for which the registry does not list referrers, although it has a Referrers API and keeps
    /// no fallback tag for them.
    #[must_use]
    pub fn unlisted(&self) -> Vec<Digest> {
        let mut unlisted: Vec<_> = self.unshown.lock().unlisted.keys().copied().collect();
        unlisted.sort_unstable();
        unlisted
    }

    /// Records the result `found` for `name`. Returns "not found" for a refusal that means it.
    pub(super) fn shown<T>(&self, name: &Name, found: Result<T>) -> Result<T> {
        let Name::Tag(tag) = name else { return found };
        let is_refused = match &found {
            Ok(_) => false,
            Err(error) if error.kind() == Kind::NotFound => false,
            Err(error) if error.kind() == Kind::Denied && self.refusal == Refusal::Absent => true,
            Err(_) => return found,
        };
        let mut met = self.unshown.lock();
        match found {
            Err(error) if is_refused => {
                tracing::debug!(error = %error.chain(), "refused, and taken for absent");
                met.refused.insert(tag.clone(), true);
                Err(self.error(Kind::NotFound, "find manifest", suffix(name)).because(error))
            }
            found => {
                met.refused.entry(tag.clone()).and_modify(|is_refused| *is_refused = false);
                found
            }
        }
    }

    /// Records that the Referrers API, which exists, gave no list for `subject`.
    pub(super) fn note_unlisted(&self, subject: &Digest, missing: NoPage) {
        self.unshown.lock().unlisted.insert(*subject, missing);
    }

    /// Records that `subject` has a fallback index after all.
    pub(super) fn note_listed(&self, subject: &Digest) {
        self.unshown.lock().unlisted.remove(subject);
    }

    pub(super) fn is_unlisted(&self, subject: &Digest) -> bool {
        self.unshown.lock().unlisted.contains_key(subject)
    }

    /// Whether an answer about `subject` contradicts the Referrers API. 404 does not: some registries return it for a
    /// manifest without referrers.
    pub(super) fn is_left_out(&self, subject: &Digest) -> bool {
        self.unshown.lock().unlisted.get(subject).is_some_and(|missing| *missing == NoPage::Api)
    }

    /// Returns the error for callers that depend on that list of referrers.
    pub(super) fn leaves_out(&self, subject: &Digest) -> Error {
        let why = "the registry has the Referrers API, does not answer it for this manifest, and keeps no fallback tag";
        let error = self.error(Kind::NotFound, "list referrers of", suffix(&Name::Digest(*subject)));
        error.because(why).hint("the registry, or a proxy before it, is at fault: look at its log")
    }
}
