//! Looks up credentials for one host, and gives advice when they are refused.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use url::Url;

use crate::error::Result;
use crate::keychain::{Credentials, Found, Keychain};
use crate::sync::lock;
use crate::wire::address::host_port;
use crate::wire::exchange::Endpoint;

/// The hint for a refusal by a host that has asked for no login.
const OPEN_HINT: &str =
    "asked without a login, and the registry wanted none: its access rules, or a proxy before it, refuse this";

/// The credentials of one host, looked up when they are needed.
#[derive(Debug)]
pub(super) struct Lookup {
    keychain: Arc<Keychain>,
    /// Advice for refusals, once credentials were looked up.
    advice: Mutex<Option<LoginAdvice>>,
}

/// The operator's remedies for refusals.
#[derive(Debug, Clone)]
enum LoginAdvice {
    /// As the search for credentials came out.
    Search(Found),
    /// This, whatever the refusal is.
    Text(String),
}

impl Lookup {
    pub(super) fn new(keychain: &Arc<Keychain>) -> Self {
        Self { keychain: Arc::clone(keychain), advice: Mutex::default() }
    }

    /// Returns the credentials for `host`, and newer ones than `refused` if there are any.
    pub(crate) async fn credentials(&self, host: &Endpoint, refused: Option<&Credentials>) -> Result<Found> {
        // Boxed because few requests need it: keeps the other callers' futures small.
        let found = Box::pin(self.keychain.find(host.name(), &host.path, refused)).await?;
        *lock(&self.advice) = Some(LoginAdvice::Search(found.clone()));
        Ok(found)
    }

    /// Returns whether credentials for `host` may be sent to it and to `place`, its token service. If not, a refusal
    /// that results from it says so.
    pub(crate) fn may_log_in(&self, host: &Endpoint, place: &Url) -> bool {
        let Some(plain) = host.origin().into_iter().chain([place]).find(|url| !host.connections.may_log_in_at(url))
        else {
            return true;
        };
        let name = host_port(plain);
        let hint = format!(
            "{name} speaks plain HTTP, over which the credentials for {} are not sent; --allow-insecure-registry={name} permits it there",
            host.name()
        );
        self.advise(hint);
        false
    }

    /// Sets what the operator can do about a refusal.
    pub(super) fn advise(&self, hint: String) {
        *lock(&self.advice) = Some(LoginAdvice::Text(hint));
    }

    /// Returns what the operator can do about a refusal.
    pub(super) fn hint(&self) -> Option<String> {
        self.hint_for(StatusCode::UNAUTHORIZED)
    }

    /// Returns what the operator can do about an answer with `status`, as far as the login matters.
    pub(super) fn hint_for(&self, status: StatusCode) -> Option<String> {
        let advice = lock(&self.advice).clone();
        let hint = match (status, advice) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(LoginAdvice::Text(hint))) => hint,
            (StatusCode::UNAUTHORIZED, Some(LoginAdvice::Search(found))) => found.hint(),
            (StatusCode::FORBIDDEN, Some(LoginAdvice::Search(found))) => Found::refusal_hint(&found),
            (StatusCode::FORBIDDEN, None) => OPEN_HINT.to_owned(),
            (StatusCode::TOO_MANY_REQUESTS, Some(LoginAdvice::Search(found))) => Found::quota_hint(&found)?,
            _ => return None,
        };
        Some(hint)
    }
}
