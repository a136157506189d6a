//! Authentication: open, Basic (RFC 7617) against an htpasswd file, or the modes that tests of clients need: Basic with
//! one login, and Bearer with tokens of our own (distribution's "Token Authentication Specification").

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use base64::Engine as _;
use serde_json::json;

use super::error_response::ErrorResponse;
use super::profile::ServerAuth;
use super::query::Query;
use super::reply::json;
use super::route::Route;
use super::upload_quota::SessionOwner;
use crate::disk::reload::Reread;
use crate::http_server::acceptor::PeerAddress;
use crate::http_server::connection_slots::network;
use crate::http_server::password_check::{Logins, PasswordVerdict};

/// Most characters of a user name that are logged.
const MAX_LOGGED_CHARS: usize = 100;

const SERVICE: &str = "autonomy-registry";

/// Admits requests, or answers with a challenge.
#[derive(Debug)]
pub(super) struct Gate {
    auth: ServerAuth,
    /// `http://host:port` of the token endpoint in challenges.
    origin: String,
    tokens: Mutex<HashMap<String, Grant>>,
    /// Users of an htpasswd file; replaces `auth`.
    logins: Option<Logins>,
}

#[derive(Debug)]
struct Grant {
    until: Instant,
    scopes: Vec<Scope>,
}

/// `repository:<name>:<action>,<action>`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    name: String,
    actions: Vec<String>,
}

impl Gate {
    pub(super) fn new(auth: ServerAuth, origin: String, logins: Option<Logins>) -> Self {
        Self { auth, origin, tokens: Mutex::default(), logins }
    }

    /// Whether requests need no credentials.
    pub(super) fn is_open(&self) -> bool {
        self.logins.is_none() && self.auth == ServerAuth::None
    }

    /// Returns why the file of the users as it is now cannot be used.
    pub(super) async fn fault(&self, reread: Reread) -> Option<String> {
        self.logins.as_ref()?.fault(reread).await
    }

    /// Returns the owner that the request counts for, or 401 with a challenge.
    pub(super) async fn check(
        &self,
        head: &Parts,
        route: Option<&Route>,
        query: &Query,
    ) -> Result<SessionOwner, ErrorResponse> {
        let (method, headers) = (&head.method, &head.headers);
        let from = address_of(head);
        if let Some(logins) = &self.logins {
            return log_in(logins, headers, from).await;
        }
        let client = SessionOwner::Network(network(from));
        match &self.auth {
            ServerAuth::None => Ok(client),
            ServerAuth::Basic { user, password } if is_login(headers, user, password) => Ok(client),
            ServerAuth::Basic { .. } => Err(challenge(format!("Basic realm=\"{SERVICE}\""))),
            ServerAuth::Bearer { .. } => {
                let needed = needed(method, route, query);
                match self.granted(headers, &needed) {
                    true => Ok(client),
                    false => Err(challenge(self.bearer(&needed))),
                }
            }
        }
    }

    fn bearer(&self, needed: &[Scope]) -> String {
        let mut text = format!("Bearer realm=\"{}/token\",service=\"{SERVICE}\"", self.origin);
        if !needed.is_empty() {
            let scopes: Vec<_> = needed.iter().map(Scope::to_string).collect();
            text += &format!(",scope=\"{}\"", scopes.join(" "));
        }
        text
    }

    fn granted(&self, headers: &HeaderMap, needed: &[Scope]) -> bool {
        let Some(token) = credentials(headers, "Bearer") else { return false };
        let tokens = crate::sync::lock(&self.tokens);
        let Some(grant) = tokens.get(token).filter(|grant| grant.until > Instant::now()) else { return false };
        needed.iter().all(|need| {
            let covers = |scope: &Scope, action| scope.name == need.name && scope.actions.contains(action);
            need.actions.iter().all(|action| grant.scopes.iter().any(|scope| covers(scope, action)))
        })
    }

    /// Answers `GET /token?service=&scope=&scope=`: grants every requested scope once the login is right.
    pub(super) fn token(&self, headers: &HeaderMap, query: &Query) -> Result<Response<Body>, ErrorResponse> {
        let ServerAuth::Bearer { login, expires_in } = &self.auth else {
            return Err(ErrorResponse::unsupported("this registry gives no tokens"));
        };
        if let Some((user, password)) = login
            && !is_login(headers, user, password)
        {
            return Err(challenge(format!("Basic realm=\"{SERVICE}\"")));
        }
        // A client may send several scopes, or one parameter with several in it.
        let scopes = query.all("scope").flat_map(|text| text.split(' ')).filter_map(Scope::parse).collect();
        let token = self.issue(scopes, *expires_in)?;
        let seconds = expires_in.as_secs();
        Ok(json(&json!({ "token": token, "access_token": token, "expires_in": seconds })))
    }

