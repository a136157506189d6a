//! Reports: the four steps of a verification, the result of each, and the evidence.
//!
//! A failed verification is a value: it can be printed, kept and compared. Only [`VerifyReport::approve`] turns it into
//! an error.

use std::fmt;

use jiff::Timestamp;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::evidence::Evidence;
use super::seal_time::ChosenProofs;
use crate::oci::{Digest, Reference};
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::short;

/// A step of a verification, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Image and sidecars are signed by a trusted key, recently enough.
    Signatures,
    /// Image and policy match the digests in the lock.
    Digests,
    /// The lock is unchanged since it was sealed.
    Fingerprint,
    /// The policy's version is the one in the lock.
    Semver,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 4] = [Self::Signatures, Self::Digests, Self::Fingerprint, Self::Semver];

    /// Returns the step's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::Digests => "digests",
            Self::Fingerprint => "fingerprint",
            Self::Semver => "semver",
        }
    }
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It holds, with this finding.
    Ok(String),
    /// It failed.
    Failed(Failure),
    /// It did not run, for this reason.
    Skipped(String),
}

/// A step and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// The step.
    pub step: Step,
    /// Its outcome.
    pub outcome: StepOutcome,
}

/// The outcome of verifying one image. Read-only outside this module: no caller can make a report that approves a
/// failed verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    reference: Reference,
    digest: Option<Digest>,
    steps: [StepResult; 4],
    weakened: Vec<String>,
    evidence: Vec<Evidence>,
    signer: Option<ImageSignature>,
    signed: Vec<(Digest, Timestamp)>,
    error: Option<Failure>,
}

/// The signature that proved the image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ImageSignature {
    key: String,
    time: Option<Timestamp>,
    /// Whether a transparency log has recorded it.
    is_logged: bool,
}

impl VerifyReport {
    /// Returns the report of a verification without a verdict: a key was unusable, or the store could not be queried.
    /// `digest` is the image's digest if it was resolved by then.
    #[must_use]
    pub fn unreached(reference: Reference, digest: Option<Digest>, failure: Failure) -> Self {
        Self { digest, error: Some(failure), ..Self::blank(reference) }
    }

    /// Returns a report whose steps have not run yet.
    pub(super) fn begin(reference: Reference, digest: Digest, weakened: Vec<String>) -> Self {
        Self { digest: Some(digest), weakened, ..Self::blank(reference) }
    }

    fn blank(reference: Reference) -> Self {
        let skipped = |step| StepResult { step, outcome: StepOutcome::Skipped("not reached".to_owned()) };
        let (weakened, evidence, signed) = (Vec::new(), Vec::new(), Vec::new());
        let steps = Step::ALL.map(skipped);
        Self { reference, digest: None, steps, weakened, evidence, signer: None, signed, error: None }
    }

