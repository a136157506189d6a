//! Replay protection: detects an old release that is offered again, with a signature that was valid in its time.
//!
//! Compares each tag that is to move with what it names now: a root that was signed earlier does not replace it. Costs
//! nothing if no tag moves.

use super::endpoints::Endpoints;
use super::explain;
use super::request::Tagging;
use super::request::{IndexHandling, Seed, Trust};
use super::resolve::Resolved;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest};
use crate::verify::{
    Approved, Demands, ErrorClass, Failure, IdentityRule, Pipeline, RollbackRule, SignedAt, Tlog, TrustTime,
    VerifyReport, signature_tag,
};

/// Checks that neither the image nor a sidecar was signed before what its tag names at the destination. Returns the
/// comparisons that could not be made, as text for the record.
///
/// # Errors
///
/// [`Untrusted`](Kind::Untrusted) with `TIME_ROLLBACK`, or with `SIG_LIMIT` if more is attached to what the tag names
/// than is read. Also fails if the destination cannot be asked.
pub(crate) async fn refused(
    seed: &Seed,
    ends: &Endpoints,
    found: &Resolved,
    approved: &Approved,
) -> Result<Vec<String>> {
    let (Trust::Verify { demands, .. }, IndexHandling::Keep, Some(report)) =
        (&seed.trust, &seed.scope.index, approved.report())
    else {
        return Ok(Vec::new());
    };
    if demands.rollback == RollbackRule::Allow {
        return Ok(Vec::new());
    }
    let moved = found.roots().filter_map(|(root, former)| {
        let former = former.as_ref().filter(|former| former.digest != root.node.digest)?;
        Some((&root.node, former))
    });
    let replay = Replay { seed, ends, demands, report };
    let mut weakened = Vec::new();
    for (node, former) in moved {
        weakened.extend(replay.compare(node, former).await?);
    }
    Ok(weakened)
}

struct Replay<'a> {
    seed: &'a Seed,
    ends: &'a Endpoints,
    demands: &'a Demands,
    report: &'a VerifyReport,
}

impl Replay<'_> {
    async fn compare(&self, node: &Descriptor, former: &Descriptor) -> Result<Option<String>> {
        let offered = self.report.signed_at(&node.digest);
        if offered.is_none() && self.demands.trust_time == TrustTime::Off {
            return Ok(None);
        }
        let is_refused = || signature_tag(&former.digest).is_some_and(|tag| self.ends.sink.refuses(&tag));
        let unreadable = || Ok(Some(format!("signed time of {} not readable", former.digest)));
        let in_place = match self.in_place(&former.digest).await {
            // The registry may hide a signature.
            Ok(SignedAt { time: None, unread: None }) if is_refused() => return unreadable(),
            Ok(in_place) => in_place,
            // The registry refuses to show what refers to it.
            Err(error) if error.kind() == Kind::Denied && self.seed.tagging == Tagging::Plain => return unreadable(),
            Err(error) => {
                return Err(error
                    .at(Side::Destination)
                    .during("read when what the tag names was signed", &self.seed.to));
            }
        };
        // A lock or policy may be signed without a time. It does not replace one that has a time.
        let is_newer = |in_place: &jiff::Timestamp| offered.is_none_or(|offered| offered < *in_place);
        let SignedAt { time, unread } = in_place;
        let Some(in_place) = time.filter(is_newer) else {
            return unread.map_or(Ok(None), |unread| Err(self.untold(former, &unread)));
        };
        // The signature that was found first may not be the newest.
        let (source, repository) = (self.ends.source.as_ref(), &self.seed.from.repository);
        let newest = Pipeline::new(self.demands.clone()).signed_at(source, repository, node.digest).await;
        let newest = newest.map_err(|error| explain::failed(error, Side::Source, &self.seed.from))?;
        let offered = newest.time.max(offered);
        if offered.is_some_and(|offered| offered >= in_place) {
            return unread.map_or(Ok(None), |unread| Err(self.untold(former, &unread)));
        }
        let signed = offered.map_or_else(|| "without a time".to_owned(), |offered| format!("at {offered}"));
        let why = format!(
            "{} was signed {signed}, and {}, which it would replace, at {in_place}",
            node.digest, former.digest
        );
        let failure = Failure::new(ErrorClass::TimeRollback, why);
        let error = Error::new(Kind::Untrusted, "verify").on(&self.seed.from).because(failure);
        Err(explain::failed(error.hint(ErrorClass::TimeRollback.hint()), Side::Source, &self.seed.from))
    }

    /// Returns the error for a former root with more attached to it than is read: it may have been signed at any time.
    /// Taking that as "no time" would let anyone who adds signatures bypass the comparison; reading on has no bound that
    /// they could not pass.
    fn untold(&self, former: &Descriptor, unread: &Failure) -> Error {
        let why =
            format!("when {}, which it would replace, was signed cannot be told: {}", former.digest, unread.detail);
        let error = Error::new(Kind::Untrusted, "verify").on(&self.seed.to).because(Failure::new(unread.class, why));
        let hint =
            "remove from it what is no signature of the publisher's, or replace it all the same with --allow-rollback";
        explain::failed(error.hint(hint), Side::Destination, &self.seed.to)
    }

    /// Returns when the root in place was signed, by one of the trusted keys. Its age, its name and its log no longer
    /// matter.
    async fn in_place(&self, digest: &Digest) -> Result<SignedAt> {
        let demands = Demands {
            max_age: std::time::Duration::MAX,
            trust_time: TrustTime::On,
            identity: IdentityRule::Any,
            log_keys: Vec::new(),
            tlog: Tlog::NotAsked,
            ..self.demands.clone()
        };
        Pipeline::new(demands).signed_at(self.ends.sink.as_ref(), &self.seed.to.repository, *digest).await
    }
}
