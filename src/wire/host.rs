//! A host: its scheme, its logins, and everything else known about it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use url::Url;

use super::address::{host_port, is_same_origin};
use super::auth::authenticator::{Authenticator, challenges};
use super::cleanup::Cleanup;
use super::connect::Connections;
use super::connect::connector::CONNECT;
use super::connect::failure::{Class, ExchangeFault};
use super::exchange::{BoundLogin, Endpoint, PeerFacts};
use super::flow::stats::{Counters, Stats};
use super::flow::throttle::{RequestClass, Throttle};
use super::request::{Payload, Request, RequestTarget};
use super::response::Response;
use crate::error::{Error, Kind, Result};
use crate::keychain::Keychain;
use crate::retry::{Outages, Retry, Tries};
use crate::sync::lock;

/// Longest silence after a TLS hello from a host that should speak plain HTTP.
const HELLO: Duration = Duration::from_secs(3);

/// The known state of a host, for the length of a run.
#[derive(Debug)]
pub(super) struct PeerState {
    facts: Arc<PeerFacts>,
    /// Held during the very first request: concurrent requests learn from it which scheme the host speaks and whether
    /// it requires a login.
    first: tokio::sync::Mutex<()>,
    is_past_first: AtomicBool,
    /// Held for reading during a TLS hello. Only a holder of the write lock chooses plain HTTP, so it knows the results
    /// of all other hellos.
    hellos: tokio::sync::RwLock<()>,
    authenticator: Authenticator,
    throttle: Throttle,
    notes: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl PeerState {
    pub(super) fn new(name: &str, keychain: &Arc<Keychain>, outages: &Outages) -> Arc<Self> {
        let (speed, counters, contact) = (Arc::default(), Arc::default(), outages.contact(name));
        let facts = PeerFacts { name: name.into(), base: OnceLock::new(), speed, counters, contact };
        Arc::new(Self {
            facts: Arc::new(facts),
            first: tokio::sync::Mutex::default(),
            is_past_first: AtomicBool::new(false),
            hellos: tokio::sync::RwLock::default(),
            authenticator: Authenticator::new(keychain),
            throttle: Throttle::default(),
            notes: Mutex::default(),
        })
    }

    pub(super) fn tally(&self) -> Stats {
        self.facts.counters.tally()
    }
}

/// A host, for requests of one repository. Clones share their counters.
#[derive(Debug, Clone)]
pub struct Host {
    peer: Arc<PeerState>,
    endpoint: Arc<Endpoint>,
    cleanup: Arc<Cleanup>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlScheme {
    Http,
    Https,
}

impl Host {
    pub(super) fn new(
        peer: &Arc<PeerState>,
        path: &str,
        connections: &Arc<Connections>,
        retry: Retry,
        cleanup: &Arc<Cleanup>,
    ) -> Self {
        let endpoint = Endpoint {
            connections: Arc::clone(connections),
            peer: Arc::clone(&peer.facts),
            path: path.into(),
            retry,
            counters: Counters::below(&peer.facts.counters),
        };
        Self { peer: Arc::clone(peer), endpoint: Arc::new(endpoint), cleanup: Arc::clone(cleanup) }
    }

    /// Returns `host[:port]`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.endpoint.name()
    }

    /// Returns whether the host turned out to speak plain HTTP; false before the first request.
    #[must_use]
    pub fn speaks_plain_http(&self) -> bool {
        self.endpoint.origin().is_some_and(|base| base.scheme() == "http")
    }

    /// Returns whether credentials may be sent to the host over the scheme that it speaks; true before the first
    /// request.
    #[must_use]
    pub fn may_log_in(&self) -> bool {
        self.endpoint.origin().is_none_or(|origin| self.connections().may_log_in_at(origin))
    }

    /// Returns the counts of requests and bytes of this handle and its clones.
    #[must_use]
    pub fn tally(&self) -> Stats {
        self.endpoint.counters.tally()
    }

