//! The operator's trust: keys from files, transparency logs, and, from the environment, whether the time of signing
//! counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::oci::{Reference, Repository};
use crate::quantity::duration;
use crate::terminal::password;
use crate::verify::{Demands, ErrorClass, Failure, IdentityRule, PublicKey, RollbackRule, SigningKey, Tlog, TrustTime};

/// Reads the public key that `flag` names.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) with the class `KEY_INVALID`.
pub(crate) fn public_key(flag: &str, path: &Path) -> Result<PublicKey> {
    let refused = |error: Error| error.during(format!("use the key of {flag}"), path.display());
    let pem = disk::read_file(path).map_err(|why| {
        let why = Failure::new(ErrorClass::KeyInvalid, why.to_string());
        refused(
            Error::new(Kind::Usage, "read")
                .because(why)
                .hint("name a file that holds a public key as PEM, such as cosign.pub"),
        )
    })?;
    PublicKey::from_pem(&pem).map_err(refused)
}

/// Which transparency logs are trusted, and whether an entry is required.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Public key of a transparency log (SPKI PEM): the log entry of a signature, if any, is checked with it, offline;
    /// repeatable
    #[arg(long, value_name = "FILE")]
    rekor_key: Vec<PathBuf>,
    /// Require a transparency log entry for each signature; needs --rekor-key
    #[arg(long)]
    require_tlog: bool,
}

impl LogArgs {
    /// Returns whether one of these flags is given.
    pub(crate) fn is_asked(&self) -> bool {
        self.require_tlog || !self.rekor_key.is_empty()
    }

    /// Refuses these flags if the flag `instead` says that no signature is verified.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if there is such a flag.
    pub(crate) fn check(&self, instead: Option<&str>) -> Result<()> {
        let Some(instead) = instead.filter(|_| self.is_asked()) else { return Ok(()) };
        let text = format!("--rekor-key and --require-tlog verify a signature, and {instead} does not");
        Err(Error::new(Kind::Usage, text).hint("name the key that signed with --pub-key, or leave the log out"))
    }

    /// Adds these flags to `demands`.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) with the class `KEY_INVALID`.
    pub(crate) fn demand(&self, demands: &mut Demands) -> Result<()> {
        let keys = self.rekor_key.iter().map(|path| public_key("--rekor-key", path));
        demands.log_keys = keys.collect::<Result<_>>()?;
        demands.tlog = if self.require_tlog { Tlog::Required } else { Tlog::NotAsked };
        Ok(())
    }
}

/// Requirements on the signed data of copied images: time and name.
#[derive(Debug, Args)]
pub(crate) struct Claims {
    /// Greatest age of a signature, as a Go duration: 720h, 1h30m [default: 8760h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    max_age: Option<Duration>,
    /// The signed data must name the source's repository, at both ends; a bundle names none, and fails
    #[arg(long)]
    match_identity: bool,
    /// The signed data must name this repository instead of the source's: host[:port]/repository
    #[arg(long, value_name = "NAME", value_parser = repository)]
    identity: Option<Repository>,
    /// Permit an image that was signed before the one it replaces; recorded
    #[arg(long)]
    allow_rollback: bool,
}

impl Claims {
    /// Returns whether any of these flags is given, except --allow-rollback.
    fn is_asked(&self) -> bool {
        self.max_age.is_some() || self.match_identity || self.identity.is_some()
    }

    /// Refuses flags that need a signature if the flag `instead` says that none is verified.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if there is such a flag.
    pub(crate) fn check(&self, instead: Option<&str>) -> Result<()> {
        let Some(instead) = instead.filter(|_| self.is_asked()) else { return Ok(()) };
        let text = format!("--max-age, --match-identity and --identity verify a signature, and {instead} does not");
        Err(Error::new(Kind::Usage, text).hint("name the key that signed, or leave them out"))
    }

    /// Adds these flags to `demands`.
    pub(crate) fn demand(&self, demands: &mut Demands) {
        demands.max_age = self.max_age.unwrap_or(demands.max_age);
        demands.identity = match &self.identity {
            Some(name) => IdentityRule::Named(name.clone()),
            None if self.match_identity => IdentityRule::MatchRepository,
            None => IdentityRule::Any,
        };
        demands.rollback = if self.allow_rollback { RollbackRule::Allow } else { RollbackRule::Refuse };
    }
}

fn repository(text: &str) -> Result<Repository, String> {
    match text.parse::<Reference>() {
        Ok(Reference { repository, tag: None, digest: None }) => Ok(repository),
        Ok(named) => Err(format!("a name is a repository without tag and digest: write {}", named.repository)),
        Err(why) => Err(why.to_string()),
    }
}

/// Reads the private key that `flag` names, and asks for its password.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if the file is not a key or the password is wrong; fails like [`password::get`].
pub(crate) async fn signing_key(flag: &str, path: &Path) -> Result<SigningKey> {
    let refused = |error: Error| error.during(format!("use the key of {flag}"), path.display());
    let pem = disk::read_file(path).map_err(|why| refused(Error::new(Kind::Usage, "read").because(why)))?;
    let password = password::get(password::Purpose::Open).await?;
    SigningKey::from_encrypted_pem(&pem, &password).map_err(refused)
}

/// Returns whether the time of signing is checked: `AUTONOMY_TRUST_TIME` (contract §8).
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a value that is neither true nor false: a misspelt `false` must not count as a choice.
pub(crate) fn time() -> Result<TrustTime> {
    match std::env::var("AUTONOMY_TRUST_TIME").as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("true" | "1" | "") => Ok(TrustTime::On),
        Ok("false" | "0") => Ok(TrustTime::Off),
        Ok(other) => Err(Error::new(Kind::Usage, format!("AUTONOMY_TRUST_TIME is true or false, not {other:?}"))),
        Err(other) => Err(Error::new(Kind::Usage, format!("AUTONOMY_TRUST_TIME is true or false: {other}"))),
    }
}
