//! Approval: the right to copy an image, and to let a tag name it.
//!
//! It comes from one of three sources only: a report in which every demanded step holds, a digest that the operator gave
//! and the content has, or a reason for skipping verification. A caller that makes something smaller from approved content derives the approval for that.

use super::evidence::Evidence;
use super::report::{Step, VerifyReport};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::trust::failure::Failure;

/// The right to copy an image: it was verified, the operator gave its digest, or a reason for skipping both.
#[derive(Debug, Clone)]
pub struct Approved {
    basis: Basis,
}

#[derive(Debug, Clone)]
enum Basis {
    Verified { digest: Digest, report: Box<VerifyReport> },
    Pinned { digest: Digest },
    Unchecked { reason: String },
}

impl Approved {
    /// Makes an approval from a report; only [`VerifyReport::approve`] calls this, after every demanded step holds.
    fn verified(digest: Digest, report: VerifyReport) -> Self {
        Self { basis: Basis::Verified { digest, report: Box::new(report) } }
    }

    /// Approves content by the digest that the operator gave, whoever published it; `None` if `found` is other content.
    #[must_use]
    pub fn pinned(given: Digest, found: &Digest) -> Option<Self> {
        (given == *found).then_some(Self { basis: Basis::Pinned { digest: given } })
    }

    /// Skips verification; the caller prints and records `reason`.
    #[must_use]
    pub fn unchecked(reason: impl Into<String>) -> Self {
        Self { basis: Basis::Unchecked { reason: reason.into() } }
    }

    /// Returns the same approval for `made`, which the caller has made from `whole` and from nothing else. Content that
    /// is then tagged must be verified by itself: no signature behind this approval covers `made`.
    #[must_use]
    pub fn derived(&self, whole: &Digest, made: Digest) -> Option<Self> {
        match &self.basis {
            Basis::Verified { digest, .. } | Basis::Pinned { digest } if digest != whole => None,
            Basis::Pinned { .. } => Some(Self { basis: Basis::Pinned { digest: made } }),
            Basis::Verified { report, .. } => {
                Some(Self { basis: Basis::Verified { digest: made, report: report.clone() } })
            }
            Basis::Unchecked { .. } => Some(self.clone()),
        }
    }

    /// Returns the only content that was verified or pinned; none without verification.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match &self.basis {
            Basis::Verified { digest, .. } | Basis::Pinned { digest } => Some(*digest),
            Basis::Unchecked { .. } => None,
        }
    }

    /// Whether this allows copying `digest`: it was verified or pinned, or verification was skipped.
    #[must_use]
    pub fn covers(&self, digest: &Digest) -> bool {
        self.digest().is_none_or(|verified| verified == *digest)
    }

    /// Returns the report behind the approval.
    #[must_use]
    pub fn report(&self) -> Option<&VerifyReport> {
        match &self.basis {
            Basis::Verified { report, .. } => Some(report),
            Basis::Pinned { .. } | Basis::Unchecked { .. } => None,
        }
    }

    /// Returns the signature objects that proved it, which must be copied too.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        self.report().map_or(&[], VerifyReport::evidence)
    }

    /// Returns the reason for skipping verification.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.basis {
            Basis::Verified { .. } | Basis::Pinned { .. } => None,
            Basis::Unchecked { reason } => Some(reason),
        }
    }

    /// Whether a signature was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self.basis, Basis::Verified { .. })
    }
}

impl VerifyReport {
    /// Turns a successful verification into the right to copy, and a failed one into an error.
    ///
    /// # Errors
    ///
    /// [`Untrusted`](Kind::Untrusted), with the step, the class and the compared values; the hint advises the operator.
    pub fn approve(self) -> Result<Approved> {
        if let Some(digest) = self.digest().filter(|_| self.is_verified()) {
            return Ok(Approved::verified(digest, self));
        }
        let error = Error::new(Kind::Untrusted, "verify").on(self.reference());
        Err(match self.failure() {
            Some((Some(step), failure)) => {
                let hint = failure.class.hint();
                error.because(StepFailure { step, failure: failure.clone() }).hint(hint)
            }
            Some((None, failure)) => error.because(failure.clone()).hint(failure.class.hint()),
            None => error.because("no signature was checked"),
        })
    }
}

/// A failure with its step, as a cause in an error's chain.
#[derive(Debug, thiserror::Error)]
#[error("{}", step.as_str())]
struct StepFailure {
    step: Step,
    #[source]
    failure: Failure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_approval_is_for_its_digest_alone_and_is_no_verification() {
        let (given, other) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert!(Approved::pinned(given, &other).is_none(), "other content is not approved");
        let approved = Approved::pinned(given, &given).unwrap();
        assert!(approved.covers(&given) && !approved.covers(&other));
        assert!(!approved.is_verified() && approved.report().is_none() && approved.evidence().is_empty());
        assert!(approved.derived(&other, given).is_none());
        assert!(approved.derived(&given, other).is_some_and(|made| made.covers(&other) && !made.covers(&given)));
    }
}
