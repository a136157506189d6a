//! Demands: the requirements that one signature must meet, all of them by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::clock::Clock;
use crate::document::sidecar::SidecarKind;
use crate::oci::{Reference, Repository};
use crate::trust::claim::{Claim, SIGNED_AT, seconds};
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::PublicKey;
use crate::trust::tlog::Tlog;

/// The requirements of an operator for a verified image.
#[derive(Debug, Clone)]
pub struct Demands {
    /// The trusted keys; a signature by any one of them is enough. With none, nothing verifies.
    pub keys: Vec<PublicKey>,
    /// Greatest age of a signature. Default 8,760 h, a year (contract §8).
    pub max_age: Duration,
    /// How far in the future the time of a signature may be, because clocks differ. Default 5 min (contract §8).
    pub clock_skew: Duration,
    /// Whether the time of signing is checked. Default on; `AUTONOMY_TRUST_TIME=false` switches it off.
    pub trust_time: TrustTime,
    /// Whether the signature must name the repository. Default any.
    pub identity: IdentityRule,
    /// Whether to refuse an image that was signed before the one it would replace. Default refuse. For callers that
    /// replace something: a verification alone replaces nothing.
    pub rollback: RollbackRule,
    /// Whether the lock must be present, signed and correct. Default not asked.
    pub lock: SidecarDemand,
    /// Whether the policy must be present, signed and the lock's. Default not asked. The lock is then demanded too:
    /// without it nothing proves that the policy belongs to the image.
    pub policy: SidecarDemand,
    /// The keys of trusted transparency logs. Default none: log entries are ignored. With a key, an existing entry is
    /// checked, offline, and refused with its signature if it is not valid.
    pub log_keys: Vec<PublicKey>,
    /// Whether a transparency log must vouch for the signature. Default not: many signatures are made without one.
    pub tlog: Tlog,
    /// The source of the present time. Default this machine's clock.
    pub clock: Clock,
}

/// Whether the time of signing is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustTime {
    /// The image signature's signed data must contain it, and it must be recent. If a sidecar's signature has one, that
    /// too.
    On,
    /// It is ignored, and reports say that verification is weakened.
    Off,
}

/// The name that the signed data must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityRule {
    /// Any name: a mirrored image keeps the name of its origin.
    Any,
    /// The name of the repository verified. The bundle format has no name, so only legacy signatures can meet this.
    MatchRepository,
    /// This name, wherever the image is now.
    Named(Repository),
}

/// Whether an image may replace one that was signed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackRule {
    /// No: an old release that is offered again under a moving tag is an attack.
    Refuse,
    /// Yes: the operator wants to go back, and records say so.
    Allow,
}

/// Whether a sidecar is part of the verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarDemand {
    /// It is ignored.
    NotAsked,
    /// It must be present, signed, and fit the image.
    Required,
}

/// Whether a claim must contain a time of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It must, and a recent one: the image (contract §8).
    Demanded,
    /// If it does, it must be recent: the sidecars.
    IfSaid,
}

