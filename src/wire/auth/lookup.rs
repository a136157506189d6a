//! Looks up credentials for one host, and gives advice when they are refused.

use std::sync::{Arc, Mutex};

use url::Url;

use crate::error::Result;
use crate::keychain::{Credentials, Found, Keychain};
use crate::sync::lock;
use crate::wire::address::host_port;
use crate::wire::exchange::Endpoint;

/// The credentials of one host, looked up when they are needed.
#[derive(Debug)]
pub(super) struct Lookup {
    keychain: Arc<Keychain>,
    /// Advice for a refusal, once credentials were looked up.
    hint: Mutex<Option<String>>,
}

impl Lookup {
    pub(super) fn new(keychain: &Arc<Keychain>) -> Self {
        Self { keychain: Arc::clone(keychain), hint: Mutex::default() }
    }

    /// Returns the credentials for `host`, and newer ones than `refused` if there are any.
    pub(crate) async fn credentials(&self, host: &Endpoint, refused: Option<&Credentials>) -> Result<Found> {
        // Boxed because few requests need it: keeps the other callers' futures small.
        let found = Box::pin(self.keychain.find(host.name(), &host.path, refused)).await?;
        *lock(&self.hint) = Some(found.hint());
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
        *lock(&self.hint) = Some(format!(
            "{name} speaks plain HTTP, over which the credentials for {} are not sent; --allow-insecure-registry={name} permits it there",
            host.name()
        ));
        false
    }

    /// Sets what the operator can do about a refusal.
    pub(super) fn advise(&self, hint: String) {
        *lock(&self.hint) = Some(hint);
    }

    /// Returns what the operator can do about a refusal.
    pub(super) fn hint(&self) -> Option<String> {
        lock(&self.hint).clone()
    }
}