    /// Returns the reference of the image, as the caller gave it.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the digest that was verified; none if the reference was not resolved.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the four steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[StepResult; 4] {
        &self.steps
    }

    /// Returns the defaults that were switched off, in words.
    #[must_use]
    pub fn weakened(&self) -> &[String] {
        &self.weakened
    }

    /// Returns the evidence for the image, then the lock, then the policy; each followed by its newest signature if
    /// that is another one.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// Returns the failure outside of the steps: an unusable key, a registry that cannot be queried.
    #[must_use]
    pub fn error(&self) -> Option<&Failure> {
        self.error.as_ref()
    }

    /// Returns the time of the newest signature of the image or the sidecar `digest`, among the signatures that were
    /// read; none if they have no time.
    #[must_use]
    pub fn signed_at(&self, digest: &Digest) -> Option<Timestamp> {
        self.signed.iter().find(|(signs, _)| signs == digest).map(|(_, time)| *time)
    }

    pub(super) fn prove(&mut self, proofs: impl IntoIterator<Item = ChosenProofs>) {
        for ChosenProofs { proof, newest, .. } in proofs {
            // The image comes first.
            self.signer.get_or_insert_with(|| ImageSignature {
                key: proof.key.clone(),
                time: proof.signed_at,
                is_logged: proof.recorded.is_some(),
            });
            let (signs, time) = (proof.signs, newest.as_ref().unwrap_or(&proof).signed_at);
            self.signed.extend(time.map(|time| (signs, time)));
            self.evidence.push(proof.evidence);
            self.evidence.extend(newest.map(|newest| newest.evidence));
        }
    }

    pub(super) fn set(&mut self, step: Step, outcome: StepOutcome) {
        self.steps[step as usize].outcome = outcome;
    }

    /// Records a failure; the steps after it stay skipped, with the reason.
    pub(super) fn fail(&mut self, step: Step, failure: Failure) {
        let why = format!("not reached: {} failed", step.as_str());
        for later in &mut self.steps[step as usize + 1..] {
            later.outcome = StepOutcome::Skipped(why.clone());
        }
        self.set(step, StepOutcome::Failed(failure));
    }

    /// Whether a site may use the image: nothing failed, and its signature was checked.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.failure().is_none() && self.digest.is_some() && matches!(self.steps[0].outcome, StepOutcome::Ok(_))
    }

    /// Returns a successful report in a few words: the key, the time, and the further content that was verified, such as
    /// `key 0123456789ab at 2026-05-25T00:00:00Z; lock, policy`.
    #[must_use]
    pub fn brief(&self) -> String {
        let Some(ImageSignature { key, time, is_logged }) = &self.signer else { return "no signature".to_owned() };
        let time = time.map(|time| format!(" at {time}")).unwrap_or_default();
        let is_ok = |step: Step| matches!(self.steps[step as usize].outcome, StepOutcome::Ok(_));
        let also = [(is_ok(Step::Digests), "lock"), (is_ok(Step::Semver), "policy"), (*is_logged, "log entry")];
        let also: Vec<_> = also.into_iter().filter_map(|(holds, name)| holds.then_some(name)).collect();
        let also = if also.is_empty() { String::new() } else { format!("; {}", also.join(", ")) };
        format!("key {}{time}{also}", short(key))
    }

    /// Returns the step that failed and the reason; without a step if none could run.
    #[must_use]
    pub fn failure(&self) -> Option<(Option<Step>, &Failure)> {
        let early = self.error.as_ref().map(|failure| (None, failure));
        early.or_else(|| {
            self.steps.iter().find_map(|result| match &result.outcome {
                StepOutcome::Failed(failure) => Some((Some(result.step), failure)),
                StepOutcome::Ok(_) | StepOutcome::Skipped(_) => None,
            })
        })
    }
}

/// Prints one aligned line for each step, the error before them, and a line for each weakness after them.
impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        if let Some(failure) = &self.error {
            lines.push(line("error", "failed", &failure.to_string()));
        }
        for StepResult { step, outcome } in &self.steps {
            let (status, detail) = outcome.parts();
            let detail = match outcome.class() {
                Some(class) => format!("{class}: {detail}"),
                None => detail.to_owned(),
            };
            lines.push(line(step.as_str(), status, &detail));
        }
        lines.extend(self.weakened.iter().map(|weakness| line("weakened", "", weakness)));
        f.write_str(&lines.join("\n"))
    }
}

fn line(what: &str, status: &str, detail: &str) -> String {
    format!("{what:<12} {status:<8} {detail}")
}

impl StepOutcome {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Ok(detail) => ("ok", detail),
            Self::Failed(failure) => ("failed", &failure.detail),
            Self::Skipped(why) => ("skipped", why),
        }
    }

    fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Failed(failure) => Some(failure.class),
            Self::Ok(_) | Self::Skipped(_) => None,
        }
    }
}

impl Serialize for StepResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, detail) = self.outcome.parts();
        let mut out = serializer.serialize_struct("StepResult", 4)?;
        out.serialize_field("step", &self.step)?;
        out.serialize_field("status", status)?;
        match self.outcome.class() {
            Some(class) => out.serialize_field("class", &class)?,
            None => out.skip_field("class")?,
        }
        out.serialize_field("detail", detail)?;
        out.end()
    }
}

/// The JSON of contract §8.
impl Serialize for VerifyReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Report", 6)?;
        out.serialize_field("reference", &self.reference)?;
        out.serialize_field("digest", &self.digest)?;
        out.serialize_field("verified", &self.is_verified())?;
        out.serialize_field("steps", &self.steps)?;
        out.serialize_field("weakened", &self.weakened)?;
        match &self.error {
            Some(failure) => out.serialize_field("error", failure)?,
            None => out.skip_field("error")?,
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_which_nothing_was_checked_approves_nothing() {
        let reference: Reference = "site.example/app:v1".parse().unwrap();
        let mut report = VerifyReport::begin(reference, Digest::sha256(b"image"), Vec::new());
        assert!(report.failure().is_none() && !report.is_verified());
        assert!(report.clone().approve().unwrap_err().chain().contains("no signature was checked"));
        report.set(Step::Signatures, StepOutcome::Ok("signed".into()));
        assert!(report.clone().approve().is_ok(), "steps that were not asked for do not stand in the way");
        report.set(Step::Semver, StepOutcome::Failed(Failure::new(ErrorClass::SemverMismatch, "x")));
        assert!(report.approve().is_err());
    }
}
