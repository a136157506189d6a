//! Looking credentials up for one host, and advice for when they are refused.

use std::sync::{Arc, Mutex};

use url::Url;

use super::keychain::{Credentials, Found, Keychain};
use crate::error::Result;
use crate::sync::lock;
use crate::wire::address::host_port;
use crate::wire::exchange::Endpoint;

/// The credentials of one host, looked up when they are needed.
#[derive(Debug)]
pub(super) struct Lookup {
    keychain: Arc<Keychain>,
    /// Where credentials were looked for, once that has been necessary.
    hint: Mutex<Option<String>>,
}

impl Lookup {
    pub(super) fn new(keychain: &Arc<Keychain>) -> Self {
        Self { keychain: Arc::clone(keychain), hint: Mutex::default() }
    }

    /// The credentials for `host`, and newer ones than those that were refused if there are any.
    pub(crate) async fn credentials(&self, host: &Endpoint, refused: Option<&Credentials>) -> Result<Found> {
        // Few requests look for any; the others need not have room for it.
        let found = Box::pin(self.keychain.find(&host.name, &host.path, refused)).await?;
        *lock(&self.hint) = Some(found.hint());
        Ok(found)
    }

    /// Whether credentials for `host` may be sent to it and to `place`, its token service. If not, a refusal that comes
    /// of it says so.
    pub(crate) fn may_log_in(&self, host: &Endpoint, place: &Url) -> bool {
        let Some(plain) = host.origin().into_iter().chain([place]).find(|url| !host.connections.may_log_in_at(url))
        else {
            return true;
        };
        let name = host_port(plain);
        *lock(&self.hint) = Some(format!(
            "{name} speaks plain HTTP, over which the credentials for {} are not sent; --allow-insecure-registry={name} permits it there",
            host.name
        ));
        false
    }

    /// Sets what to do about a refusal.
    pub(super) fn advise(&self, hint: String) {
        *lock(&self.hint) = Some(hint);
    }

    /// What to do about a refusal.
    pub(super) fn hint(&self) -> Option<String> {
        lock(&self.hint).clone()
    }
}
