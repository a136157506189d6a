//! One request and its answer, with redirects: the lowest layer that is ours.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::answer::Answer;
use super::fault::{Class, Fault};
use super::header;
use super::host::Host;
use super::pulse::Pulse;
use super::request::{Payload, Request};
use crate::error::Kind;

/// Longest wait for the headers of an answer to a small request.
const HEADERS: Duration = Duration::from_secs(60);

/// Redirects followed for a request without a body.
const MAX_REDIRECTS: u32 = 5;

/// Redirects followed with a body, which is sent anew each time.
const MAX_RESENDS: u32 = 3;

/// A login, and the only place that it may be shown to.
pub(super) struct Login {
    pub(super) header: HeaderValue,
    pub(super) home: Url,
}

impl Host {
    /// Sends `request` to `url` and follows where it leads, showing `login` to its home and nowhere else.
    pub(super) async fn follow(&self, request: &Request, mut url: Url, login: Option<&Login>) -> Result<Answer, Fault> {
        let bound = if has_no_body(&request.method) { MAX_REDIRECTS } else { MAX_RESENDS };
        for _ in 0..=bound {
            let header = login.filter(|login| is_same_origin(&login.home, &url)).map(|login| &login.header);
            let answer = self.exchange(request, &url, header).await?;
            if !is_followed(&request.method, answer.status()) {
                return Ok(answer);
            }
            let Some(next) = answer.header(LOCATION.as_str()).and_then(|to| header::resolve(&url, to)) else {
                let why = format!("{} to nowhere, or from TLS to plain HTTP", answer.status().as_u16());
                return Err(request.context.error(Kind::Invalid).because(why).into());
            };
            if request.is_secret && !is_same_origin(&url, &next) {
                return Err(request.context.error(Kind::Invalid).because("a login redirected to another host").into());
            }
            answer.discard().await;
            url = next;
        }
        Err(request.context.error(Kind::Limit).because(format!("more than {bound} redirects")).into())
    }

    async fn exchange(&self, request: &Request, url: &Url, login: Option<&HeaderValue>) -> Result<Answer, Fault> {
        let client = self.client().connections(url).await.map_err(|why| why.hint("check --ca-file and certs.d"))?;
        let mut builder = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        if let Some(login) = login {
            builder = builder.header(AUTHORIZATION, login);
        }
        let mut pulse = None;
        builder = match &request.payload {
            Payload::Empty if has_no_body(&request.method) || request.method == Method::DELETE => builder,
            Payload::Empty => builder.header(CONTENT_LENGTH, 0),
            Payload::Bytes(bytes) => {
                self.counters().sent(bytes.len());
                builder.header(CONTENT_LENGTH, bytes.len()).body(bytes.clone())
            }
            Payload::Stream { length: 0, open } => {
                // An empty body is never asked for, and so would never be found to be the wrong one.
                let mut nothing = open();
                while let Some(piece) = nothing.next().await {
                    piece?;
                }
                builder.header(CONTENT_LENGTH, 0)
            }
            Payload::Stream { length, open } => {
                let (body, watch) = Pulse::watch(open(), self.counters());
                pulse = Some(watch);
                builder.header(CONTENT_LENGTH, *length).body(reqwest::Body::wrap_stream(body))
            }
        };
        self.counters().request();
        let begun = Instant::now();
        tracing::trace!(method = %request.method, host = %self.name(), path = url.path(), "request");
        let silence = async {
            match &pulse {
                Some(pulse) => pulse.silence().await,
                None => {
                    tokio::time::sleep(HEADERS).await;
                    HEADERS
                }
            }
        };
        let sent = tokio::select! {
            biased;
            sent = builder.send() => sent,
            limit = silence => {
                let why = format!("no answer for {} s", limit.as_secs());
                return Err(request.context.error(Kind::Unavailable).because(why).into());
            }
        };
        match sent {
            Ok(response) => {
                if pulse.is_none() {
                    self.counters().answered(begun.elapsed());
                }
                Ok(Answer::new(response, url.clone(), &request.context, self.counters(), self.speed()))
            }
            Err(why) => Err(match pulse.and_then(|pulse| pulse.failure()) {
                // The source's failure, as it is: it is not this host's.
                Some(error) => Fault { class: Class::Other, error },
                None => Fault::of(why, &request.context, self.is_known(), self.client().proxy(url)),
            }),
        }
    }
}

fn has_no_body(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// A body is sent elsewhere only by a status that says so and keeps the method (RFC 9110, sections 15.4.8 and 15.4.9).
fn is_followed(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => has_no_body(method),
        _ => false,
    }
}

/// Same scheme, host and port.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}
