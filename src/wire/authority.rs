//! What a host wants to see before it answers, and how that is had: the logins of one host.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use super::answer::Answer;
use super::challenge::{self, Challenge};
use super::client::lock;
use super::exchange::Login;
use super::host::Host;
use super::keychain::{Credentials, Found};
use super::scope::Scopes;
use super::token::{Service, Tokens};
use crate::error::{Error, Kind, Result};

/// The logins of one host.
#[derive(Debug, Default)]
pub(super) struct Authority {
    /// What the host asked for last. Nothing is sent before it has asked.
    demand: Mutex<Option<Demand>>,
    tokens: Tokens,
    /// Where credentials were looked for, once that has been necessary.
    hint: Mutex<Option<String>>,
}

#[derive(Debug, Clone)]
enum Demand {
    Basic,
    Bearer(Service),
}

/// A login that a request carried.
pub(super) struct Shown {
    pub(super) login: Login,
    /// The token, if it was one: it may be too old.
    token: Option<String>,
}

/// All challenges of an answer.
pub(super) fn challenges(answer: &Answer) -> Vec<Challenge> {
    let values = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

impl Authority {
    /// The login for a request, if the host is known to want one.
    pub(super) async fn login(&self, host: &Host, scopes: &Scopes) -> Result<Option<Shown>> {
        let demand = lock(&self.demand).clone();
        match demand {
            None => Ok(None),
            Some(Demand::Basic) => self.basic(host).await,
            Some(Demand::Bearer(service)) => self.bearer(host, &service, scopes, None).await.map(Some),
        }
    }

    /// The login to send after the host said 401, or `None` if there is nothing left to try.
    pub(super) async fn meet(
        &self,
        host: &Host,
        challenges: &[Challenge],
        scopes: &Scopes,
        refused: Option<Shown>,
    ) -> Result<Option<Shown>> {
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            let service = Service::of(challenge, host)?;
            *lock(&self.demand) = Some(Demand::Bearer(service.clone()));
            let wanted = scopes.clone().and(&Scopes::parse(challenge.parameter("scope").unwrap_or_default()));
            let stale = refused.and_then(|shown| shown.token);
            return self.bearer(host, &service, &wanted, stale.as_deref()).await.map(Some);
        }
        if of("basic").is_some() {
            let was_basic = refused.is_some_and(|shown| shown.token.is_none());
            *lock(&self.demand) = Some(Demand::Basic);
            return if was_basic { Ok(None) } else { self.basic(host).await };
        }
        Ok(None)
    }

    async fn basic(&self, host: &Host) -> Result<Option<Shown>> {
        match self.credentials(host).await?.credentials {
            Some(Credentials::Password { user, password }) => {
                let header = basic(&user, &password)?;
                Ok(Some(Shown { login: Login { header, home: home(host)? }, token: None }))
            }
            // An identity token is for token services only.
            Some(Credentials::Identity(_)) | None => Ok(None),
        }
    }

    async fn bearer(&self, host: &Host, service: &Service, scopes: &Scopes, stale: Option<&str>) -> Result<Shown> {
        let found = async || self.credentials(host).await;
        let token = self.tokens.get(host, service, scopes, stale, found).await?;
        let header = secret(&format!("Bearer {token}"))?;
        Ok(Shown { login: Login { header, home: home(host)? }, token: Some(token) })
    }

    async fn credentials(&self, host: &Host) -> Result<Found> {
        let found = host.client().keychain().find(host.name(), host.path()).await?;
        *lock(&self.hint) = Some(found.hint());
        Ok(found)
    }

    /// What to do about a refusal.
    pub(super) fn hint(&self) -> Option<String> {
        lock(&self.hint).clone()
    }
}

/// The header of a login with name and password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// A header that no log shows.
fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::new(Kind::Invalid, "log in").because("the token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn home(host: &Host) -> Result<Url> {
    host.origin().cloned().ok_or_else(|| Error::new(Kind::Invalid, "log in").on(host.name()))
}
