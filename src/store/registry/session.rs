//! Upload sessions: used once, and cancelled when they are not.

use std::time::Duration;

use http::Method;
use url::Url;

use crate::oci::Digest;
use crate::wire::{Host, Request, Scopes};

/// Longest time that cancelling may take; nobody waits for it, but a program that ends does.
const CANCEL: Duration = Duration::from_secs(3);

/// An open session. Dropped before it is [`done`](Self::done), for whatever reason, it is cancelled in the background:
/// registry 2.8 keeps what it has received until somebody tidies up (distribution-spec, end-14).
#[derive(Debug)]
pub(super) struct Session {
    host: Host,
    label: String,
    scopes: Scopes,
    location: Option<Url>,
}

impl Session {
    pub(super) fn new(host: &Host, label: &str, scopes: &Scopes, location: Url) -> Self {
        Self { host: host.clone(), label: label.to_owned(), scopes: scopes.clone(), location: Some(location) }
    }

    /// Where the closing PUT goes. The Location is used as it was given: it may carry the registry's own state.
    pub(super) fn closing(&self, digest: &Digest) -> Option<Url> {
        let mut url = self.location.clone()?;
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
            _ => format!("digest={digest}"),
        };
        url.set_query(Some(&query));
        Some(url)
    }

    /// Says that the session has come to its end.
    pub(super) fn done(mut self) {
        self.location = None;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(location) = self.location.take() else { return };
        let host = self.host.clone();
        let request = Request::at(Method::DELETE, location, "cancel upload", &self.label).needing(self.scopes.clone());
        self.host.client().tidy(async move {
            match tokio::time::timeout(CANCEL, host.send(&request)).await {
                Ok(Ok(answer)) => answer.discard().await,
                // The registry forgets it in its own time.
                Ok(Err(why)) => tracing::debug!(why = %why.chain(), "upload session not cancelled"),
                Err(_) => tracing::debug!("upload session not cancelled in time"),
            }
        });
    }
}
