//! From a request to the function that answers it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::auth::Gate;
use super::data_dir::Registry;
use super::error_response::Problem;
use super::host_check::Hosts;
use super::memory_budget::Memory;
use super::profile::Behaviour;
use super::route::Route;
use super::upload_session::Sessions;
use super::{blob, listing, manifest, upload};
use crate::http_server::acceptor::Peer;
use crate::http_server::connection_slots::network;
use crate::http_server::limits::Limits;
use crate::http_server::metrics::Metrics;
use crate::oci::Digest;

/// All that requests share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: Memory,
    pub(super) behaviour: Behaviour,
    pub(super) hosts: Hosts,
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    pub(super) is_read_only: bool,
}

/// Answers one request.
pub(super) async fn dispatch(State(service): State<Arc<Service>>, request: Request) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = answer(&service, request).await.unwrap_or_else(Problem::response);
    if ["/v2", "/v2/"].contains(&path.as_str()) || answer.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(super::API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    service.metrics.answered(&method, answer.status());
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    answer
}

async fn answer(service: &Service, request: Request) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    service.hosts.check(&head)?;
    let (method, headers) = (&head.method, &head.headers);
    let route = Route::parse(head.uri.path());
    let query = &Query::parse(head.uri.query().unwrap_or_default());
    if query.0.len() > MAX_PARAMETERS {
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", "the query has too many parameters"));
    }
    // Being alive and logging in come before the gate: whoever balances loads has no password. Everything else, known or not,
    // comes behind it, the metrics too: they tell what goes on here, and Prometheus can log in.
    let client = match &route {
        Ok(Some(Route::Health)) => return Ok(reply(StatusCode::OK, [], Body::from("ok\n"))),
        Ok(Some(Route::Token)) => return service.gate.token(headers, query),
        _ => service.gate.check(&head, route.as_ref().ok().and_then(Option::as_ref), query).await?,
    };
    let is_reading = method == Method::GET || method == Method::HEAD;
    if service.is_read_only && !is_reading {
        return Err(Problem::unsupported("this registry is read-only"));
    }
    let Some(route) = route? else { return Err(no_such_page()) };
    match (method.as_str(), &route) {
        ("GET" | "HEAD", Route::Ping) => Ok(json(&serde_json::json!({}))),
        ("GET" | "HEAD", Route::Metrics) => {
            let headers = [("content-type", "text/plain; version=0.0.4".to_owned())];
            let text = service.metrics.text(service.sessions.count());
            Ok(reply(StatusCode::OK, headers, Body::from(text)))
        }
        ("GET", Route::Catalog) => listing::catalog(service, query, origin(&head)).await,
        ("GET", Route::Tags(name)) => listing::tags(service, name, query, origin(&head)).await,
        ("GET", Route::Referrers(name, subject)) => {
            listing::referrers(service, name, *subject, query, origin(&head)).await
        }
        ("GET" | "HEAD", Route::Blob(name, digest)) => blob::pull(service, name, *digest, method, headers).await,
        ("DELETE", Route::Blob(name, digest)) => blob::delete(service, name, *digest).await,
        ("GET" | "HEAD", Route::Manifest(name, which)) => manifest::pull(service, name, which, method).await,
        ("PUT", Route::Manifest(name, which)) => manifest::push(service, name, which, query, &head, body).await,
        ("DELETE", Route::Manifest(name, which)) => manifest::delete(service, name, which).await,
        ("POST", Route::Uploads(name)) => upload::begin(service, name, query, client, headers, body).await,
        ("PATCH", Route::Upload(name, id)) => upload::chunk(service, name, id, headers, body).await,
        ("PUT", Route::Upload(name, id)) => upload::close(service, name, id, query, headers, body).await,
        ("GET", Route::Upload(name, id)) => upload::status(service, name, id).await,
        ("DELETE", Route::Upload(name, id)) => upload::cancel(service, name, id).await,
        _ => Err(Problem::unsupported("the operation is not supported here")),
    }
}

/// The network that a request comes from.
pub(super) fn origin(head: &Parts) -> IpAddr {
    network(head.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0))
}

fn no_such_page() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint; the API lives under /v2/")
}

/// Most parameters in one query. The specification wants ten tags beside a digest at least; a parameter of two bytes takes a
/// hundred in memory.
const MAX_PARAMETERS: usize = 100;

/// The part of a request's address behind the question mark, decoded: at most one parameter more than is taken.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().take(MAX_PARAMETERS + 1).collect())
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of that name, which must be a digest.
    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, Problem> {
        let digest = self.get(name).map(str::parse);
        digest.transpose().map_err(|why: crate::oci::DigestError| Problem::digest_invalid(why.to_string()))
    }
}

/// An answer. Values that cannot stand in a header are left out; ours all can.
pub(super) fn reply<const N: usize>(
    status: StatusCode,
    headers: [(&'static str, String); N],
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A JSON answer.
pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