impl Demands {
    /// Returns the defaults, with these keys.
    #[must_use]
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self {
            keys,
            max_age: Duration::from_secs(8760 * 3600),
            clock_skew: Duration::from_secs(5 * 60),
            trust_time: TrustTime::On,
            identity: IdentityRule::Any,
            rollback: RollbackRule::Refuse,
            lock: SidecarDemand::NotAsked,
            policy: SidecarDemand::NotAsked,
            log_keys: Vec::new(),
            tlog: Tlog::NotAsked,
            clock: Clock::System,
        }
    }

    /// Returns the defaults that these demands switch off, for reports.
    #[must_use]
    pub fn weakened(&self) -> Vec<String> {
        let off = "trust-time off: the age of signatures is not checked (AUTONOMY_TRUST_TIME=false)";
        if self.trust_time == TrustTime::Off { vec![off.to_owned()] } else { Vec::new() }
    }

    /// Whether the sidecar of `kind` is demanded.
    #[must_use]
    pub fn sidecar(&self, kind: SidecarKind) -> SidecarDemand {
        match kind {
            SidecarKind::Lock if self.policy == SidecarDemand::Required => SidecarDemand::Required,
            SidecarKind::Lock => self.lock,
            SidecarKind::Policy => self.policy,
        }
    }

    /// Returns the name that the signed data of content in `repository` must contain; none if any name is enough.
    pub(super) fn name<'a>(&'a self, repository: &'a Repository) -> Option<&'a Repository> {
        match &self.identity {
            IdentityRule::Any => None,
            IdentityRule::MatchRepository => Some(repository),
            IdentityRule::Named(name) => Some(name),
        }
    }

    /// Checks name and time of the signed data, after key, type and digest are verified. Returns the time of signing.
    pub(super) fn check(
        &self,
        claim: &Claim,
        repository: &Repository,
        freshness: Freshness,
    ) -> Result<Option<Timestamp>, Failure> {
        if let Some(demanded) = self.name(repository) {
            check_identity(claim.identity.as_deref(), demanded)?;
        }
        match self.trust_time {
            TrustTime::On => self.check_time(claim.signed_at.as_ref(), freshness),
            TrustTime::Off => Ok(claim.signed_at.as_ref().and_then(Value::as_str).and_then(parse_time)),
        }
    }

    fn check_time(&self, said: Option<&Value>, freshness: Freshness) -> Result<Option<Timestamp>, Failure> {
        let Some(said) = said else {
            return match freshness {
                Freshness::IfSaid => Ok(None),
                Freshness::Demanded => {
                    Err(Failure::new(ErrorClass::TimeMissing, format!("the signed data holds no {SIGNED_AT}")))
                }
            };
        };
        let Some(signed_at) = said.as_str().and_then(parse_time) else {
            let why = format!("{SIGNED_AT} is {said}, not an RFC 3339 time");
            return Err(Failure::new(ErrorClass::TimeMalformed, why));
        };
        let now = self.clock.now();
        let age = now.duration_since(signed_at);
        if age > signed(self.max_age) {
            let why = format!(
                "signed at {signed_at}, {} before {}; at most {} are allowed",
                hours(age),
                seconds(now),
                hours(signed(self.max_age))
            );
            return Err(Failure::new(ErrorClass::TimeStale, why));
        }
        if -age > signed(self.clock_skew) {
            let ahead = (-age).as_secs();
            let why = format!(
                "signed at {signed_at}, {ahead} s after this machine's {}; {} s are allowed",
                seconds(now),
                self.clock_skew.as_secs()
            );
            return Err(Failure::new(ErrorClass::TimeFuture, why));
        }
        Ok(Some(signed_at))
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn hours(duration: SignedDuration) -> String {
    format!("{} h", duration.as_hours())
}

fn check_identity(said: Option<&str>, repository: &Repository) -> Result<(), Failure> {
    let Some(said) = said else {
        let why = format!("the bundle format names no repository, and {repository} is demanded");
        return Err(Failure::new(ErrorClass::SigIdentityMismatch, why));
    };
    match said.parse::<Reference>() {
        Ok(reference) if reference.repository.is_same(repository) => Ok(()),
        _ => {
            let why = format!("signed as {said:?}, verified as {repository}");
            Err(Failure::new(ErrorClass::SigIdentityMismatch, why))
        }
    }
}

/// Parses RFC 3339 as Go does: `2026-01-15T12:00:00Z`, with an optional fraction or offset, and nothing looser.
fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let is_shape = bytes.len() >= 20
        && bytes[..19].iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(&byte, &shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        });
    if !is_shape {
        return None;
    }
    let mut rest = &text[19..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        rest = &fraction[digits..];
    }
    let offset = rest.as_bytes();
    let is_offset = offset == b"Z"
        || (offset.len() == 6
            && matches!(offset[0], b'+' | b'-')
            && offset[3] == b':'
            && [1, 2, 4, 5].iter().all(|&at| offset[at].is_ascii_digit()));
    if is_offset { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Demands {
        Demands { clock: Clock::Fixed(text.parse().unwrap()), ..Demands::new(Vec::new()) }
    }

    fn class(said: &str, freshness: Freshness) -> Option<ErrorClass> {
        let said = Value::from(said);
        at("2026-06-01T00:00:00Z").check_time(Some(&said), freshness).err().map(|failure| failure.class)
    }

    #[test]
    fn only_rfc_3339_is_a_time() {
        for good in ["2026-01-15T12:00:00Z", "2026-01-15T12:00:00.123456789Z", "2026-01-15T14:00:00+02:00"] {
            assert!(parse_time(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "2026-01-15",
            "2026-01-15 12:00",
            "2026-01-15 12:00:00Z",
            "2026-01-15t12:00:00z",
            "2026-01-15T12:00Z",
            "2026-01-15T12:00:00",
            "2026-01-15T12:00:00.Z",
            "2026-01-15T12:00:00+0200",
            "2026-13-15T12:00:00Z",
            "2026-01-15T12:00:00Z[UTC]",
            "2026-01-15T12:00:00Z ",
            "1768478400",
            "2026-01-15T12:00:00éé",
            "éééééééééééééééé",
        ] {
            assert!(parse_time(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_limits_of_age_and_skew_belong_to_what_is_allowed() {
        use ErrorClass::{TimeFuture, TimeMalformed, TimeStale};
        for (said, expected) in [
            ("2025-06-01T00:00:00Z", None),
            ("2025-05-31T23:59:59.999999999Z", Some(TimeStale)),
            ("2026-06-01T00:05:00Z", None),
            ("2026-06-01T00:05:00.000000001Z", Some(TimeFuture)),
            ("2026-06-01T02:05:00+02:00", None),
            ("0001-01-01T00:00:00Z", Some(TimeStale)),
            ("9999-12-30T00:00:00Z", Some(TimeFuture)),
            ("soon", Some(TimeMalformed)),
        ] {
            assert_eq!(class(said, Freshness::Demanded), expected, "{said}");
            assert_eq!(class(said, Freshness::IfSaid), expected, "{said}: what a sidecar says must be right too");
        }
    }

    #[test]
    fn a_time_must_be_said_of_an_image_and_may_be_of_a_sidecar() {
        let demands = at("2026-06-01T00:00:00Z");
        assert_eq!(demands.check_time(None, Freshness::Demanded).unwrap_err().class, ErrorClass::TimeMissing);
        assert_eq!(demands.check_time(None, Freshness::IfSaid), Ok(None));
        let number = Value::from(1_768_478_400);
        assert_eq!(demands.check_time(Some(&number), Freshness::IfSaid).unwrap_err().class, ErrorClass::TimeMalformed);
        let forever = Demands { max_age: Duration::MAX, ..demands };
        assert!(forever.check_time(Some(&"0001-01-01T00:00:00Z".into()), Freshness::Demanded).is_ok());
    }

    #[test]
    fn a_name_is_compared_by_host_and_path() {
        let repository = |text: &str| text.parse::<Reference>().unwrap().repository;
        for (said, named, fits) in [
            ("ghcr.io/acme/app", "ghcr.io/acme/app", true),
            ("ghcr.io/acme/app:v1", "ghcr.io/acme/app", true),
            ("index.docker.io/library/nginx", "docker.io/nginx", true),
            ("ghcr.io:443/acme/app", "GHCR.io/acme/app", true),
            ("ghcr.io/acme/app2", "ghcr.io/acme/app", false),
            ("quay.io/acme/app", "ghcr.io/acme/app", false),
            ("", "ghcr.io/acme/app", false),
            ("index.ghcr.io/acme/app", "ghcr.io/acme/app", false),
        ] {
            assert_eq!(check_identity(Some(said), &repository(named)).is_ok(), fits, "{said} {named}");
        }
        assert!(check_identity(None, &repository("ghcr.io/acme/app")).is_err(), "no name is the wrong name");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_time_reader_panic(text in "(\\PC|[0-9T:Z.+-]){0,30}") {
            let _ = parse_time(&text);
        }
    }
}
