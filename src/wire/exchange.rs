//! One request and its answer, with redirects: the lowest layer of our own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use tokio::time::Instant;
use url::{Position, Url};

use super::address::{host_port, is_same_origin};
use super::connect::Connections;
use super::connect::failure::{Class, ExchangeFault, Peer};
use super::connect::pool::BrokenExchange;
use super::flow::request_body::RequestBody;
use super::flow::slow_stream::Speed;
use super::flow::stats::Counters;
use super::flow::upload_watch::UploadWatch;
use super::header;
use super::problem::is_outage;
use super::registry_resource::Resource;
use super::request::{Payload, Request};
use super::response::Response;
use crate::error::Kind;
use crate::retry::{Contact, Retry};

/// Longest wait for the headers of an answer, unless the host has to work on what it got ([`Request::work`]).
const HEADERS: Duration = Duration::from_secs(30);

/// Redirects followed for a request without a body.
const MAX_REDIRECTS: u32 = 5;

/// Redirects followed with a body, which is sent again each time.
const MAX_RESENDS: u32 = 3;

/// A login, and the only origin that it may be sent to.
pub(super) struct BoundLogin {
    pub(super) header: HeaderValue,
    pub(super) home: Url,
}

/// The facts about a host that its requests need.
#[derive(Debug)]
pub(super) struct PeerFacts {
    /// `host[:port]`.
    pub(super) name: Box<str>,
    /// Scheme, host and port that have answered.
    pub(super) base: OnceLock<Url>,
    pub(super) speed: Arc<Speed>,
    pub(super) counters: Arc<Counters>,
    pub(super) contact: Contact,
}

/// One host as a request sees it, for one repository.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) connections: Arc<Connections>,
    pub(super) peer: Arc<PeerFacts>,
    /// The repository whose credentials are used.
    pub(super) path: Box<str>,
    pub(super) retry: Retry,
    pub(super) counters: Arc<Counters>,
}

impl Endpoint {
    /// Returns `host[:port]`.
    pub(super) fn name(&self) -> &str {
        &self.peer.name
    }

    /// Returns the scheme, host and port that have answered.
    pub(super) fn origin(&self) -> Option<&Url> {
        self.peer.base.get()
    }

    /// Sends `request` to `url` and follows redirects. Sends `login` to its home only, and not even there once another
    /// host has redirected the request back.
    pub(super) async fn follow(
        &self,
        request: &Request,
        mut url: Url,
        mut login: Option<&BoundLogin>,
    ) -> Result<Response, ExchangeFault> {
        let bound = if has_no_body(&request.method) { MAX_REDIRECTS } else { MAX_RESENDS };
        let home = self.origin().unwrap_or(&url).clone();
        let mut has_left = false;
        for _ in 0..=bound {
            login = login.filter(|login| is_same_origin(&login.home, &url));
            has_left |= !is_same_origin(&home, &url);
            let answer = self.exchange(request, &url, login.map(|login| &login.header)).await?;
            if !is_followed(&request.method, answer.status()) {
                return Ok(if has_left { answer.away_from(home) } else { answer });
            }
            let Some(next) = answer.header(LOCATION.as_str()).and_then(|to| header::resolve(&url, to)) else {
                let why = format!("{} to nowhere, or from TLS to plain HTTP", answer.status().as_u16());
                return Err(request.context.error(Kind::Invalid).because(why).into());
            };
            self.check_redirect(request, &url, &next)?;
            answer.discard().await;
            url = next;
        }
        Err(request.context.error(Kind::Limit).because(format!("more than {bound} redirects")).into())
    }

