//! Upload sessions: used to their end, or cancelled.

use std::time::Duration;

use http::Method;
use http::header::{LOCATION, RANGE};
use url::Url;

use crate::error::Result;
use crate::oci::Digest;
use crate::wire::{Host, Request, Scopes, arrived};

/// Longest time for cancelling. No caller waits for it, but the program does at its end.
const CANCEL: Duration = Duration::from_secs(3);

/// An open session. If it is dropped before it is [`done`](Self::done), for any reason, it is cancelled in the
/// background: registry 2.8 keeps the received bytes until the operator cleans up (distribution-spec, end-14).
#[derive(Debug)]
pub(super) struct PushSession {
    host: Host,
    label: String,
    scopes: Scopes,
    location: Option<Url>,
    /// How many bytes are known to have arrived.
    pub(super) arrived: u64,
}

/// The state of a session whose connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStanding {
    /// This many bytes have arrived, and the rest may follow.
    At(u64),
    /// The session no longer exists.
    Gone,
    /// The registry does not say.
    Unknown,
}

impl PushSession {
    pub(super) fn new(host: &Host, label: &str, scopes: Scopes, location: Url) -> Self {
        Self { host: host.clone(), label: label.to_owned(), scopes, location: Some(location), arrived: 0 }
    }

    /// Asks how much has arrived (distribution-spec, end-13). The next request goes to the Location of the answer.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::Kind::Unavailable) if the registry cannot answer now.
    pub(super) async fn standing(&mut self) -> Result<SessionStanding> {
        let Some(location) = self.location.clone() else { return Ok(SessionStanding::Gone) };
        let request = Request::at(Method::GET, location, "ask how far the upload came", &self.label);
        let answer = self.host.send(&request.needing(self.scopes.clone())).await?;
        match answer.status().as_u16() {
            200..=299 => {
                let Some(count) = answer.header(RANGE.as_str()).and_then(arrived) else {
                    return Ok(SessionStanding::Unknown);
                };
                if answer.header(LOCATION.as_str()).is_some() {
                    self.location = Some(answer.location()?);
                }
                answer.discard().await;
                Ok(SessionStanding::At(count))
            }
            404 | 410 => {
                answer.discard().await;
                Ok(SessionStanding::Gone)
            }
            408 | 425 | 429 | 500.. => Err(answer.problem().await.into()),
            _ => Ok(SessionStanding::Unknown),
        }
    }

    /// Returns the URL of the closing PUT. The Location is used as it was given: it may carry the registry's own state.
    pub(super) fn closing(&self, digest: &Digest) -> Option<Url> {
        let mut url = self.location.clone()?;
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
            _ => format!("digest={digest}"),
        };
        url.set_query(Some(&query));
        Some(url)
    }

    /// Records that the session has ended.
    pub(super) fn done(mut self) {
        self.location = None;
    }
}

impl Drop for PushSession {
    fn drop(&mut self) {
        let Some(location) = self.location.take() else { return };
        let host = self.host.clone();
        let request = Request::at(Method::DELETE, location, "cancel upload", &self.label).needing(self.scopes.clone());
        self.host.tidy(async move {
            match tokio::time::timeout(CANCEL, host.send(&request)).await {
                Ok(Ok(answer)) => answer.discard().await,
                // The registry drops it in its own time.
                Ok(Err(why)) => tracing::debug!(why = %why.chain(), "upload session not cancelled"),
                Err(_) => tracing::debug!("upload session not cancelled in time"),
            }
        });
    }
}
