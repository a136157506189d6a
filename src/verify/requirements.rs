//! Demands: what one signature must meet, all of it by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::document::sidecar::SidecarKind;
use crate::oci::{Reference, Repository};
use crate::trust::claim::{Claim, SIGNED_AT, seconds};
use crate::trust::failure::{ErrorClass, Failure};
use crate::trust::key::PublicKey;
use crate::trust::tlog::Tlog;

/// What an operator demands before an image counts as verified.
#[derive(Debug, Clone)]
pub struct Demands {
    /// The trusted keys; any one of them will do. With none, nothing verifies.
    pub keys: Vec<PublicKey>,
    /// Greatest age of a signature. Default 8,760 h, a year (contract §8).
    pub max_age: Duration,
    /// How far in the future a signature may lie, because clocks differ. Default 5 min (contract §8).
    pub clock_skew: Duration,
    /// Whether the time of signing is checked. Default on; `AUTONOMY_TRUST_TIME=false` switches it off.
    pub trust_time: TrustTime,
    /// Whether the signature must name the repository. Default any.
    pub identity: IdentityRule,
    /// Whether what was signed before what it would replace is refused. Default refused. For those who replace something:
    /// a verification alone replaces nothing.
    pub rollback: RollbackRule,
    /// Whether the lock must be there, signed and right. Default not asked.
    pub lock: SidecarDemand,
    /// Whether the policy must be there, signed and the lock's. Default not asked. The lock is then demanded too: without
    /// it nothing says that the policy belongs to the image.
    pub policy: SidecarDemand,
    /// The keys of transparency logs that are believed. Default none: log entries are not looked at. With one, an entry
    /// that is there is checked, offline, and refused with its signature if it does not hold.
    pub log_keys: Vec<PublicKey>,
    /// Whether a transparency log must vouch for the signature. Default not: many are made without one.
    pub tlog: Tlog,
    /// What time it is. Default this machine's clock.
    pub clock: Clock,
}

/// Whether the time of signing is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustTime {
    /// It must be in the image signature's signed data, and recent. Where a sidecar's signature has one, that too.
    On,
    /// It is not looked at, and reports say that verification is weakened.
    Off,
}

/// Whose name the signed data must bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityRule {
    /// Anybody's: an image that was mirrored bears the name of where it came from.
    Any,
    /// The name of the repository verified. The bundle format bears no name, so only legacy signatures can meet this.
    MatchRepository,
    /// This name, wherever the image stands by now.
    Named(Repository),
}

/// Whether an image may replace one that was signed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackRule {
    /// No: an old release that is offered again under a tag that moves is an attack.
    Refuse,
    /// Yes: somebody wants to go back, and records say so.
    Allow,
}

/// Whether a sidecar is part of what is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarDemand {
    /// It is not looked at.
    NotAsked,
    /// It must be there, signed, and fit the image.
    Required,
}

/// Where the time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// This machine's clock, read anew for every image.
    System,
    /// Always the same time: for tests, and for judging by an audit's date.
    Fixed(Timestamp),
}

/// Whether a claim must say when it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It must, and recently: the image (contract §8).
    Demanded,
    /// If it does, then recently: the sidecars.
    IfSaid,
}

impl Demands {
    /// The defaults, with these keys.
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

    /// What these demands leave out that the defaults ask for, for reports.
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

    /// The name that the signed data of what stands in `repository` must bear; none if any will do.
    pub(super) fn name<'a>(&'a self, repository: &'a Repository) -> Option<&'a Repository> {
        match &self.identity {
            IdentityRule::Any => None,
            IdentityRule::MatchRepository => Some(repository),
            IdentityRule::Named(name) => Some(name),
        }
    }

    /// Checks what the signed data says, once key, type and digest are right: name and time. Gives the time of signing.
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

impl Clock {
    fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Fixed(time) => time,
        }
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

/// Reads RFC 3339 as Go does: `2026-01-15T12:00:00Z`, with a fraction or an offset if need be, and nothing looser.
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
