//! Logins: tried at the registry, then stored where docker and podman store theirs; and removed again.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::keychain::{Account, StoredLogin, Vault};
use crate::wire::{Client, ClientOptions, prove};

/// A login that was stored.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedIn {
    /// The registry, in the form that credentials are stored under.
    pub host: String,
    /// The user name.
    pub user: String,
    /// The file that was written to.
    pub file: PathBuf,
    /// The helper that stores the secret; null if the file itself holds it.
    pub helper: Option<String>,
    /// The kind of secret that was stored.
    pub kept: Secret,
    /// Whether the registry checked the password: false if it asks for no login.
    pub checked: bool,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// The secret that proves an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// The password, or what the registry accepts as one.
    Password,
    /// A token that the registry's token service returned for the password.
    IdentityToken,
}

/// A login that was removed.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedOut {
    /// The registry, in the form that credentials are stored under.
    pub host: String,
    /// Whether there was a login.
    pub was_logged_in: bool,
    /// The file that held it, or would have held it.
    pub file: PathBuf,
    /// The helper that was asked to erase it.
    pub helper: Option<String>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// Tries `account` at `host` and stores it in `vault`. Sends requests to `api_host`, which differs from `host` for some
/// registries.
///
/// # Errors
///
/// Fails like [`prove`], with nothing stored, and like [`Vault::keep`].
pub async fn login(
    options: &ClientOptions,
    vault: &Vault,
    host: &str,
    api_host: &str,
    account: &Account,
) -> Result<LoggedIn> {
    let proof = prove(options, api_host, account).await.map_err(|error| error.hint("nothing was written"))?;
    let mut warnings = Vec::new();
    if !proof.was_asked {
        warnings.push(format!("{host} asks for no login, so that the password could not be checked"));
    }
    let StoredLogin { host, helper, .. } = vault.keep(host, account, proof.identity.as_deref()).await?;
    let kept = if proof.identity.is_some() { Secret::IdentityToken } else { Secret::Password };
    // Several files may know the host: a login stored in a file that is read later has no effect.
    let identity = proof.identity.as_deref();
    match Client::new(options.clone())?.finds(&host, account, identity).await {
        Ok(None) => {}
        Ok(Some(told)) => warnings.push(format!("what is found for it from now on is not this login: {told}")),
        Err(error) => warnings.push(error.chain()),
    }
    let (user, file) = (account.user.clone(), vault.path().to_owned());
    Ok(LoggedIn { host, user, file, helper, kept, checked: proof.was_asked, warnings })
}

/// Removes the login for `host` from `vault`.
///
/// # Errors
///
/// Fails like [`Vault::forget`].
pub async fn logout(options: &ClientOptions, vault: &Vault, host: &str) -> Result<LoggedOut> {
    let StoredLogin { host, helper, was_there } = vault.forget(host).await?;
    let mut warnings = Vec::new();
    // A file that was named and does not exist has been no error so far, so it is ignored here too.
    let mut options = options.clone();
    options.authfile = options.authfile.filter(|path| path.exists());
    options.environment.registry_auth_file = options.environment.registry_auth_file.filter(|path| path.exists());
    match Client::new(options)?.has_login(&host).await {
        Ok(None) => {}
        Ok(Some(told)) => warnings.push(format!("there still are {told}")),
        Err(error) => warnings.push(error.chain()),
    }
    Ok(LoggedOut { host, was_logged_in: was_there, file: vault.path().to_owned(), helper, warnings })
}
