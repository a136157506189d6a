//! Upload sessions: used to their end, and cancelled when they are not.

use std::time::Duration;

use http::Method;
use http::header::{LOCATION, RANGE};
use url::Url;

use crate::error::Result;
use crate::oci::Digest;
use crate::wire::{Host, Request, Scopes, arrived};

/// Longest time that cancelling may take; nobody waits for it, but a program that ends does.
const CANCEL: Duration = Duration::from_secs(3);

/// An open session. Dropped before it is [`done`](Self::done), for whatever reason, it is cancelled in the background:
/// registry 2.8 keeps what it has received until somebody tidies up (distribution-spec, end-14).
#[derive(Debug)]
pub(super) struct PushSession {
    host: Host,
    label: String,
    scopes: Scopes,
    location: Option<Url>,
    /// How many bytes are known to have arrived.
    pub(super) arrived: u64,
}

/// How a session stands whose connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStanding {
    /// So many bytes have arrived, and the rest may follow.
    At(u64),
    /// There is no such session any more.
    Gone,
    /// The registry does not tell.
    Unknown,
}

impl PushSession {
    pub(super) fn new(host: &Host, label: &str, scopes: Scopes, location: Url) -> Self {
        Self { host: host.clone(), label: label.to_owned(), scopes, location: Some(location), arrived: 0 }
    }

    /// Asks how much has arrived (distribution-spec, end-13). What comes next goes where the answer says.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::Kind::Unavailable) if it cannot be asked now.
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

impl Drop for PushSession {
    fn drop(&mut self) {
        let Some(location) = self.location.take() else { return };
        let host = self.host.clone();
        let request = Request::at(Method::DELETE, location, "cancel upload", &self.label).needing(self.scopes.clone());
        self.host.tidy(async move {
            match tokio::time::timeout(CANCEL, host.send(&request)).await {
                Ok(Ok(answer)) => answer.discard().await,
                // The registry forgets it in its own time.
                Ok(Err(why)) => tracing::debug!(why = %why.chain(), "upload session not cancelled"),
                Err(_) => tracing::debug!("upload session not cancelled in time"),
            }
        });
    }
}