    fn check_redirect(&self, request: &Request, from: &Url, to: &Url) -> Result<(), ExchangeFault> {
        let refused = |why: &str| Err(request.context.error(Kind::Invalid).because(why.to_owned()).into());
        if request.is_secret {
            // Only to the same host, on any path.
            let is_kept = is_same_origin(from, to);
            return if is_kept { Ok(()) } else { refused("a login redirected to another host") };
        }
        if !has_no_body(&request.method) && !Resource::of(from).may_become(&Resource::of(to)) {
            return refused("a redirect to another kind of place, where this must not be written");
        }
        Ok(())
    }

    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        login: Option<&HeaderValue>,
    ) -> Result<Response, ExchangeFault> {
        let pool = self.connections.pool(url).await.map_err(|why| why.hint("check --ca-file and certs.d"))?;
        let path = url[Position::BeforePath..Position::AfterQuery].parse::<PathAndQuery>();
        let path = path.map_err(|why| request.context.error(Kind::Invalid).because(why))?;
        let (body, watch) = self.body(request).await?;
        let contact = self.contact(url);
        let mut sent = http::Request::new(body);
        *sent.method_mut() = request.method.clone();
        *sent.headers_mut() = request.headers.clone();
        self.complete(sent.headers_mut(), request, login);
        self.counters.request();
        tracing::trace!(method = %request.method, host = self.name(), path = url.path(), "request");
        let silence = async {
            match &watch {
                Some(watch) => watch.silence().await,
                None => {
                    let limit = HEADERS + request.work;
                    tokio::time::sleep(limit).await;
                    limit
                }
            }
        };
        let begun = Instant::now();
        let sent = tokio::select! {
            biased;
            sent = pool.send(sent, path) => sent,
            limit = silence => {
                // Other connections to a host that has fallen silent are hardly better; a new one may be.
                pool.forget();
                let outage = contact.outage(format!("no answer for {} s", limit.as_secs()), Instant::now() - limit);
                return Err(request.context.error(Kind::Unavailable).because(outage).into());
            }
        };
        match sent {
            Ok(response) => {
                if watch.is_none() {
                    self.counters.answered(response.took);
                }
                if !is_outage(response.status) {
                    contact.answered(response.status.is_success() || response.status == StatusCode::NOT_FOUND);
                }
                let response = Response::new(response, url.clone(), &request.context, &self.counters, &self.peer.speed);
                Ok(response.of(contact))
            }
            Err(why) => Err(match watch.and_then(|watch| watch.failure()) {
                // The source's error, unchanged: it is not this host's.
                Some(error) => ExchangeFault { class: Class::Other, error },
                None => self.fault(&why, request, url, begun),
            }),
        }
    }

    /// Classifies a failure of the exchange with `url` that began at `begun`.
    pub(super) fn fault(&self, why: &BrokenExchange, request: &Request, url: &Url, begun: Instant) -> ExchangeFault {
        // A connection that was there breaks now; one that is not made has been missing from the beginning.
        let since = if why.is_connect { begun } else { Instant::now() };
        let peer = Peer {
            is_known: self.origin().is_some(),
            proxy: self.connections.proxy(url),
            contact: self.contact(url),
            since,
        };
        ExchangeFault::of(why, &request.context, peer)
    }

    /// Returns the contact with the host of `url`: this one, the token service, or the target of a redirect.
    fn contact(&self, url: &Url) -> Contact {
        match self.origin() {
            Some(base) if !is_same_origin(base, url) => self.peer.contact.of_host(&host_port(url)),
            _ => self.peer.contact.clone(),
        }
    }

    /// Returns the body of `request`, and a watch on its progress.
    async fn body(&self, request: &Request) -> Result<(RequestBody, Option<Arc<UploadWatch>>), ExchangeFault> {
        match &request.payload {
            Payload::Empty => Ok((RequestBody::nothing(), None)),
            Payload::Bytes(bytes) => {
                self.counters.sent(bytes.len());
                Ok((RequestBody::bytes(bytes.clone()), None))
            }
            Payload::Stream { length: 0, open } => {
                // An empty body is never polled, so a wrong one would not be noticed.
                let mut nothing = open();
                while let Some(piece) = nothing.next().await {
                    piece?;
                }
                Ok((RequestBody::nothing(), None))
            }
            Payload::Stream { length, open } => {
                // Waits for the first bytes: sending them together with the head saves both sides a packet and a
                // wake-up, and a source that fails at once is reported before anything is sent.
                let mut pieces = open();
                let first = pieces.next().await.transpose()?;
                let pieces = Box::pin(stream::iter(first.map(Ok)).chain(pieces));
                let (body, watch) = UploadWatch::watch(pieces, &self.counters, HEADERS + request.work);
                Ok((RequestBody::stream(*length, body), Some(watch)))
            }
        }
    }

    /// Adds the headers that every request has.
    fn complete(&self, headers: &mut HeaderMap, request: &Request, login: Option<&HeaderValue>) {
        let length = match &request.payload {
            Payload::Empty if has_no_body(&request.method) || request.method == Method::DELETE => None,
            Payload::Empty => Some(0),
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Stream { length, .. } => Some(*length),
        };
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if let Some(login) = login {
            headers.insert(AUTHORIZATION, login.clone());
        }
        headers.insert(USER_AGENT, self.connections.user_agent().clone());
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    }
}

fn has_no_body(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Returns whether a redirect is followed. With a body, only for a status that keeps the method (RFC 9110, sections
/// 15.4.8 and 15.4.9).
fn is_followed(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => has_no_body(method),
        _ => false,
    }
}
