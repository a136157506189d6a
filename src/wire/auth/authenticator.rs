//! What a host wants to see before it answers, and how that is had: the logins of one host.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use tokio::time::Instant;
use url::Url;

use super::challenge::{self, Challenge};
use super::keychain::{Credentials, Found};
use super::scope::Scopes;
use super::token::{Pass, Service, Tokens, Wish};
use crate::error::{Error, Kind, Result};
use crate::wire::client::lock;
use crate::wire::exchange::Login;
use crate::wire::host::Host;
use crate::wire::response::Answer;

/// The logins of one host.
#[derive(Debug, Default)]
pub(crate) struct Authority {
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
pub(crate) struct Shown {
    pub(crate) login: Login,
    /// The token, if it was one: it may be too old.
    token: Option<Pass>,
    /// The credentials, if they were shown themselves: a helper may have newer ones by now.
    credentials: Option<Credentials>,
}

impl Shown {
    /// Whether a refusal may be of the token's age alone: somebody else had used it for a while, or the request took
    /// longer than it lasts.
    pub(crate) fn may_be_over(&self) -> bool {
        self.token.as_ref().is_some_and(|pass| !pass.is_fresh || pass.until <= Instant::now())
    }
}

/// All challenges of an answer.
pub(crate) fn challenges(answer: &Answer) -> Vec<Challenge> {
    let values = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

impl Authority {
    /// The login for a request, if the host is known to want one.
    pub(crate) async fn login(&self, host: &Host, scopes: &Scopes) -> Result<Option<Shown>> {
        let demand = lock(&self.demand).clone();
        match demand {
            None => Ok(None),
            Some(Demand::Basic) => self.basic(host, None).await,
            Some(Demand::Bearer(service)) => {
                let wish = Wish { service: &service, scopes, stale: None };
                self.bearer(host, &wish).await.map(Some)
            }
        }
    }

    /// The login to send after the host said 401, or `None` if there is nothing left to try.
    pub(crate) async fn meet(
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
            let stale = refused.as_ref().and_then(|shown| Some(shown.token.as_ref()?.token.as_str()));
            let wish = Wish { service: &service, scopes, stale };
            return self.bearer(host, &wish).await.map(Some);
        }
        if of("basic").is_some() {
            *lock(&self.demand) = Some(Demand::Basic);
            let refused = refused.and_then(|shown| shown.credentials);
            let found = self.basic(host, refused.as_ref()).await?;
            // The same once more would be refused once more.
            return Ok(found.filter(|found| refused.is_none() || found.credentials != refused));
        }
        let known: Vec<_> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        if !known.is_empty() {
            let schemes = crate::wire::problem::shown(&known.join(", "));
            let hint = format!("the registry wants a login by {schemes}, and only Basic and Bearer are known here");
            *lock(&self.hint) = Some(hint);
        }
        Ok(None)
    }

    async fn basic(&self, host: &Host, refused: Option<&Credentials>) -> Result<Option<Shown>> {
        match self.credentials(host, refused).await?.credentials {
            Some(Credentials::Password { .. }) if !self.may_log_in(host, &home(host)?) => {
                let error = Error::new(Kind::Denied, "log in to").on(host.name());
                Err(error.because("no credentials are sent over plain HTTP").hint(self.hint().unwrap_or_default()))
            }
            Some(Credentials::Password { user, password }) => {
                let login = Login { header: basic(&user, &password)?, home: home(host)? };
                let credentials = Some(Credentials::Password { user, password });
                Ok(Some(Shown { login, token: None, credentials }))
            }
            // An identity token is for token services, a registry token for registries that have one.
            Some(Credentials::Identity(_) | Credentials::Token(_)) | None => Ok(None),
        }
    }

    async fn bearer(&self, host: &Host, wish: &Wish<'_>) -> Result<Shown> {
        let pass = self.tokens.get(host, wish, self).await?;
        let login = Login { header: secret(&format!("Bearer {}", pass.token))?, home: home(host)? };
        Ok(Shown { login, token: Some(pass), credentials: None })
    }

    /// The credentials for `host`, and newer ones than those that were refused if there are any.
    pub(crate) async fn credentials(&self, host: &Host, refused: Option<&Credentials>) -> Result<Found> {
        // Few requests look for any; the others need not have room for it.
        let found = Box::pin(host.client().keychain().find(host.name(), host.path(), refused)).await?;
        *lock(&self.hint) = Some(found.hint());
        Ok(found)
    }

    /// Whether credentials for `host` may be sent to it and to `place`, its token service. If not, a refusal that comes
    /// of it says so.
    pub(crate) fn may_log_in(&self, host: &Host, place: &Url) -> bool {
        let Some(plain) = host.origin().into_iter().chain([place]).find(|url| !host.client().may_log_in_at(url)) else {
            return true;
        };
        let name = crate::wire::client::authority(plain);
        *lock(&self.hint) = Some(format!(
            "{name} speaks plain HTTP, over which the credentials for {} are not sent; --allow-insecure-registry={name} permits it there",
            host.name()
        ));
        false
    }

    /// Whether the host has asked for a login.
    pub(super) fn is_asking(&self) -> bool {
        lock(&self.demand).is_some()
    }

    /// The identity token that a token service has offered for the password.
    pub(crate) fn identity(&self) -> Option<String> {
        self.tokens.identity()
    }

    /// What to do about a refusal.
    pub(crate) fn hint(&self) -> Option<String> {
        lock(&self.hint).clone()
    }
}

/// The header of a login with name and password (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
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
