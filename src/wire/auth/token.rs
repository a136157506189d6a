//! Bearer tokens (distribution, "Token Authentication"): fetched after a challenge, kept while they are valid; callers
//! that need the same token share one fetch.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, DATE};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::challenge::Challenge;
use super::lookup::Lookup;
use crate::error::{Error, Kind, Result};
use crate::keychain::{Credentials, Found};
use crate::retry::Retry;
use crate::sync::lock;
use crate::wire::exchange::{BoundLogin, Endpoint};
use crate::wire::header::{basic, moment};
use crate::wire::request::{Payload, Request};
use crate::wire::response::Response;
use crate::wire::scope::Scopes;

/// Largest answer of a token service that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Lifetime of a token that does not give one (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Longest lifetime that is believed, whatever the token says.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

/// How long before its expiry a token is no longer used, at most; a tenth of its lifetime, if that is shorter.
const MARGIN: Duration = Duration::from_secs(30);

/// A token service, as a challenge names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenService {
    realm: Url,
    name: Option<String>,
}

impl TokenService {
    /// Reads a challenge. Rejects a plain-HTTP service for a registry that speaks TLS: it would receive passwords.
    pub(crate) fn of(challenge: &Challenge, host: &Endpoint) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Invalid, "log in").on(host.name()).because(why.to_owned());
        let realm = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
        // A name and password inside the address would be sent instead of ours.
        let is_usable = |realm: &Url| {
            matches!(realm.scheme(), "http" | "https") && realm.has_host() && !crate::wire::header::holds_login(realm)
        };
        let Some(realm) = realm.filter(is_usable) else {
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
pub(crate) struct Tokens {
    /// By path: credentials may differ between repositories, so a token is used only for the repository that it was
    /// fetched for.
    repositories: Mutex<HashMap<String, RepositoryTokens>>,
    /// Identity tokens that the service has given, by the identity token that was sent for them; the key is empty for a
    /// password.
    identities: Mutex<HashMap<String, String>>,
}

#[derive(Debug, Default)]
struct RepositoryTokens {
    slots: Vec<Arc<TokenSlot>>,
}

/// A token for one service and one set of scopes, or the slot for it.
#[derive(Debug)]
struct TokenSlot {
    service: TokenService,
    scopes: Scopes,
    /// Locked while the token is being fetched; holds the error of the last fetch if it failed.
    flight: tokio::sync::Mutex<Option<Error>>,
    /// Number of fetches that have ended.
    flights: AtomicU64,
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

/// A token to send.
pub(crate) struct TokenPass {
    pub(crate) token: String,
    /// Whether it was fetched just now; if not, it may be about to expire.
    pub(crate) is_fresh: bool,
    /// When it expires.
    pub(crate) until: Instant,
}

/// A request for a token.
pub(crate) struct TokenRequest<'a> {
    pub(crate) service: &'a TokenService,
    /// The scopes that the request needs.
    pub(crate) scopes: &'a Scopes,
    /// The token that was refused.
    pub(crate) stale: Option<&'a str>,
}

impl TokenSlot {
    fn usable(&self) -> Option<Token> {
        lock(&self.token).as_ref().filter(|token| Instant::now() < token.until).cloned()
    }
}

impl Tokens {
    /// Returns a token that covers `wish`: a cached one, one that another caller is fetching, or a new one.
    ///
    /// `lookup` finds the credentials to send for it.
    pub(super) async fn get(&self, host: &Endpoint, wish: &TokenRequest<'_>, lookup: &Lookup) -> Result<TokenPass> {
        let slot = match self.place(wish, &host.path) {
            TokenPlace::Held(Token { text, until }) => return Ok(TokenPass { token: text, is_fresh: false, until }),
            TokenPlace::Slot(slot) => slot,
        };
        let before = slot.flights.load(Ordering::Acquire);
        let mut flight = slot.flight.lock().await;
        if let Some(Token { text, until }) = slot.usable() {
            return Ok(TokenPass { token: text, is_fresh: true, until });
        }
        if slot.flights.load(Ordering::Acquire) != before
            && let Some(failure) = &*flight
        {
            // Another caller fetched this token while we waited; share its failure.
            return Err(failure.clone());
        }
        // Boxed because it is rare: keeps callers' futures small.
        let fetched = Box::pin(self.fetch_with(host, &slot, lookup)).await;
        slot.flights.fetch_add(1, Ordering::Release);
        *flight = fetched.as_ref().err().cloned();
        let token = fetched?;
        *lock(&slot.token) = Some(token.clone());
        Ok(TokenPass { token: token.text, is_fresh: true, until: token.until })
    }

    /// Fetches with the known credentials, and once more with newer ones if those are refused.
    async fn fetch_with(&self, host: &Endpoint, slot: &TokenSlot, lookup: &Lookup) -> Result<Token> {
        let mut found = lookup.credentials(host, None).await?;
        if found.credentials.is_some() && !lookup.may_log_in(host, &slot.service.realm) {
            found.credentials = None;
            return self.fetch(host, slot, &found, lookup).await;
        }
        if let Some(Credentials::Token(text)) = found.credentials {
            return Ok(Token { text, until: Instant::now() + LONGEST_LIFE });
        }
        let refused = match self.fetch(host, slot, &found, lookup).await {
            Err(error) if error.kind() == Kind::Denied && found.credentials.is_some() => error,
            fetched => return fetched,
        };
        let newer = lookup.credentials(host, found.credentials.as_ref()).await?;
        if newer.credentials == found.credentials {
            return Err(refused);
        }
        self.fetch(host, slot, &newer, lookup).await
    }

    fn place(&self, wish: &TokenRequest<'_>, path: &str) -> TokenPlace {
        let mut repositories = lock(&self.repositories);
        let RepositoryTokens { slots } = repositories.entry(path.to_owned()).or_default();
        if let Some(stale) = wish.stale {
            for slot in slots.iter() {
                lock(&slot.token).take_if(|token| token.text == stale);
            }
        }
        let scopes = wish.scopes;
        let fits = |slot: &&Arc<TokenSlot>| slot.service == *wish.service;
        let mut covering = slots.iter().filter(fits).filter(|slot| slot.scopes.covers(scopes));
        if let Some(token) = covering.find_map(|slot| slot.usable()) {
            return TokenPlace::Held(token);
        }
        if let Some(slot) = slots.iter().filter(fits).find(|slot| slot.scopes == *scopes) {
            return TokenPlace::Slot(Arc::clone(slot));
        }
        let slot = Arc::new(TokenSlot {
            service: wish.service.clone(),
            scopes: scopes.clone(),
            flight: tokio::sync::Mutex::default(),
            flights: AtomicU64::default(),
            token: Mutex::default(),
        });
        slots.push(Arc::clone(&slot));
        TokenPlace::Slot(slot)
    }

    /// Returns the identity token that was offered for a password.
    pub(crate) fn identity(&self) -> Option<String> {
        lock(&self.identities).get("").cloned()
    }

    /// Fetches with `found`, and once more if the answer is not a token: no digest covers it, and a bit may flip in
    /// transit.
    async fn fetch(&self, host: &Endpoint, slot: &TokenSlot, found: &Found, lookup: &Lookup) -> Result<Token> {
        let retry = host.retry;
        let tries = Retry { attempts: retry.attempts.min(2), ..retry }.start();
        let counters = Arc::clone(&host.counters);
        let mut tries = tries.counted(move || counters.retry());
        loop {
            match self.fetch_once(host, slot, found, lookup).await? {
                Ok(token) => return Ok(token),
                Err(no_token) => tries.wait(no_token).await?,
            }
        }
    }

    /// Fetches once. An inner error means that the answer is not a token.
    async fn fetch_once(
        &self,
        host: &Endpoint,
        slot: &TokenSlot,
        found: &Found,
        lookup: &Lookup,
    ) -> Result<Result<Token>> {
        let TokenSlot { service, scopes, .. } = slot;
        let subject = format!("for {}/{}", host.name(), host.path);
        let subject = subject.trim_end_matches('/');
        let get = |url: &Url| Request::at(Method::GET, url.clone(), "get token", subject);
        let mut shown = "";
        let (request, url, login) = match &found.credentials {
            Some(Credentials::Identity(token)) => {
                shown = token;
                // The service may have replaced it since it was stored.
                let newest = lock(&self.identities).get(shown).cloned().unwrap_or_else(|| token.clone());
                (refresh(service, scopes, &newest, subject), service.realm.clone(), None)
            }
            Some(Credentials::Password { user, password }) => {
                let login = BoundLogin { header: basic(user, password)?, home: service.realm.clone() };
                let url = question(service, scopes, Some(user), found.wants_identity);
                (get(&url), url, Some(login))
            }
            // A registry token means nothing to the token service.
            Some(Credentials::Token(_)) | None => {
                let url = question(service, scopes, None, false);
                (get(&url), url, None)
            }
        };
        tracing::debug!(host = host.name(), %scopes, "fetching a token");
        let request = request.header(ACCEPT, "application/json");
        let answer = host.follow(&request, url, login.as_ref()).await.map_err(|fault| fault.error)?;
        if answer.status().as_u16() != 200 {
            let mut problem = answer.problem().await;
            // Some services answer 400 or 404 to scopes and users that they do not know.
            if problem.status.is_client_error() && !problem.kind.is_transient() {
                problem.kind = Kind::Denied;
            }
            let hint = lookup.hint_for(problem.status).or_else(|| lookup.hint()).unwrap_or_else(|| found.hint());
            return Err(problem.hint(hint).into());
        }
        let wrong = answer.error(Kind::Invalid, "the token service's answer is not a token");
        let Some((token, identity)) = read(answer).await? else { return Ok(Err(wrong)) };
        if let Some(identity) = identity {
            lock(&self.identities).insert(shown.to_owned(), identity);
        }
        Ok(Ok(token))
    }
}

enum TokenPlace {
    Held(Token),
    Slot(Arc<TokenSlot>),
}

#[derive(Deserialize)]
struct TokenBody {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    // Optional fields may have any type: a service with odd timestamps still gives tokens.
    #[serde(default)]
    expires_in: serde_json::Value,
    #[serde(default)]
    issued_at: serde_json::Value,
}

/// Builds `GET realm?service=…&scope=…`.
fn question(service: &TokenService, scopes: &Scopes, account: Option<&str>, wants_identity: bool) -> Url {
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
        if wants_identity {
            query.append_pair("client_id", env!("CARGO_PKG_NAME")).append_pair("offline_token", "true");
        }
    }
    url
}

