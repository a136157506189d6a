//! What an operator trusts and signs with: keys from files, and whether the time of signing counts, from the environment.

use std::path::Path;

use super::password;
use crate::error::{Error, Kind, Result};
use crate::verify::{ErrorClass, Failure, PublicKey, SigningKey, TrustTime};
use crate::wire;

/// Reads the public key that `flag` names.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) with the class `KEY_INVALID`.
pub(super) fn public_key(flag: &str, path: &Path) -> Result<PublicKey> {
    let refused = |error: Error| error.during(format!("use the key of {flag}"), path.display());
    let pem = wire::read_file(path).map_err(|why| {
        let why = Failure::new(ErrorClass::KeyInvalid, why.to_string());
        refused(Error::new(Kind::Usage, "read").because(why).hint("name a cosign public key (cosign.pub)"))
    })?;
    PublicKey::from_pem(&pem).map_err(refused)
}

/// Reads the private key that `flag` names, and asks for its password.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for what is no key, or not with that password; those of asking.
pub(super) async fn signing_key(flag: &str, path: &Path) -> Result<SigningKey> {
    let refused = |error: Error| error.during(format!("use the key of {flag}"), path.display());
    let pem = wire::read_file(path).map_err(|why| refused(Error::new(Kind::Usage, "read").because(why)))?;
    let password = password::get(password::Purpose::Open).await?;
    SigningKey::from_encrypted_pem(&pem, &password).map_err(refused)
}

/// Whether the time of signing is checked: `AUTONOMY_TRUST_TIME` (contract §8).
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a value that is neither yes nor no: a misspelt `false` must not pass for a choice.
pub(super) fn time() -> Result<TrustTime> {
    match std::env::var("AUTONOMY_TRUST_TIME").as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("true" | "1" | "") => Ok(TrustTime::On),
        Ok("false" | "0") => Ok(TrustTime::Off),
        Ok(other) => Err(Error::new(Kind::Usage, format!("AUTONOMY_TRUST_TIME is true or false, not {other:?}"))),
        Err(other) => Err(Error::new(Kind::Usage, format!("AUTONOMY_TRUST_TIME is true or false: {other}"))),
    }
}
