//! The pipeline: four steps, in order; the first failure ends it.

use bytes::Bytes;
use futures_util::future::{try_join, try_join3};
use jiff::Timestamp;

use super::evidence::SignatureProof;
use super::report::{Step, StepOutcome, VerifyReport};
use super::requirements::{Demands, Freshness, SidecarDemand, TrustTime};
use super::seal_time::{self, ChosenProofs, Part};
use super::search::{Found, Reach, Search};
use super::subject::{Candidate, Sidecar, layer};
use crate::document::lock::{self, FingerprintError, Lock};
use crate::document::policy_bundle::{self, Policy, parse_version};
use crate::document::sidecar::SidecarKind;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Reference, Repository};
use crate::store::{self, Root};
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::short;

/// Verifies images against demands.
#[derive(Debug, Clone)]
pub struct Pipeline {
    demands: Demands,
}

/// A sidecar's bytes, and the digest of the manifest around them.
struct SidecarContent {
    manifest: Digest,
    bytes: Bytes,
}

/// The time of signing, as far as the signatures were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAt {
    /// The time of the newest signature; none if no signature meets the demands, or none has a time.
    pub time: Option<Timestamp>,
    /// The reason why there may be newer ones: more is attached than is read.
    pub unread: Option<Failure>,
}

/// Why the steps end early: one of them failed, or the store could not be queried.
enum Stop {
    Failed(Step, Failure),
    Broken(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Pipeline {
    /// Returns a pipeline with these demands.
    #[must_use]
    pub fn new(demands: Demands) -> Self {
        Self { demands }
    }

    /// Returns the demands.
    #[must_use]
    pub fn demands(&self) -> &Demands {
        &self.demands
    }

    /// Verifies `subject` with the content of `store`. Resolves no tag of the image.
    ///
    /// A failed verification is a report. An image with a legacy signature costs two requests, one with a bundle four.
    ///
    /// # Errors
    ///
    /// Fails as the store does: never a report that says "not signed".
    pub async fn run(&self, store: &dyn store::ListingStore, subject: &Candidate) -> Result<VerifyReport> {
        let mut report = VerifyReport::begin(subject.reference.clone(), subject.root.digest, self.demands.weakened());
        match self.steps(store, subject, &mut report).await {
            Ok(()) => {}
            Err(Stop::Failed(step, failure)) => report.fail(step, failure),
            Err(Stop::Broken(error)) => return Err(error),
        }
        Ok(report)
    }

    async fn steps(
        &self,
        store: &dyn store::ListingStore,
        subject: &Candidate,
        report: &mut VerifyReport,
    ) -> Result<(), Stop> {
        let failed = |step| move |failure| Stop::Failed(step, failure);
        let proofs = self.proofs(store, subject).await?.map_err(failed(Step::Signatures))?;
        report.set(Step::Signatures, StepOutcome::Ok(self.told(subject, &proofs)));
        report.prove(proofs);

        if self.demands.sidecar(SidecarKind::Lock) == SidecarDemand::NotAsked {
            for step in [Step::Digests, Step::Fingerprint, Step::Semver] {
                report.set(step, StepOutcome::Skipped("no lock was asked for".to_owned()));
            }
            return Ok(());
        }
        let (lock, policy) = try_join(
            self.content(store, &subject.lock, SidecarKind::Lock),
            self.content(store, &subject.policy, SidecarKind::Policy),
        )
        .await?;
        let digests = failed(Step::Digests);
        let (lock, policy) = (lock.map_err(digests)?, policy.map_err(digests)?);
        let (lock, detail) = check_digests(subject, lock.as_ref(), policy.as_ref()).map_err(digests)?;
        self.check_name(subject, &lock).map_err(digests)?;
        report.set(Step::Digests, StepOutcome::Ok(detail));

        let detail = check_fingerprint(&lock).map_err(failed(Step::Fingerprint))?;
        report.set(Step::Fingerprint, StepOutcome::Ok(detail));

        let outcome = match policy {
            Some(policy) => StepOutcome::Ok(check_semver(&lock, &policy.bytes).map_err(failed(Step::Semver))?),
            None => StepOutcome::Skipped("no policy was asked for".to_owned()),
        };
        report.set(Step::Semver, outcome);
        Ok(())
    }

    /// Returns the time of the newest signature of `digest` in `repository` that meets the demands, anywhere in
    /// `store`.
    ///
    /// # Errors
    ///
    /// Fails as the store does.
    pub async fn signed_at(
        &self,
        store: &dyn store::ListingStore,
        repository: &Repository,
        digest: Digest,
    ) -> Result<SignedAt> {
        let (demands, freshness, reach) = (&self.demands, Freshness::IfSaid, Reach::Everywhere);
        let search = Search { store, demands, repository, digest, freshness, reach, referrers: None };
        let Found { proofs, unread } = search.run().await?;
        let times = proofs.iter().flatten().filter_map(|proof| proof.signed_at);
        Ok(SignedAt { time: times.max(), unread })
    }

    /// Returns the proofs for the image and each demanded sidecar, which must belong to one seal.
    async fn proofs(
        &self,
        store: &dyn store::ListingStore,
        subject: &Candidate,
    ) -> Result<Result<Vec<ChosenProofs>, Failure>> {
        let is_set = self.demands.sidecar(SidecarKind::Lock) == SidecarDemand::Required;
        if !is_set || self.demands.trust_time == TrustTime::Off {
            return Ok(self.signatures(store, subject, Reach::First).await?.map(seal_time::newest));
        }
        match self.signatures(store, subject, Reach::OnePlace).await?.map(seal_time::of_one_seal) {
            Ok(Ok(chosen)) => return Ok(Ok(chosen)),
            Err(failure) => return Ok(Err(failure)),
            // The seal may be signed in the other format, beside the signatures found so far.
            Ok(Err(_)) => {}
        }
        let parts = self.signatures(store, subject, Reach::Everywhere).await?;
        Ok(parts.and_then(|parts| seal_time::of_one_seal(parts).map_err(|parts| seal_time::mismatch(&parts))))
    }

    /// If a name is demanded, the lock must belong to the image of this name.
    fn check_name(&self, subject: &Candidate, lock: &Lock) -> Result<(), Failure> {
        let Some(demanded) = self.demands.name(&subject.reference.repository) else { return Ok(()) };
        let said = &lock.agent_artifact().reference;
        match said.parse::<Reference>() {
            Ok(reference) if reference.repository.is_same(demanded) => Ok(()),
            _ => {
                let why = format!("the lock is for {said:?}, verified as {demanded}");
                Err(Failure::new(ErrorClass::SigIdentityMismatch, why))
            }
        }
    }

    /// Returns the signatures of the image and of each demanded sidecar. Searches for all concurrently; the failure is
    /// the first in this order.
    async fn signatures(
        &self,
        store: &dyn store::ListingStore,
        subject: &Candidate,
        reach: Reach,
    ) -> Result<Result<Vec<Part>, Failure>> {
        let image = self.search(store, subject, subject.root.digest, Freshness::Demanded, reach);
        let lock = self.sidecar(store, subject, &subject.lock, SidecarKind::Lock, reach);
        let policy = self.sidecar(store, subject, &subject.policy, SidecarKind::Policy, reach);
        let (image, lock, policy) = try_join3(image, lock, policy).await?;
        let named = [("image", Some(image)), ("lock", lock), ("policy", policy)];
        Ok(named.into_iter().filter_map(|(name, found)| found.map(|found| Ok(Part::new(name, found?)))).collect())
    }

    async fn sidecar(
        &self,
        store: &dyn store::ListingStore,
        subject: &Candidate,
        sidecar: &Sidecar,
        kind: SidecarKind,
        reach: Reach,
    ) -> Result<Option<Result<Vec<SignatureProof>, Failure>>> {
        if self.demands.sidecar(kind) == SidecarDemand::NotAsked {
            return Ok(None);
        }
        let node = match sidecar.found(kind) {
            Ok(node) => node,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        let found = self.search(store, subject, node.digest, Freshness::IfSaid, reach).await?;
        let name = |failure: Failure| Failure { detail: format!("{}: {}", kind.as_str(), failure.detail), ..failure };
        Ok(Some(found.map_err(name)))
    }

    async fn search(
        &self,
        store: &dyn store::ListingStore,
        subject: &Candidate,
        digest: Digest,
        freshness: Freshness,
        reach: Reach,
    ) -> Result<Result<Vec<SignatureProof>, Failure>> {
        let repository = &subject.reference.repository;
        let referrers = subject.referrers.as_deref().filter(|_| digest == subject.root.digest);
        let search = Search { store, demands: &self.demands, repository, digest, freshness, reach, referrers };
        Ok(search.run().await?.proofs)
    }

    /// Returns the text of a successful first step: the key, the time and the form of each signature.
    fn told(&self, subject: &Candidate, proofs: &[ChosenProofs]) -> String {
        let tell = |ChosenProofs { name, proof, .. }: &ChosenProofs| {
            let time = proof.signed_at.map(|time| format!(" at {time}")).unwrap_or_default();
            let (key, form) = (short(&proof.key), proof.form);
            let log = match &proof.recorded {
                Some(recorded) => recorded.to_string(),
                None if self.demands.log_keys.is_empty() => "key only, no transparency log".to_owned(),
                None => "key only, no log entry".to_owned(),
            };
            match *name {
                "image" => {
                    let digest = subject.root.digest;
                    let (algorithm, hash) = (digest.algorithm().as_str(), digest.short());
                    format!("key {key} signed {algorithm}:{hash}{time} ({form}, {log})")
                }
                sidecar if self.demands.log_keys.is_empty() => format!("key {key} signed the {sidecar}{time} ({form})"),
                sidecar => format!("key {key} signed the {sidecar}{time} ({form}, {log})"),
            }
        };
        proofs.iter().map(tell).collect::<Vec<_>>().join("; ")
    }

    /// Returns the bytes of a demanded sidecar. Call it only after its signature is verified.
    async fn content(
        &self,
        store: &dyn store::ListingStore,
        sidecar: &Sidecar,
        kind: SidecarKind,
    ) -> Result<Result<Option<SidecarContent>, Failure>> {
        if self.demands.sidecar(kind) == SidecarDemand::NotAsked {
            return Ok(Ok(None));
        }
        let read;
        let root = match sidecar {
            Sidecar::Found(root) => root.as_ref(),
            Sidecar::Known(node) => match store::find_manifest(store, &Name::Digest(node.digest)).await? {
                Some(Root { bytes, .. }) => {
                    read = Root { node: Descriptor::clone(node), bytes };
                    &read
                }
                None => return Ok(Err(missing(kind, node))),
            },
            Sidecar::Absent | Sidecar::Ambiguous(_) => return Ok(Ok(None)),
        };
        Ok(fetch(store, root, kind).await?.map(Some))
    }
}

async fn fetch(
    store: &dyn store::ListingStore,
    root: &Root,
    kind: SidecarKind,
) -> Result<Result<SidecarContent, Failure>> {
    let node = match layer(root, kind) {
        Ok(node) => node,
        Err(failure) => return Ok(Err(failure)),
    };
    let (limit, class) = match kind {
        SidecarKind::Lock => (lock::MAX_BYTES, ErrorClass::LockParse),
        SidecarKind::Policy => (policy_bundle::MAX_BYTES, ErrorClass::PolicyDigest),
    };
    match store::read_small(store, &node, limit).await {
        Ok(bytes) => Ok(Ok(SidecarContent { manifest: root.node.digest, bytes })),
        Err(error) => match error.kind() {
            Kind::NotFound => Ok(Err(missing(kind, &node))),
            Kind::Corrupt => Ok(Err(Failure::new(ErrorClass::BlobDigest, error.chain()))),
            Kind::Limit => Ok(Err(Failure::new(class, error.chain()))),
            _ => Err(error),
        },
    }
}

fn missing(kind: SidecarKind, node: &Descriptor) -> Failure {
    Failure::new(ErrorClass::SidecarMissing, format!("the {}'s {} is not held", kind.as_str(), node.digest))
}

fn check_digests(
    subject: &Candidate,
    lock: Option<&SidecarContent>,
    policy: Option<&SidecarContent>,
) -> Result<(Lock, String), Failure> {
    let lock = lock.ok_or_else(|| Failure::new(ErrorClass::SidecarMissing, "a lock is demanded"))?;
    let lock = Lock::parse(&lock.bytes).map_err(|why| Failure::new(ErrorClass::LockParse, why.to_string()))?;
    let (named, live) = (lock.agent_artifact().digest, subject.root.digest);
    if named != live {
        let why = format!("the lock is for {named}, verified is {live}");
        return Err(Failure::new(ErrorClass::LockAgentDigest, why));
    }
    let Some(policy) = policy else {
        return Ok((lock, format!("{live} is what the lock names; no policy was asked for")));
    };
    let (named, found) = (lock.policy_bundle().digest, Digest::sha256(&policy.bytes));
    if named == policy.manifest && named != found {
        let why =
            format!("the lock names {named}, which is the policy's OCI manifest; it must name the .tar.gz, {found}");
        return Err(Failure::new(ErrorClass::PolicyDigest, why));
    }
    if named != found {
        let why = format!("the lock is for policy {named}, beside the image is {found}");
        return Err(Failure::new(ErrorClass::PolicyDigest, why));
    }
    Ok((lock, format!("image {live} and policy {found} are what the lock names")))
}

fn check_fingerprint(lock: &Lock) -> Result<String, Failure> {
    match lock.check_fingerprint() {
        Ok(_) => Ok(format!("{} is that of the lock's content", lock.fingerprint())),
        Err(why @ FingerprintError::Algorithm(_)) => Err(Failure::new(ErrorClass::FingerprintAlgo, why.to_string())),
        Err(why @ FingerprintError::Mismatch { .. }) => {
            Err(Failure::new(ErrorClass::FingerprintMismatch, why.to_string()))
        }
    }
}

/// Checks that major and minor of the tag in the lock's `policy_bundle.ref` and of the bundle's own version are the
/// same.
fn check_semver(lock: &Lock, policy: &[u8]) -> Result<String, Failure> {
    let unreadable = |why: String| Failure::new(ErrorClass::SemverParse, why);
    let reference = &lock.policy_bundle().reference;
    let named = version_tag(reference);
    let named = named.ok_or_else(|| unreadable(format!("policy_bundle.ref {reference:?} has no version tag")))?;
    let wanted = parse_version(named)
        .map_err(|why| unreadable(format!("the tag of policy_bundle.ref {reference:?} is no version: {why}")))?;
    let found = Policy::read(policy).map_err(|why| unreadable(why.to_string()))?.version;
    if (wanted.major, wanted.minor) != (found.major, found.minor) {
        let why =
            format!("the lock names policy {wanted}, the bundle says that it is {found}; major and minor must agree");
        return Err(Failure::new(ErrorClass::SemverMismatch, why));
    }
    Ok(format!("policy {found} fits {wanted}, which the lock names"))
}

/// Returns the tag of a reference. The host may be missing: people write a lock's references, and older ones are short.
fn version_tag(reference: &str) -> Option<&str> {
    let name = reference.split('@').next()?;
    let last = name.rsplit('/').next()?;
    last.split_once(':').map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_tag_and_not_the_port() {
        for (reference, tag) in [
            ("127.0.0.1:5599/robot-behavior-policy:1.2.0", Some("1.2.0")),
            ("robot-behavior-policy:v1.2.0@sha256:00", Some("v1.2.0")),
            ("127.0.0.1:5599/robot-behavior-policy", None),
            ("", None),
        ] {
            assert_eq!(version_tag(reference), tag, "{reference}");
        }
    }
}
