//! Routes each request to the function that answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode};

use super::auth::network_of;
use super::error_response::ErrorResponse;
use super::query::{MAX_PARAMETERS, Query};
use super::reply::{json, reply};
use super::route::Route;
use super::state::ServerState;
use super::{blob, listing, manifest, upload};

/// Answers one request.
pub(super) async fn dispatch(State(service): State<Arc<ServerState>>, request: Request) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = answer(&service, request).await.unwrap_or_else(ErrorResponse::response);
    if ["/v2", "/v2/"].contains(&path.as_str()) || answer.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(super::API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    service.metrics.answered(&method, answer.status());
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    answer
}

async fn answer(service: &ServerState, request: Request) -> Result<Response<Body>, ErrorResponse> {
    let (head, body) = request.into_parts();
    service.hosts.check(&head)?;
    let (method, headers) = (&head.method, &head.headers);
    let route = Route::parse(head.uri.path());
    let query = &Query::parse(head.uri.query().unwrap_or_default());
    if query.len() > MAX_PARAMETERS {
        return Err(ErrorResponse::new(StatusCode::URI_TOO_LONG, "UNSUPPORTED", "the query has too many parameters"));
    }
    // `/healthz` and `/token` skip authentication: load balancers have no password. Everything else, known or not,
    // needs it, the metrics too: they show what goes on here, and Prometheus can log in.
    let client = match &route {
        Ok(Some(Route::Health)) => return Ok(reply(StatusCode::OK, [], Body::from("ok\n"))),
        Ok(Some(Route::Token)) => return service.gate.token(headers, query),
        _ => service.gate.check(&head, route.as_ref().ok().and_then(Option::as_ref), query).await?,
    };
    let is_reading = method == Method::GET || method == Method::HEAD;
    if service.is_read_only && !is_reading {
        return Err(ErrorResponse::unsupported("this registry is read-only"));
    }
    let Some(route) = route? else { return Err(no_such_page()) };
    match (method.as_str(), &route) {
        ("GET" | "HEAD", Route::Ping) => Ok(json(&serde_json::json!({}))),
        ("GET" | "HEAD", Route::Metrics) => {
            let headers = [("content-type", "text/plain; version=0.0.4".to_owned())];
            let text = service.metrics.text(service.sessions.count());
            Ok(reply(StatusCode::OK, headers, Body::from(text)))
        }
        ("GET", Route::Catalog) => listing::catalog(service, query, network_of(&head)).await,
        ("GET", Route::Tags(name)) => listing::tags(service, name, query, network_of(&head)).await,
        ("GET", Route::Referrers(name, subject)) => {
            listing::referrers(service, name, *subject, query, network_of(&head)).await
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
        _ => Err(ErrorResponse::unsupported("the operation is not supported here")),
    }
}

fn no_such_page() -> ErrorResponse {
    ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint; the API lives under /v2/")
}
