//! Tries an account at a registry, before it is stored anywhere.

use http::Method;

use super::client::{Client, ClientOptions};
use super::request::Request;
use crate::error::{Kind, Result};
use crate::keychain::Account;
use crate::retry::Retry;

/// A registry's reaction to an account.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginProof {
    /// Whether it asked for a login at all. If not, the password was not checked.
    pub was_asked: bool,
    /// A token that its token service prefers to the password.
    pub identity: Option<String>,
}

impl std::fmt::Debug for LoginProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").field("was_asked", &self.was_asked).finish_non_exhaustive()
    }
}

/// Logs in to `host` (distribution-spec, end-1: `GET /v2/`) with `account` only, ignoring other credentials for the
/// host.
///
/// The password is sent after the registry has asked for it, to the registry or to the token service that it names.
///
/// # Errors
///
/// [`Denied`](Kind::Denied) if the account is refused, [`NotFound`](Kind::NotFound) if there is no registry; else fails
/// as [`Host::send`](crate::wire::Host::send) does.
pub async fn prove(options: &ClientOptions, host: &str, account: &Account) -> Result<LoginProof> {
    let client = Client::with_account(options.clone(), account.clone())?;
    let host = client.host(host, "");
    let request = Request::new(Method::GET, "v2/", "log in to", host.name());
    let answer = host.retrying(Retry::transient, || async { host.send(&request).await?.expect(&[200]).await });
    let answer = answer.await.map_err(|error| match error.kind() {
        Kind::NotFound => error.hint("is this a registry? it has no /v2/"),
        _ => error,
    })?;
    answer.discard().await;
    let authenticator = host.authenticator();
    Ok(LoginProof { was_asked: authenticator.is_asking(), identity: authenticator.identity() })
}
