//! Bearer tokens (distribution, "Token Authentication"): fetched once a challenge asks, kept while they hold, one flight
//! for everybody who needs the same.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::answer::Answer;
use super::authority::basic;
use super::challenge::Challenge;
use super::client::lock;
use super::exchange::Login;
use super::host::Host;
use super::keychain::{Credentials, Found};
use super::request::{Payload, Request};
use super::scope::Scopes;
use crate::error::{Error, Kind, Result};

/// Largest answer of a token service that is read.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// How long a token holds that does not say so (the specification's word).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// How long before its end a token is not used any more, at most; a tenth of its life, if that is shorter.
const MARGIN: Duration = Duration::from_secs(30);

/// Who gives out tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    realm: Url,
    name: Option<String>,
}

impl Service {
    /// Reads a challenge. A service on plain HTTP is refused to a registry that speaks TLS: it would be shown passwords.
    pub(super) fn of(challenge: &Challenge, host: &Host) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Invalid, "log in").on(host.name()).because(why.to_owned());
        let realm = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
        let Some(realm) = realm.filter(|realm| matches!(realm.scheme(), "http" | "https") && realm.has_host()) else {
            return Err(wrong("the challenge names no token service"));
        };
        let is_plain_registry = host.origin().is_some_and(|origin| origin.scheme() == "http");
        if realm.scheme() == "http" && !is_plain_registry {
            return Err(wrong("the registry speaks TLS, its token service plain HTTP: no login is sent there"));
        }
        let name = challenge.parameter("service").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { realm, name })
    }
}

/// The tokens of one host.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<Vec<Arc<Slot>>>,
}

/// A token for one service and one set of scopes, or the place for it.
#[derive(Debug)]
struct Slot {
    service: Service,
    scopes: Scopes,
    path: String,
    /// Locked while the token is being fetched.
    flight: tokio::sync::Mutex<()>,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    until: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Slot {
    fn usable(&self) -> Option<String> {
        lock(&self.token).as_ref().filter(|token| Instant::now() < token.until).map(|token| token.text.clone())
    }
}

impl Tokens {
    /// A token for `scopes` that is not `stale`: one that is held, or a new one.
    pub(super) async fn get(
        &self,
        host: &Host,
        service: &Service,
        scopes: &Scopes,
        stale: Option<&str>,
        credentials: impl AsyncFnOnce() -> Result<Found>,
    ) -> Result<String> {
        if let Some(stale) = stale {
            self.forget(stale);
        }
        let slot = match self.place(service, scopes, host.path()) {
            Place::Held(token) => return Ok(token),
            Place::Slot(slot) => slot,
        };
        let _flight = slot.flight.lock().await;
        if let Some(token) = slot.usable() {
            return Ok(token);
        }
        let token = fetch(host, service, scopes, credentials().await?).await?;
        let text = token.text.clone();
        *lock(&slot.token) = Some(token);
        Ok(text)
    }

    fn place(&self, service: &Service, scopes: &Scopes, path: &str) -> Place {
        let mut slots = lock(&self.slots);
        // Credentials may differ from repository to repository, so a token is used for the one it was fetched for.
        let fits = |slot: &Arc<Slot>| slot.service == *service && slot.path == path;
        let covering = slots.iter().filter(|slot| fits(slot) && slot.scopes.covers(scopes));
        if let Some(token) = covering.into_iter().find_map(|slot| slot.usable()) {
            return Place::Held(token);
        }
        if let Some(slot) = slots.iter().find(|slot| fits(slot) && slot.scopes == *scopes) {
            return Place::Slot(Arc::clone(slot));
        }
        let slot = Arc::new(Slot {
            service: service.clone(),
            scopes: scopes.clone(),
            path: path.to_owned(),
            flight: tokio::sync::Mutex::default(),
            token: Mutex::default(),
        });
        slots.push(Arc::clone(&slot));
        Place::Slot(slot)
    }

