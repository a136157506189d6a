//! The logins of one host: the challenge that it sent, and the credentials or token that answer it.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use tokio::time::Instant;
use url::Url;

use super::challenge::{self, Challenge};
use super::lookup::Lookup;
use super::token::{TokenPass, TokenRequest, TokenService, Tokens};
use crate::error::{Error, Kind, Result};
use crate::keychain::{Credentials, Keychain};
use crate::sync::lock;
use crate::wire::exchange::{BoundLogin, Endpoint};
use crate::wire::header;
use crate::wire::response::Response;
use crate::wire::scope::Scopes;

/// The logins of one host.
#[derive(Debug)]
pub(crate) struct Authenticator {
    /// The host's last challenge. No login is sent before there is one.
    demand: Mutex<Option<Demand>>,
    tokens: Tokens,
    lookup: Lookup,
}

#[derive(Debug, Clone)]
enum Demand {
    Basic,
    Bearer(TokenService),
}

/// A login that a request carried.
pub(crate) struct ShownLogin {
    pub(crate) login: BoundLogin,
    /// The token, if the login was one: it may have expired.
    token: Option<TokenPass>,
    /// The credentials, if they were sent themselves: a helper may have newer ones by now.
    credentials: Option<Credentials>,
}

impl ShownLogin {
    /// Returns whether a refusal may be due to the token's age alone: it was fetched earlier, or the request took
    /// longer than its lifetime.
    pub(crate) fn may_be_over(&self) -> bool {
        self.token.as_ref().is_some_and(|pass| !pass.is_fresh || pass.until <= Instant::now())
    }
}

/// Returns all challenges of a response.
pub(crate) fn challenges(answer: &Response) -> Vec<Challenge> {
    let values = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

impl Authenticator {
    pub(crate) fn new(keychain: &Arc<Keychain>) -> Self {
        Self { demand: Mutex::default(), tokens: Tokens::default(), lookup: Lookup::new(keychain) }
    }

    /// Returns the login for a request, if the host is known to require one.
    pub(crate) async fn login(&self, host: &Endpoint, scopes: &Scopes) -> Result<Option<ShownLogin>> {
        let demand = lock(&self.demand).clone();
        match demand {
            None => Ok(None),
            Some(Demand::Basic) => self.basic(host, None).await,
            Some(Demand::Bearer(service)) => {
                let wish = TokenRequest { service: &service, scopes, stale: None };
                self.bearer(host, &wish).await.map(Some)
            }
        }
    }

    /// Returns the login to send after a 401, or `None` if there is nothing left to try.
    pub(crate) async fn meet(
        &self,
        host: &Endpoint,
        challenges: &[Challenge],
        scopes: &Scopes,
        refused: Option<ShownLogin>,
    ) -> Result<Option<ShownLogin>> {
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            let service = TokenService::of(challenge, host)?;
            *lock(&self.demand) = Some(Demand::Bearer(service.clone()));
            let stale = refused.as_ref().and_then(|shown| Some(shown.token.as_ref()?.token.as_str()));
            let wish = TokenRequest { service: &service, scopes, stale };
            return self.bearer(host, &wish).await.map(Some);
        }
        if of("basic").is_some() {
            *lock(&self.demand) = Some(Demand::Basic);
            let refused = refused.and_then(|shown| shown.credentials);
            let found = self.basic(host, refused.as_ref()).await?;
            // The same credentials would be refused again.
            return Ok(found.filter(|found| refused.is_none() || found.credentials != refused));
        }
        let known: Vec<_> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        if !known.is_empty() {
            let schemes = crate::wire::problem::shown(&known.join(", "));
            let hint = format!("the registry wants a login by {schemes}, and only Basic and Bearer are known here");
            self.lookup.advise(hint);
        }
        Ok(None)
    }

    async fn basic(&self, host: &Endpoint, refused: Option<&Credentials>) -> Result<Option<ShownLogin>> {
        match self.lookup.credentials(host, refused).await?.credentials {
            Some(Credentials::Password { .. }) if !self.lookup.may_log_in(host, &home(host)?) => {
                let error = Error::new(Kind::Denied, "log in to").on(host.name());
                Err(error.because("no credentials are sent over plain HTTP").hint(self.hint().unwrap_or_default()))
            }
            Some(Credentials::Password { user, password }) => {
                let login = BoundLogin { header: header::basic(&user, &password)?, home: home(host)? };
                let credentials = Some(Credentials::Password { user, password });
                Ok(Some(ShownLogin { login, token: None, credentials }))
            }
            // An identity token is for token services, a registry token for registries that have a token service.
            Some(Credentials::Identity(_) | Credentials::Token(_)) | None => Ok(None),
        }
    }

    async fn bearer(&self, host: &Endpoint, wish: &TokenRequest<'_>) -> Result<ShownLogin> {
        let pass = self.tokens.get(host, wish, &self.lookup).await?;
        let login = BoundLogin { header: header::bearer(&pass.token)?, home: home(host)? };
        Ok(ShownLogin { login, token: Some(pass), credentials: None })
    }

    /// Returns whether the host has asked for a login.
    pub(crate) fn is_asking(&self) -> bool {
        lock(&self.demand).is_some()
    }

    /// Returns the identity token that a token service has offered for the password.
    pub(crate) fn identity(&self) -> Option<String> {
        self.tokens.identity()
    }

    /// Returns what the operator can do about a refusal.
    fn hint(&self) -> Option<String> {
        self.lookup.hint()
    }

    /// Returns what the operator can do about an answer with `status`, as far as the login matters.
    pub(crate) fn hint_for(&self, status: StatusCode) -> Option<String> {
        self.lookup.hint_for(status)
    }
}

fn home(host: &Endpoint) -> Result<Url> {
    host.origin().cloned().ok_or_else(|| Error::new(Kind::Invalid, "log in").on(host.name()))
}
