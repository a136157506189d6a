//! Routes each request to the function that answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode};

use super::access_log::Recording;
use super::auth::network_of;
use super::error_response::ErrorResponse;
use super::query::{MAX_PARAMETERS, Query};
use super::reply::{Reply, json, reply};
use super::route::Route;
use super::state::{ServerState, WriteTarget};
use super::upload_quota::SessionOwner;
use super::{blob, listing, manifest, upload};
use crate::disk::reload::Reread;

/// Answers one request.
pub(super) async fn dispatch(State(service): State<Arc<ServerState>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (method, path, route) = (&head.method, head.uri.path(), Route::parse(head.uri.path()));
    let known = route.as_ref().ok().and_then(Option::as_ref);
    let mut recording = Recording::begin(service.hooks.access_log.as_ref(), &head, known);
    let body = recording.count(body);
    let answer = answer(&service, &head, route, body, &mut recording).await;
    let mut answer = answer.unwrap_or_else(ErrorResponse::response);
    if ["/v2", "/v2/"].contains(&path) || answer.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(super::API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    service.metrics.answered(method, answer.status());
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    recording.answered(answer).await
}

async fn answer(
    service: &ServerState,
    head: &Parts,
    route: Result<Option<Route>, ErrorResponse>,
    body: Body,
    recording: &mut Recording,
) -> Reply {
    service.hosts.check(head)?;
    let (method, headers) = (&head.method, &head.headers);
    let query = &Query::parse(head.uri.query().unwrap_or_default());
    if query.len() > MAX_PARAMETERS {
        return Err(ErrorResponse::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", "the query has too many parameters"));
    }
    // `/healthz`, `/readyz` and `/token` skip authentication: load balancers have no password. Everything else, known or not,
    // needs it, the metrics too: they show what goes on here, and Prometheus can log in.
    let client = match &route {
        Ok(Some(Route::Health)) => return Ok(reply(StatusCode::OK, [], Body::from("ok\n"))),
        Ok(Some(Route::Ready)) => return Ok(readiness(service).await),
        Ok(Some(Route::Token)) => return service.gate.token(headers, query),
        _ => service.gate.check(head, route.as_ref().ok().and_then(Option::as_ref), query).await?,
    };
    recording.admitted(&client);
    if service.writer.is_none() && method != Method::GET && method != Method::HEAD {
        return Err(ErrorResponse::unsupported("this registry is read-only"));
    }
    let Some(route) = route? else { return Err(no_such_page()) };
    match (method.as_str(), &route) {
        ("GET" | "HEAD", Route::Ping) => Ok(json(&serde_json::json!({}))),
        ("GET" | "HEAD", Route::Metrics) => Ok(metrics(service).await),
        ("GET", Route::Catalog) => listing::catalog(service, query, network_of(head)).await,
        ("GET", Route::Tags(name)) => listing::tags(service, name, query, network_of(head)).await,
        ("GET", Route::Referrers(name, subject)) => {
            listing::referrers(service, name, *subject, query, network_of(head)).await
        }
        ("GET" | "HEAD", Route::Blob(name, digest)) => {
            blob::pull(service, name, *digest, &client, method, headers).await
        }
        ("GET" | "HEAD", Route::Manifest(name, which)) => manifest::pull(service, name, which, &client, method).await,
        _ => write(service, head, &route, query, client, body).await,
    }
}

/// Answers a request that writes, or asks how far a write has come.
async fn write(
    service: &ServerState,
    head: &Parts,
    route: &Route,
    query: &Query,
    client: SessionOwner,
    body: Body,
) -> Reply {
    // A server that only reads has no uploads.
    let to = |repository| match &service.writer {
        Some(writer) => Ok(WriteTarget { service, writer, repository }),
        None => Err(ErrorResponse::upload_unknown()),
    };
    let headers = &head.headers;
    match (head.method.as_str(), route) {
        ("DELETE", Route::Blob(name, digest)) => blob::delete(to(name)?, *digest).await,
        ("PUT", Route::Manifest(name, which)) => manifest::push(to(name)?, which, query, head, body).await,
        ("DELETE", Route::Manifest(name, which)) => manifest::delete(to(name)?, which).await,
        ("POST", Route::Uploads(name)) => upload::begin(to(name)?, query, client, headers, body).await,
        ("PATCH", Route::Upload(name, id)) => upload::chunk(to(name)?, id, headers, body).await,
        ("PUT", Route::Upload(name, id)) => upload::close(to(name)?, id, query, headers, body).await,
        ("GET", Route::Upload(name, id)) => upload::status(to(name)?, id).await,
        ("DELETE", Route::Upload(name, id)) => upload::cancel(to(name)?, id).await,
        _ => Err(ErrorResponse::unsupported("the operation is not supported here")),
    }
}

async fn readiness(service: &ServerState) -> Response<Body> {
    let faults = service.faults(Reread::IfChanged).await;
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if faults.is_empty() { "ok".to_owned() } else { faults.join("\n") };
    reply(status, [], Body::from(format!("{}\n", text)))
}

async fn metrics(service: &ServerState) -> Response<Body> {
    let headers = [("content-type", "text/plain; version=0.0.4".to_owned())];
    let uploads = service.writer.as_ref().map_or(0, |writer| writer.sessions.count());
    reply(StatusCode::OK, headers, Body::from(service.metrics.text(uploads, &service.stored().await)))
}

fn no_such_page() -> ErrorResponse {
    ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint; the API lives under /v2/")
}
