//! Discovery (distribution-spec, "Content Discovery"): tags, repositories, referrers.
//!
//! Lists come in pages: long ones if there is memory, else short ones, which need not wait.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

use super::error_response::ErrorResponse;
use super::query::Query;
use super::reply::{Reply, reply};
use super::state::ServerState;
use crate::oci::{Digest, MediaType, RepositoryPath};
use crate::store::{NamesPage, ReferrersPage};

/// A long page, in bytes. Clients bound the number of pages that they read: ours and ORAS's read sixteen or more.
const PAGE_BYTES: u64 = 1 << 20;

/// A short page, in bytes: with the text around it and a descriptor that exceeds it, this is what a request may hold.
const SHORT_PAGE_BYTES: usize = 24 << 10;

/// `GET /v2/<name>/tags/list`.
pub(super) async fn tags(service: &ServerState, repository: &RepositoryPath, query: &Query, from: IpAddr) -> Reply {
    #[derive(Serialize)]
    struct Tags<'a> {
        name: &'a str,
        tags: &'a [String],
    }
    let store = service.existing(repository).await?;
    let PageRequest { last, most } = PageRequest::read(query)?;
    let (store, last) = (&*store, last.as_deref());
    let page = |bytes: usize| async move { Ok(store.tags_after(last, most, bytes).await?) };
    let write = |tags: &[String]| to_json(&Tags { name: repository.as_str(), tags });
    let (bytes, next) = names(service, query, from, page, write).await?;
    Ok(linked(answer(bytes), &format!("/v2/{repository}/tags/list"), next))
}

/// `GET /v2/_catalog`; not in the specification, but every registry has it.
pub(super) async fn catalog(service: &ServerState, query: &Query, from: IpAddr) -> Reply {
    #[derive(Serialize)]
    struct Catalog<'a> {
        repositories: &'a [String],
    }
    let PageRequest { last, most } = PageRequest::read(query)?;
    let last = last.as_deref();
    let page = |bytes: usize| async move {
        let _alone = service.memory.walk().await?;
        let all = service.reader.repositories().await?;
        Ok(NamesPage::cut(all.iter().map(RepositoryPath::as_str), last, most, bytes))
    };
    let write = |repositories: &[String]| to_json(&Catalog { repositories });
    let (bytes, next) = names(service, query, from, page, write).await?;
    Ok(linked(answer(bytes), "/v2/_catalog", next))
}

/// `GET /v2/<name>/referrers/<digest>`. Never 404 where the API exists, not even for a repository that does not exist.
pub(super) async fn referrers(
    service: &ServerState,
    repository: &RepositoryPath,
    subject: Digest,
    query: &Query,
    from: IpAddr,
) -> Reply {
    if !service.behaviour.has_referrers_api {
        // Go's router answers this for an unknown path, and therefore distribution does.
        let headers = [("content-type", "text/plain; charset=utf-8".to_owned())];
        return Ok(reply(StatusCode::NOT_FOUND, headers, Body::from("404 page not found\n")));
    }
    let wanted = query.get("artifactType");
    let last = query.digest("last")?;
    let artifact_type = wanted.map(MediaType::new);
    let page = async |bytes: usize| match service.reader.open(repository).await? {
        Some(store) => store.referrers_after(&subject, last, artifact_type.as_ref(), bytes).await,
        None => Ok(ReferrersPage::default()),
    };
    let short = page(SHORT_PAGE_BYTES).await?;
    let share = short.next.and_then(|_| service.memory.share_now(from, 2 * PAGE_BYTES));
    let (found, share) = match share {
        Some(share) => (page(PAGE_BYTES as usize).await?, Some(share)),
        None => (short, None),
    };
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":["#, MediaType::OCI_INDEX);
    let bytes = [head.as_bytes(), &found.text, b"]}"].concat();
    let mut answer = answer(match share {
        Some(share) => share.hold(bytes),
        None => bytes.into(),
    });
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"));
    if wanted.is_some() {
        headers.insert(super::OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    let next = found.next.map(|last| {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.extend_pairs(wanted.map(|wanted| ("artifactType", wanted)));
        next.append_pair("last", &last.to_string()).finish()
    });
    Ok(linked(answer, &format!("/v2/{repository}/referrers/{subject}"), next))
}

/// The page that a query asks for: at most `most` names after `last`.
struct PageRequest {
    last: Option<String>,
    most: usize,
}

impl PageRequest {
    fn read(query: &Query) -> Result<Self, ErrorResponse> {
        let most = query.get("n").map_or(Ok(usize::MAX), str::parse).map_err(|_| {
            ErrorResponse::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number of results")
        })?;
        Ok(Self { last: query.get("last").map(str::to_owned), most })
    }
}

/// Returns one page of names as JSON, and the query for the next page.
async fn names<F: Future<Output = Result<NamesPage, ErrorResponse>>>(
    service: &ServerState,
    query: &Query,
    from: IpAddr,
    page: impl Fn(usize) -> F,
    write: impl Fn(&[String]) -> Vec<u8>,
) -> Result<(Bytes, Option<String>), ErrorResponse> {
    let n = query.get("n");
    let next = |page: &NamesPage| {
        let last = page.names.last().filter(|_| page.has_more)?;
        Some(n.map_or_else(|| format!("last={last}"), |n| format!("n={n}&last={last}")))
    };
    let found = page(SHORT_PAGE_BYTES).await?;
    let is_cut = found.has_more && n.and_then(|n| n.parse().ok()).is_none_or(|n: usize| found.names.len() < n);
    // In memory a name takes several times its bytes, and the page is held as text too.
    let Some(share) = is_cut.then(|| service.memory.share_now(from, 4 * PAGE_BYTES)).flatten() else {
        return Ok((write(&found.names).into(), next(&found)));
    };
    let found = page(PAGE_BYTES as usize).await?;
    Ok((share.hold(write(&found.names)), next(&found)))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Serializing text and lists of text cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn answer(bytes: Bytes) -> Response<Body> {
    reply(StatusCode::OK, [("content-type", "application/json".to_owned())], Body::from(bytes))
}

fn linked(mut answer: Response<Body>, path: &str, next: Option<String>) -> Response<Body> {
    let link = next.and_then(|query| HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\"")).ok());
    answer.headers_mut().extend(link.map(|link| (header::LINK, link)));
    answer
}