    fn forget(&self, stale: &str) {
        for slot in lock(&self.slots).iter() {
            lock(&slot.token).take_if(|token| token.text == stale);
        }
    }
}

enum Place {
    Held(String),
    Slot(Arc<Slot>),
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    issued_at: Option<Timestamp>,
}

async fn fetch(host: &Host, service: &Service, scopes: &Scopes, found: Found) -> Result<Token> {
    let subject = format!("for {}/{}", host.name(), host.path());
    let (request, url, login) = match &found.credentials {
        Some(Credentials::Identity(token)) => (refresh(service, scopes, token, &subject), service.realm.clone(), None),
        Some(Credentials::Password { user, password }) => {
            let login = Login { header: basic(user, password)?, home: service.realm.clone() };
            let url = question(service, scopes, Some(user));
            (Request::at(Method::GET, url.clone(), "get token", &subject), url, Some(login))
        }
        None => {
            let url = question(service, scopes, None);
            (Request::at(Method::GET, url.clone(), "get token", &subject), url, None)
        }
    };
    tracing::debug!(host = host.name(), %scopes, "fetching a token");
    let request = request.header(ACCEPT, "application/json");
    let answer = host.follow(&request, url, login.as_ref()).await.map_err(|fault| fault.error)?;
    if answer.status().as_u16() != 200 {
        let mut problem = answer.problem().await;
        // Some services say 400 or 404 to scopes and users that they do not know.
        if problem.status.is_client_error() && !problem.kind.is_transient() {
            problem.kind = Kind::Denied;
        }
        return Err(problem.hint(found.hint()).into());
    }
    read(answer).await
}

/// `GET realm?service=…&scope=…`.
fn question(service: &Service, scopes: &Scopes, account: Option<&str>) -> Url {
    let mut url = service.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(name) = &service.name {
            query.append_pair("service", name);
        }
        for scope in scopes.entries() {
            query.append_pair("scope", &scope);
        }
        if let Some(account) = account {
            query.append_pair("account", account);
        }
    }
    url
}

/// `POST realm` with an identity token (distribution, "OAuth2 Token Authentication").
fn refresh(service: &Service, scopes: &Scopes, token: &str, subject: &str) -> Request {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("client_id", env!("CARGO_PKG_NAME"));
    form.append_pair("service", service.name.as_deref().unwrap_or_default());
    form.append_pair("scope", &scopes.to_string());
    form.append_pair("refresh_token", token);
    Request::at(Method::POST, service.realm.clone(), "get token", subject)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .carrying(Payload::Bytes(Bytes::from(form.finish())))
        .secretly()
}

async fn read(answer: Answer) -> Result<Token> {
    let wrong = answer.error(Kind::Invalid, "the token service's answer is not a token");
    let body = answer.bytes(MAX_TOKEN_BYTES).await?;
    let Ok(body) = serde_json::from_slice::<Body>(&body) else { return Err(wrong) };
    let life = life(body.expires_in, body.issued_at, Timestamp::now());
    let text = body.token.or(body.access_token).filter(|text| !text.is_empty()).ok_or(wrong)?;
    Ok(Token { text, until: Instant::now() + life })
}

/// How long a token may be used from now on.
fn life(expires_in: Option<u64>, issued_at: Option<Timestamp>, now: Timestamp) -> Duration {
    let whole = expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(Duration::from_secs(86_400));
    // The clocks need not agree: an age that cannot be is not believed.
    let age = issued_at
        .and_then(|issued| Duration::try_from(now.duration_since(issued)).ok())
        .filter(|age| *age < whole)
        .unwrap_or_default();
    (whole - age).saturating_sub(MARGIN.min(whole / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_up_before_its_end() {
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        let seconds =
            |expires, issued: Option<&str>| life(expires, issued.map(|text| text.parse().unwrap()), now).as_secs();
        assert_eq!(seconds(None, None), 54);
        assert_eq!(seconds(Some(3600), None), 3570);
        assert_eq!(seconds(Some(600), Some("2026-01-01T00:00:00Z")), 270);
        assert_eq!(seconds(Some(600), Some("2020-01-01T00:00:00Z")), 570, "a clock that is off is not believed");
        assert_eq!(seconds(Some(600), Some("2027-01-01T00:00:00Z")), 570);
        assert_eq!(seconds(Some(0), None), 0);
    }

    #[test]
    fn the_question_keeps_what_the_realm_asks_already() {
        let service =
            Service { realm: Url::parse("https://a.example/token?x=1").unwrap(), name: Some("r.example".into()) };
        let scopes = Scopes::push("a/b").and(&Scopes::pull("c"));
        assert_eq!(
            question(&service, &scopes, None).query(),
            Some("x=1&service=r.example&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull")
        );
    }
}