    /// Returns another module's state for this host, created at the first call: one per type, shared by all handles.
    #[must_use]
    pub fn notes<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        let mut notes = lock(&self.peer.notes);
        let note = Arc::clone(notes.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())));
        // The key is the type: the default is never used.
        note.downcast().unwrap_or_default()
    }

    /// Runs `work` in the background: cleanup at the host, which [`Client::settle`](super::Client::settle) waits for.
    pub fn tidy(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.cleanup.spawn(work);
    }

    /// Runs an operation on this host; retries it if it fails in a way that `again` accepts.
    ///
    /// # Errors
    ///
    /// Fails as the last attempt does.
    pub async fn retrying<T, F, Fut>(&self, again: fn(&Error) -> bool, attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        self.tries().run(again, attempt).await
    }

    /// Starts the tries of an operation.
    #[must_use]
    pub fn tries(&self) -> Tries {
        let counters = Arc::clone(&self.endpoint.counters);
        self.endpoint.retry.start().counted(move || counters.retry())
    }

    /// Records that content moves to or from this host.
    pub fn content_moved(&self) {
        self.endpoint.peer.contact.content_moved();
    }

    /// Sends a request once, with the login that the host requires, and follows redirects.
    ///
    /// Any answer is a success here, also a refusal: the caller knows which ones it expects.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](Kind::Unavailable) without an answer; [`Usage`](Kind::Usage) for a plain-HTTP registry that is
    /// not permitted; [`Denied`](Kind::Denied) if there is no token; [`Invalid`](Kind::Invalid) for a certificate that
    /// does not verify. Errors of the request's body are returned unchanged.
    pub async fn send(&self, request: &Request) -> Result<Response> {
        let class = if matches!(request.payload, Payload::Stream { .. }) {
            RequestClass::Upload
        } else {
            RequestClass::Question
        };
        let slot = self.peer.throttle.enter(class).await;
        let answer = self.greet(request).await?;
        if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // A Retry-After longer than we would wait does not slow other requests.
            let longest = self.endpoint.retry.longest_requested;
            slot.refused(answer.requested_pause().filter(|pause| *pause <= longest));
        } else {
            slot.answered();
        }
        Ok(answer)
    }

    /// Sends a request; the very first one to a host runs alone.
    async fn greet(&self, request: &Request) -> Result<Response> {
        if !self.peer.is_past_first.load(Ordering::Acquire) {
            let _first = self.peer.first.lock().await;
            if !self.peer.is_past_first.load(Ordering::Acquire) {
                let answer = self.authorized(request).await;
                self.peer.is_past_first.store(true, Ordering::Release);
                return answer;
            }
        }
        self.authorized(request).await
    }

    async fn authorized(&self, request: &Request) -> Result<Response> {
        let authenticator = &self.peer.authenticator;
        let mut shown = authenticator.login(&self.endpoint, &request.scopes).await?;
        let mut answer = self.routed(request, shown.as_ref().map(|shown| &shown.login)).await?;
        // Once with another login; and once more if that was a token that may have expired when the request arrived.
        for _ in 0..2 {
            if !self.is_challenge(&answer) {
                break;
            }
            let asked = challenges(&answer);
            let Some(next) = authenticator.meet(&self.endpoint, &asked, &request.scopes, shown).await? else { break };
            answer.discard().await;
            answer = self.routed(request, Some(&next.login)).await?;
            if !next.may_be_over() {
                break;
            }
            shown = Some(next);
        }
        let hint = authenticator.hint_for(answer.status());
        Ok(answer.hinting(hint))
    }

    /// Returns whether the answer asks for a login: this host's own 401, not that of a redirect's target.
    fn is_challenge(&self, answer: &Response) -> bool {
        answer.status() == StatusCode::UNAUTHORIZED
            && self.endpoint.origin().is_some_and(|base| is_same_origin(base, answer.url()))
    }

    /// Sends over the scheme that the host speaks. If it is unknown, tries a TLS hello first, and plain HTTP only where
    /// that is permitted.
    async fn routed(&self, request: &Request, login: Option<&BoundLogin>) -> Result<Response> {
        if let Some(base) = self.endpoint.origin() {
            // A token may have come from its own service, over TLS.
            if login.is_some() && base.scheme() == "http" {
                self.never_spoke_tls(Kind::Invalid)?;
            }
            return self
                .endpoint
                .follow(request, self.url(base, &request.target)?, login)
                .await
                .map_err(|fault| fault.error);
        }
        if let RequestTarget::Url(url) = &request.target {
            // A host that has answered before gave out this URL, so this cannot be the first request.
            return self.endpoint.follow(request, url.clone(), login).await.map_err(|fault| fault.error);
        }
        let base = self.base(UrlScheme::Https)?;
        let hello = {
            let _under_way = self.peer.hellos.read().await;
            self.hello(request, &base).await
        };
        let Err(no_tls) = hello else {
            return self.first(request, base, login).await.map_err(|fault| fault.error);
        };
        // Counts as a request: an attempt that found no registry.
        let no_tls = self.fall_back(&base, no_tls).await.inspect_err(|_| self.endpoint.counters.request())?;
        match self.first(request, self.base(UrlScheme::Http)?, login).await {
            // A host that answers neither TLS nor plain HTTP correctly is down: report the TLS error.
            Err(fault) if fault.class == Class::NotHttp && no_tls.class == Class::Unanswered => Err(no_tls.error),
            answered => answered.map_err(|fault| fault.error),
        }
    }

    /// Makes a TLS connection, for the first request to use.
    async fn hello(&self, request: &Request, base: &Url) -> Result<(), ExchangeFault> {
        let silence = if self.connections().expects_plain_http(base) { HELLO } else { CONNECT };
        let pool = self.connections().pool(base).await.map_err(|why| why.hint("check --ca-file and certs.d"))?;
        let begun = Instant::now();
        pool.greet(silence).await.map_err(|why| self.endpoint.fault(&why, request, base, begun))
    }

    /// Sends the first request. If it is answered, `base` becomes the host's scheme. For plain HTTP, only if the host
    /// has not spoken TLS meanwhile: otherwise a man in the middle could have answered, and would get logins.
    async fn first(&self, request: &Request, base: Url, login: Option<&BoundLogin>) -> Result<Response, ExchangeFault> {
        let answer = self.endpoint.follow(request, self.url(&base, &request.target)?, login).await?;
        let answer = wants_tls(request, answer, &base).await?;
        let mut decided = None;
        if base.scheme() == "http" {
            decided = Some(self.peer.hellos.write().await);
            self.never_spoke_tls(Kind::Unavailable)?;
        }
        // Another request may have been quicker; both have reached the same peer.
        let _ = self.peer.facts.base.set(base);
        drop(decided);
        Ok(answer)
    }

    /// Returns the error of a TLS hello, if plain HTTP is to be tried after it.
    ///
    /// # Errors
    ///
    /// The error to report about the host otherwise.
    async fn fall_back(&self, base: &Url, no_tls: ExchangeFault) -> Result<ExchangeFault> {
        let name = self.name();
        let is_plain = no_tls.class == Class::SpeaksPlain;
        let is_permitted = self.connections().permits_plain_http(base);
        let may = may_fall_back(no_tls.class, base.port().is_some(), self.connections().expects_plain_http(base));
        if is_plain && !is_permitted {
            return Err(self.unpermitted());
        }
        if !may || !is_permitted {
            return Err(match no_tls.class {
                Class::Unanswered => no_tls.error.hint(format!(
                    "if it speaks plain HTTP, --allow-insecure-registry={name} permits that, and tries it after such a hello"
                )),
                _ => no_tls.error,
            });
        }
        let kind = if is_plain { Kind::Invalid } else { Kind::Unavailable };
        let tls = self.connections().tls();
        if let Some(folder) = tls.set_up_in(name).or_else(|| tls.set_up_in(&host_port(base))) {
            return Err(self.needs_tls(kind, &format!("for which {} has files", folder.display())));
        }
        let _decided = self.peer.hellos.write().await;
        self.never_spoke_tls(kind)?;
        Ok(no_tls)
    }

    /// Fails if the host has spoken TLS in this run.
    fn never_spoke_tls(&self, kind: Kind) -> Result<()> {
        if self.connections().has_spoken_tls(&self.base(UrlScheme::Https)?) {
            return Err(self.needs_tls(kind, "which it has spoken before"));
        }
        Ok(())
    }

    fn needs_tls(&self, kind: Kind, why: &str) -> Error {
        let error = Error::new(kind, "contact").on(self.name());
        let error = error.because(format!("no TLS, {why}: plain HTTP is not spoken with such a host"));
        error.hint("--allow-insecure-registry does not excuse a host with TLS that answers otherwise")
    }

    fn unpermitted(&self) -> Error {
        let name = self.name();
        Error::new(Kind::Usage, "contact")
            .on(name)
            .because("plain-HTTP registry refused; --allow-insecure-registry permits it")
            .hint(format!("--allow-insecure-registry={name} permits it there alone"))
    }

    fn base(&self, scheme: UrlScheme) -> Result<Url> {
        let scheme = if scheme == UrlScheme::Http { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{}/", self.name()))
            .map_err(|why| Error::new(Kind::Usage, "contact").on(self.name()).because(format!("not a host: {why}")))
    }

    fn url(&self, base: &Url, target: &RequestTarget) -> Result<Url> {
        match target {
            RequestTarget::Url(url) => Ok(url.clone()),
            RequestTarget::Path(path) => base.join(path).map_err(|why| {
                Error::new(Kind::Invalid, "contact").on(self.name()).because(format!("not a path: {why}"))
            }),
        }
    }

    /// Makes connections until there are `count`, ready for requests that follow soon. Does nothing before the host has
    /// answered.
    pub fn expect(&self, count: usize) {
        let (Some(base), Ok(runtime)) = (self.endpoint.origin().cloned(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let connections = Arc::clone(&self.endpoint.connections);
        runtime.spawn(async move {
            if let Ok(pool) = connections.pool(&base).await {
                pool.expect(count);
            }
        });
    }

    fn connections(&self) -> &Connections {
        &self.endpoint.connections
    }

    /// Returns the logins of the host.
    pub(super) fn authenticator(&self) -> &Authenticator {
        &self.peer.authenticator
    }
}

/// Fails if a server says that it got plain HTTP on a TLS port, each in its own way: Go and nginx with a 400.
async fn wants_tls(request: &Request, answer: Response, base: &Url) -> Result<Response, ExchangeFault> {
    // An answer to HEAD cannot say why, and TLS was tried before.
    let is_told = base.scheme() == "http" && request.method != http::Method::HEAD;
    if !is_told || answer.status() != StatusCode::BAD_REQUEST {
        return Ok(answer);
    }
    let (answer, beginning) = answer.peek().await;
    let text = String::from_utf8_lossy(&beginning);
    if !text.contains("HTTPS server") && !text.contains("HTTPS port") {
        return Ok(answer);
    }
    let error = answer.error(Kind::Invalid, "the registry speaks TLS where plain HTTP was expected");
    Err(ExchangeFault { class: Class::NotHttp, error })
}

/// Returns whether plain HTTP may be tried after TLS failed in this way. Never because of a certificate, and never
/// because the host is down.
fn may_fall_back(class: Class, names_port: bool, is_expected: bool) -> bool {
    match class {
        Class::SpeaksPlain => true,
        // Servers that know only HTTP wait for the rest of it, or close the connection; so does a man in the middle.
        Class::Unanswered => is_expected,
        // A closed port 443 says nothing about port 80; but if the operator named a port, only that one counts.
        Class::Refused => !names_port,
        Class::NotHttp | Class::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Context;

    #[test]
    fn plain_http_is_fallen_back_to_only_for_a_peer_that_speaks_it_or_is_expected_to() {
        for (class, with_port, without, expected) in [
            (Class::SpeaksPlain, true, true, true),
            (Class::Unanswered, false, false, true),
            (Class::Refused, false, true, false),
            (Class::NotHttp, false, false, false),
            (Class::Other, false, false, false),
        ] {
            assert_eq!(may_fall_back(class, true, false), with_port, "{class:?}");
            assert_eq!(may_fall_back(class, false, false), without, "{class:?}");
            assert_eq!(may_fall_back(class, true, true), expected, "{class:?}");
        }
    }

    #[test]
    fn a_certificate_is_never_a_reason_for_another_scheme() {
        let context = Context { op: "get", subject: "it".into() };
        for why in [rustls::CertificateError::UnknownIssuer, rustls::CertificateError::Expired] {
            let fault = ExchangeFault::of_tls(&rustls::Error::InvalidCertificate(why), &context);
            assert_eq!((fault.class, fault.error.kind()), (Class::Other, Kind::Invalid));
        }
    }
}
