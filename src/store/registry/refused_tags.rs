//! What a registry does not show: tags that it refuses to speak of, and manifests that its Referrers API leaves out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listing::NoPage;
use super::{Registry, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Name, Tag};

/// A refusal to show a tag, as a handle takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody knows what there is: an error.
    #[default]
    Unknown,
    /// There is none: GHCR, GitLab and ECR answer 401 or 403 for what is absent.
    Absent,
}

/// What was met so far by one handle and its clones.
#[derive(Debug, Default)]
pub(super) struct RefusedTags(Mutex<Met>);

#[derive(Debug, Default)]
struct Met {
    /// Tags whose refusal was taken for absence, and whether the last answer was one.
    refused: HashMap<Tag, bool>,
    /// Subjects that a registry with a Referrers API speaks of as one without does.
    unlisted: HashMap<Digest, NoPage>,
}

impl RefusedTags {
    fn lock(&self) -> MutexGuard<'_, Met> {
        // A panic elsewhere leaves it whole: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// The same repository as one that hides what is absent: a refusal to show a tag means from here on that there is no
    /// such tag, and is noted. For a destination: whoever may push finds out by pushing, and whoever may not is refused
    /// then.
    #[must_use]
    pub fn taking_refused_tags_for_absent(self) -> Self {
        Self { refusal: Refusal::Absent, unshown: Default::default(), ..self }
    }

    /// The same repository, where everything has been put: a refusal is an error again.
    #[must_use]
    pub fn taking_refusals_as_errors(&self) -> Self {
        Self { refusal: Refusal::Unknown, ..self.clone() }
    }

    /// Whether a refusal to show a tag was taken for absence.
    #[must_use]
    pub fn has_refused_tags(&self) -> bool {
        !self.unshown.lock().refused.is_empty()
    }

    /// Whether the last question for `tag` was refused, and that taken for absence.
    #[must_use]
    pub fn refuses(&self, tag: &Tag) -> bool {
        self.unshown.lock().refused.get(tag).copied().unwrap_or_default()
    }

    /// The manifests of which the registry does not say what refers to them, although it has a Referrers API and keeps no
    /// fallback tag for them.
    #[must_use]
    pub fn unlisted(&self) -> Vec<Digest> {
        let mut unlisted: Vec<_> = self.unshown.lock().unlisted.keys().copied().collect();
        unlisted.sort_unstable();
        unlisted
    }

    /// Takes note of what was `found` under `name`. Gives "not found" for a refusal that means it.
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

    /// Takes note that the Referrers API, which is there, was not there for `subject`.
    pub(super) fn note_unlisted(&self, subject: &Digest, missing: NoPage) {
        self.unshown.lock().unlisted.insert(*subject, missing);
    }

    /// Takes note that `subject` has a fallback index after all.
    pub(super) fn note_listed(&self, subject: &Digest) {
        self.unshown.lock().unlisted.remove(subject);
    }

    pub(super) fn is_unlisted(&self, subject: &Digest) -> bool {
        self.unshown.lock().unlisted.contains_key(subject)
    }

    /// Whether an answer about `subject` contradicts the Referrers API. 404 does not: some registries give it where nothing
    /// refers to a manifest.
    pub(super) fn is_left_out(&self, subject: &Digest) -> bool {
        self.unshown.lock().unlisted.get(subject).is_some_and(|missing| *missing == NoPage::Api)
    }

    /// The error where a list of referrers depends on that.
    pub(super) fn leaves_out(&self, subject: &Digest) -> Error {
        let why = "the registry has the Referrers API, does not answer it for this manifest, and keeps no fallback tag";
        let error = self.error(Kind::NotFound, "list referrers of", suffix(&Name::Digest(*subject)));
        error.because(why).hint("the registry, or a proxy before it, is at fault: look at its log")
    }
}
