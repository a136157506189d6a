//! Discovery (distribution-spec, "Content Discovery"): tags, repositories, referrers.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::problem::Problem;
use super::service::{Query, Service, json, reply};
use crate::error::Kind;
use crate::oci::{Digest, MediaType, RepositoryPath};
use crate::store::Listing;

type Answer = Result<Response<Body>, Problem>;

/// `GET /v2/<name>/tags/list`.
pub(super) async fn tags(service: &Service, repository: &RepositoryPath, query: &Query) -> Answer {
    let layout = service.registry.existing(repository).await?;
    let all = layout.tags().await?.iter().map(|tag| tag.as_str().to_owned()).collect();
    let (page, next) = page(all, query)?;
    let answer = json(&json!({ "name": repository.as_str(), "tags": page }));
    Ok(linked(answer, &format!("/v2/{repository}/tags/list"), next))
}

/// `GET /v2/_catalog`; not in the specification, but every registry has it.
pub(super) async fn catalog(service: &Service, query: &Query) -> Answer {
    let all = service.registry.list().await?.iter().map(|path| path.as_str().to_owned()).collect();
    let (page, next) = page(all, query)?;
    Ok(linked(json(&json!({ "repositories": page })), "/v2/_catalog", next))
}

/// `GET /v2/<name>/referrers/<digest>`. Never 404 where the API exists, not even for a repository that does not.
pub(super) async fn referrers(
    service: &Service,
    repository: &RepositoryPath,
    subject: Digest,
    query: &Query,
) -> Answer {
    if !service.behaviour.has_referrers_api {
        // What Go's router says of a path that it does not know, and what distribution therefore answers.
        let headers = [("content-type", "text/plain; charset=utf-8".to_owned())];
        return Ok(reply(StatusCode::NOT_FOUND, headers, Body::from("404 page not found\n")));
    }
    let layout = service.registry.repository_to_read(repository);
    let mut found = match layout.referrers(&subject).await {
        Err(error) if error.kind() == Kind::NotFound => Vec::new(),
        found => found?,
    };
    let filter = query.get("artifactType").map(MediaType::new);
    if let Some(wanted) = &filter {
        found.retain(|node| node.artifact_type.as_ref() == Some(wanted));
    }
    let mut answer = json(&json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": found }));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"));
    if filter.is_some() {
        headers.insert(super::OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(answer)
}

/// The names after `last`, at most `n`, and what the next page is asked for with.
fn page(mut all: Vec<String>, query: &Query) -> Result<(Vec<String>, Option<String>), Problem> {
    all.sort_unstable();
    if let Some(last) = query.get("last") {
        let start = all.partition_point(|name| name.as_str() <= last);
        all.drain(..start);
    }
    let Some(n) = query.get("n") else { return Ok((all, None)) };
    let n: usize = n.parse().map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number of results")
    })?;
    let has_more = all.len() > n;
    all.truncate(n);
    let next = all.last().filter(|_| has_more).map(|last| format!("n={n}&last={last}"));
    Ok((all, next))
}

fn linked(mut answer: Response<Body>, path: &str, next: Option<String>) -> Response<Body> {
    let link = next.and_then(|query| HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\"")).ok());
    answer.headers_mut().extend(link.map(|link| (header::LINK, link)));
    answer
}
