//! Approval: the right to copy an image, and to let a tag name it.
//!
//! It can be made in two ways only: from a report in which every demanded step holds, or with a reason for going without.
//! Whoever makes something smaller of what was approved carries the approval over to that.

use super::evidence::Evidence;
use super::report::{Step, VerifyReport};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::trust::failure::Failure;

/// The right to copy an image: it was verified, or somebody said why not.
#[derive(Debug, Clone)]
pub struct Approved {
    basis: Basis,
}

#[derive(Debug, Clone)]
enum Basis {
    Verified { digest: Digest, report: Box<VerifyReport> },
    Unchecked { reason: String },
}

impl Approved {
    /// Only [`VerifyReport::approve`] calls this, once every demanded step holds.
    fn verified(digest: Digest, report: VerifyReport) -> Self {
        Self { basis: Basis::Verified { digest, report: Box::new(report) } }
    }

    /// Goes without verification; `reason` is printed and recorded by whoever does.
    #[must_use]
    pub fn unchecked(reason: impl Into<String>) -> Self {
        Self { basis: Basis::Unchecked { reason: reason.into() } }
    }

    /// The same approval for `made`, which the caller has made of `whole` and of nothing else. What is then shown under a
    /// tag has to be verified by itself: no signature that stands behind this approval is one over `made`.
    #[must_use]
    pub fn derived(&self, whole: &Digest, made: Digest) -> Option<Self> {
        match &self.basis {
            Basis::Verified { digest, .. } if digest != whole => None,
            Basis::Verified { report, .. } => {
                Some(Self { basis: Basis::Verified { digest: made, report: report.clone() } })
            }
            Basis::Unchecked { .. } => Some(self.clone()),
        }
    }

    /// The content that was verified, and nothing else; none without verification.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match &self.basis {
            Basis::Verified { digest, .. } => Some(*digest),
            Basis::Unchecked { .. } => None,
        }
    }

    /// Whether this allows to copy `digest`: it is what was verified, or nothing was.
    #[must_use]
    pub fn covers(&self, digest: &Digest) -> bool {
        self.digest().is_none_or(|verified| verified == *digest)
    }

    /// The report that it rests on.
    #[must_use]
    pub fn report(&self) -> Option<&VerifyReport> {
        match &self.basis {
            Basis::Verified { report, .. } => Some(report),
            Basis::Unchecked { .. } => None,
        }
    }

    /// The signature objects that proved it, which have to travel along.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        self.report().map_or(&[], VerifyReport::evidence)
    }

    /// Why there was no verification.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.basis {
            Basis::Verified { .. } => None,
            Basis::Unchecked { reason } => Some(reason),
        }
    }

    /// Whether it was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self.basis, Basis::Verified { .. })
    }
}

impl VerifyReport {
    /// Turns a verification that holds into the right to copy, and one that does not into an error.
    ///
    /// # Errors
    ///
    /// [`Untrusted`](Kind::Untrusted), with the step, the class and what was checked against what; the hint says what
    /// an operator can do.
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

/// A failure together with its step, as a cause in an error's chain.
#[derive(Debug, thiserror::Error)]
#[error("{}", step.as_str())]
struct StepFailure {
    step: Step,
    #[source]
    failure: Failure,
}