    fn issue(&self, scopes: Vec<Scope>, expires_in: Duration) -> Result<String, ErrorResponse> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes)
            .map_err(|_| ErrorResponse::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "no randomness"))?;
        let token = hex::encode(bytes);
        let now = Instant::now();
        let mut tokens = crate::sync::lock(&self.tokens);
        tokens.retain(|_, grant| grant.until > now);
        tokens.insert(token.clone(), Grant { until: now + expires_in, scopes });
        Ok(token)
    }
}

impl Scope {
    fn new(name: impl ToString, actions: &[&str]) -> Self {
        Self { name: name.to_string(), actions: actions.iter().map(ToString::to_string).collect() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(Self::new(name, &actions.split(',').collect::<Vec<_>>()))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "repository:{}:{}", self.name, self.actions.join(","))
    }
}

/// Returns the scopes that a request needs. A mount also needs to read the other repository.
fn needed(method: &Method, route: Option<&Route>, query: &Query) -> Vec<Scope> {
    let actions: &[&str] = match method.as_str() {
        "GET" | "HEAD" => &["pull"],
        "DELETE" => &["delete"],
        _ => &["pull", "push"],
    };
    match route {
        Some(Route::Uploads(name)) => {
            let from = query.get("from").map(|from| Scope::new(from, &["pull"]));
            [Scope::new(name, actions)].into_iter().chain(from).collect()
        }
        // Cancelling an upload and asking for its status are part of pushing.
        Some(Route::Upload(name, _)) => vec![Scope::new(name, &["pull", "push"])],
        Some(Route::Blob(name, _) | Route::Manifest(name, _) | Route::Tags(name) | Route::Referrers(name, _)) => {
            vec![Scope::new(name, actions)]
        }
        _ => Vec::new(),
    }
}

async fn log_in(logins: &Logins, headers: &HeaderMap, from: IpAddr) -> Result<SessionOwner, ErrorResponse> {
    let refused = || challenge(format!("Basic realm=\"{SERVICE}\", charset=\"UTF-8\""));
    let sent = basic(headers).ok_or_else(refused)?;
    let text = String::from_utf8(sent).map_err(|_| refused())?;
    let (user, password) = text.split_once(':').ok_or_else(refused)?;
    match logins.check(user, password, network(from)).await? {
        PasswordVerdict::Right => Ok(SessionOwner::User(user.into())),
        PasswordVerdict::Wrong => {
            tracing::warn!(user = quoted(user), %from, "login refused");
            Err(refused())
        }
        PasswordVerdict::Busy => {
            Err(ErrorResponse::too_many("too many logins are being checked; try again in a second", 1))
        }
    }
}

/// Formats a name for a log line: in quotes, with everything escaped that could end them or begin another field or
/// line.
fn quoted(name: &str) -> tracing::field::DebugValue<String> {
    tracing::field::debug(name.chars().take(MAX_LOGGED_CHARS).collect())
}

fn challenge(text: String) -> ErrorResponse {
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
        .with(header::WWW_AUTHENTICATE, text)
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (found, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

/// Returns the decoded credentials of `Authorization: Basic`: user, colon, password.
fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    credentials(headers, "Basic").and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
}

fn is_login(headers: &HeaderMap, user: &str, password: &str) -> bool {
    let sent = basic(headers);
    let right = format!("{user}:{password}");
    // Hashed first, so that the time of the comparison reveals nothing about the password.
    sent.is_some_and(|sent| crate::oci::Digest::sha256(&sent) == crate::oci::Digest::sha256(right.as_bytes()))
}

/// Returns the user name of a request's `Authorization: Basic`.
pub(super) fn named_user(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8(basic(headers)?).ok()?;
    text.split_once(':').map(|(user, _)| user.to_owned())
}

/// Returns the address that a request comes from.
pub(super) fn address_of(head: &Parts) -> IpAddr {
    head.extensions.get::<PeerAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// Returns the network that a request comes from.
pub(super) fn network_of(head: &Parts) -> IpAddr {
    network(address_of(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_log_is_one_field_of_one_line() {
        let name = "ann from=10.0.0.1 \"x\"\nERROR\u{1b}[2J\u{2028}\u{202e}\u{200b}\u{feff}";
        let told = format!("{:?}", quoted(name));
        assert_eq!(told, r#""ann from=10.0.0.1 \"x\"\nERROR\u{1b}[2J\u{2028}\u{202e}\u{200b}\u{feff}""#);
        assert_eq!(format!("{:?}", quoted(&"x".repeat(10_000))).len(), MAX_LOGGED_CHARS + 2);
    }
}