/// Builds `POST realm` with an identity token (distribution, "OAuth2 Token Authentication").
fn refresh(service: &TokenService, scopes: &Scopes, token: &str, subject: &str) -> Request {
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

/// Returns the token of an answer, and the identity token that came with it; `None` if there is no token.
async fn read(answer: Response) -> Result<Option<(Token, Option<String>)>> {
    let sent_at = answer.header(DATE.as_str()).and_then(moment);
    let body = answer.bytes(MAX_TOKEN_BYTES).await?;
    let Ok(body) = serde_json::from_slice::<TokenBody>(&body) else { return Ok(None) };
    let issued_at = body.issued_at.as_str().and_then(|text| text.parse().ok());
    let life = life(body.expires_in.as_u64(), issued_at, sent_at);
    let filled = |text: &String| !text.is_empty();
    let Some(text) = body.token.filter(filled).or(body.access_token).filter(filled) else { return Ok(None) };
    Ok(Some((Token { text, until: Instant::now() + life }, body.refresh_token.filter(filled))))
}

/// Returns how long a token may be used from now on. `issued_at` and `sent_at` are by the peer's clock; this machine's
/// may differ by minutes, as clocks of sites without a network do.
fn life(expires_in: Option<u64>, issued_at: Option<Timestamp>, sent_at: Option<Timestamp>) -> Duration {
    let told = expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let whole = told.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE);
    // An impossible age is ignored.
    let age = issued_at
        .zip(sent_at)
        .and_then(|(issued, sent)| Duration::try_from(sent.duration_since(issued)).ok())
        .filter(|age| *age < whole)
        .unwrap_or_default();
    (whole - age).saturating_sub(MARGIN.min(whole / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_up_before_its_end() {
        let sent: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        let seconds = |expires, issued: Option<&str>| {
            life(expires, issued.map(|text| text.parse().unwrap()), Some(sent)).as_secs()
        };
        assert_eq!(seconds(None, None), 54);
        assert_eq!(seconds(Some(3600), None), 3570);
        assert_eq!(seconds(Some(600), Some("2026-01-01T00:00:00Z")), 270);
        assert_eq!(seconds(Some(600), Some("2020-01-01T00:00:00Z")), 570, "a clock that is off is not believed");
        assert_eq!(seconds(Some(600), Some("2027-01-01T00:00:00Z")), 570);
        assert_eq!(seconds(Some(0), None), 54, "nothing is given out that is over already");
        assert_eq!(seconds(Some(u64::MAX), None), 86_370);
        let old = life(Some(600), "2026-01-01T00:00:00Z".parse().ok(), None).as_secs();
        assert_eq!(old, 570, "without the peer's clock its times say nothing");
    }

    #[test]
    fn the_question_keeps_what_the_realm_asks_already() {
        let service =
            TokenService { realm: Url::parse("https://a.example/token?x=1").unwrap(), name: Some("r.example".into()) };
        let scopes = Scopes::push("a/b").and(&Scopes::pull("c"));
        assert_eq!(
            question(&service, &scopes, None, false).query(),
            Some("x=1&service=r.example&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull")
        );
    }
}
