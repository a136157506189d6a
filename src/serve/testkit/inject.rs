//! Injects a fault into a request.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use futures_util::{StreamExt, stream};

use super::fault::What;
use super::made_up;
use super::streams::{counted, cut, dropped, ending, flipped, taken, trickled};
use crate::serve::error_response::ErrorResponse;

/// Answers `request` with the fault `what`.
pub(super) async fn strike(what: What, request: Request, next: Next) -> Response<Body> {
    match what {
        What::Status(status) => refuse(request, status, None).await,
        What::StatusWith { status, retry_after } => refuse(request, status, retry_after).await,
        What::Redirect { status, to } => redirect(request, status, &to).await,
        What::Html => {
            drain(request).await;
            let mut answer = Response::new(Body::from("<!doctype html><title>Please log in</title>"));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            answer
        }
        What::ResetBefore => broken(),
        What::ResetAfter | What::CutRequest { .. } => {
            next.run(request).await;
            broken()
        }
        What::Delay(pause) => {
            tokio::time::sleep(pause).await;
            next.run(request).await
        }
        What::FlipRequestBit { at } => next.run(request.map(|body| Body::from_stream(flipped(body, at)))).await,
        What::AnswerOf(path) => elsewhere(request, &path, next).await,
        What::Serve { media_type, bytes } => made_up::served(media_type, bytes),
        What::EndlessPages(bytes) => {
            let uri = request.uri().clone();
            made_up::paged(next.run(request).await, &uri, bytes)
        }
        what => spoil(what, next.run(request).await).await,
    }
}

/// Damages a correct answer.
async fn spoil(what: What, answer: Response<Body>) -> Response<Body> {
    match what {
        What::WrongLength => {
            let answer = resize(told(answer), |length| length + 1);
            answer.map(|body| Body::from_stream(counted(body, |_| ()).chain(ending())))
        }
        What::Truncate { to } => {
            let answer = resize(answer, |length| length.min(to));
            answer.map(|body| Body::from_stream(taken(body, to)))
        }
        What::CutBody { after } => {
            told(answer).map(|body| Body::from_stream(taken(body, after).chain(stream::once(cut()))))
        }
        What::Trickle { after, bytes_per_second } => {
            told(answer).map(|body| Body::from_stream(trickled(body, after, bytes_per_second)))
        }
        What::FlipBit { at } => told(answer).map(|body| Body::from_stream(flipped(body, at))),
        What::FlipHeaderBit(name) => {
            let mut value = answer.headers().get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
            if let Some(last) = value.last_mut() {
                *last ^= 1;
            }
            with_header(answer, name, HeaderValue::from_bytes(&value).ok().filter(|value| !value.is_empty()))
        }
        What::SetHeader { name, value } => with_header(answer, name, HeaderValue::try_from(value).ok()),
        What::StatusAfter { status, keeps_headers } => {
            let mut told = if keeps_headers { answer.map(|_| Body::empty()) } else { Response::new(Body::empty()) };
            *told.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
            told
        }
        What::RefuseAbsent(status) if answer.status() == StatusCode::NOT_FOUND => refusal(status).response(),
        What::DropHeader(name) => {
            let mut answer = answer;
            answer.headers_mut().remove(name);
            answer
        }
        What::Replace(bytes) => {
            let answer = answer.map(|_| Body::empty());
            resize(answer, |_| bytes.len() as u64).map(|_| Body::from(bytes.clone()))
        }
        What::Hide(text) => made_up::hidden(answer, &text).await,
        What::Pour { head, unit, total, is_length_told } => made_up::poured(answer, head, unit, total, is_length_told),
        _ => answer,
    }
}

async fn refuse(request: Request, status: u16, retry_after: Option<String>) -> Response<Body> {
    drain(request).await;
    let problem = refusal(status);
    retry_after.into_iter().fold(problem, |problem, pause| problem.with(header::RETRY_AFTER, pause)).response()
}

fn refusal(status: u16) -> ErrorResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "DENIED",
        _ => "UNKNOWN",
    };
    ErrorResponse::new(status, code, "ordered by the test")
}

async fn redirect(request: Request, status: u16, to: &str) -> Response<Body> {
    let place = format!("{to}{}", request.uri().path_and_query().map_or("/", |path| path.as_str()));
    drain(request).await;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
    with_header(answer, header::LOCATION.as_str(), HeaderValue::try_from(place).ok())
}

async fn elsewhere(mut request: Request, path: &str, next: Next) -> Response<Body> {
    match path.parse() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            next.run(request).await
        }
        Err(_) => broken(),
    }
}

/// Reads a request to its end, so that the client is sure to read the answer.
async fn drain(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
}

/// Returns an answer that drops the connection: the first poll of its body fails, before its head has left.
fn broken() -> Response<Body> {
    let mut answer = Response::new(Body::from_stream(stream::once(async { dropped() })));
    answer.extensions_mut().insert(BrokenStream);
    answer.headers_mut().insert(header::CONTENT_LENGTH, 1.into());
    answer
}

#[derive(Clone)]
struct BrokenStream;

/// Whether no answer is sent at all.
pub(super) fn is_broken(answer: &Response<Body>) -> bool {
    answer.extensions().get::<BrokenStream>().is_some()
}

/// Returns the answer to a range past the end with the whole blob's length in its header, and no body.
pub(super) fn overstated(answer: Response<Body>) -> Response<Body> {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some(whole) = range.and_then(|range| range.strip_prefix("bytes */")?.parse().ok()) else { return answer };
    resize(answer, |_| whole).map(|_| Body::from_stream(ending()))
}

fn with_header(mut answer: Response<Body>, name: &str, value: Option<HeaderValue>) -> Response<Body> {
    if let (Ok(name), Some(value)) = (HeaderName::try_from(name), value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Sets the length in the header to the length of the body.
fn told(answer: Response<Body>) -> Response<Body> {
    resize(answer, |length| length)
}

/// Changes the length in the header.
fn resize(mut answer: Response<Body>, change: impl FnOnce(u64) -> u64) -> Response<Body> {
    let told = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(length) = told.or(answer.body().size_hint().exact()) {
        answer.headers_mut().insert(header::CONTENT_LENGTH, change(length).into());
    }
    answer
}
