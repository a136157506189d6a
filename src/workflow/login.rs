//! Logins: tried at the registry, then kept where docker and podman keep theirs; and forgotten again.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::wire::{Account, Client, ClientOptions, StoredLogin, Vault, prove};

/// A login that was kept.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedIn {
    /// The registry, as credentials are filed under it.
    pub host: String,
    /// The name.
    pub user: String,
    /// The file that was written to.
    pub file: PathBuf,
    /// The helper that keeps the secret; null if it stands in the file.
    pub helper: Option<String>,
    /// What was kept.
    pub kept: Secret,
    /// Whether the registry has looked at the password: false if it asks nobody for a login.
    pub checked: bool,
    /// What to know about it.
    pub warnings: Vec<String>,
}

/// What proves who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secret {
    /// The password, or what the registry takes for one.
    Password,
    /// A token that the registry's token service gave for the password.
    IdentityToken,
}

/// A login that was forgotten.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedOut {
    /// The registry, as credentials are filed under it.
    pub host: String,
    /// Whether there was a login.
    pub was_logged_in: bool,
    /// The file that it stood in, or would have stood in.
    pub file: PathBuf,
    /// The helper that was told to forget it.
    pub helper: Option<String>,
    /// What to know about it.
    pub warnings: Vec<String>,
}

/// Tries `account` at `host` and keeps it in `vault`. `api_host` is what to speak to, where that has another name.
///
/// # Errors
///
/// Those of [`prove`], with nothing kept, and of [`Vault::keep`].
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
    // Several files may know the host: what is kept in one that is looked into later is of no use.
    let identity = proof.identity.as_deref();
    match Client::new(options.clone())?.finds(&host, account, identity).await {
        Ok(None) => {}
        Ok(Some(told)) => warnings.push(format!("what is found for it from now on is not this login: {told}")),
        Err(error) => warnings.push(error.chain()),
    }
    let (user, file) = (account.user.clone(), vault.path().to_owned());
    Ok(LoggedIn { host, user, file, helper, kept, checked: proof.was_asked, warnings })
}

/// Forgets the login for `host` in `vault`.
///
/// # Errors
///
/// Those of [`Vault::forget`].
pub async fn logout(options: &ClientOptions, vault: &Vault, host: &str) -> Result<LoggedOut> {
    let StoredLogin { host, helper, was_there } = vault.forget(host).await?;
    let mut warnings = Vec::new();
    // A file that was named and is not there has been no hindrance so far.
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
