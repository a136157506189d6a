//! Manifests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting Manifests").

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::admission::{Pull, PulledContent};
use super::auth::network_of;
use super::blob;
use super::error_response::ErrorResponse;
use super::memory_budget::{SMALL_BYTES, SMALL_VALUES, Share};
use super::query::Query;
use super::reader::BlobReader;
use super::reply::{CONTENT_DIGEST, Reply, reply};
use super::state::{ServerState, WriteTarget};
use super::upload_quota::SessionOwner;
use crate::error::{Error, Kind};
use crate::http_server::paced_body::{BodyStep, PacedBody};
use crate::oci::{Descriptor, Digest, Hasher, Manifest, MediaType, Name, RepositoryPath, Shape, Tag, json_cost};
use crate::store::layout::Lack;
use crate::store::{Layout, Listing, MAX_MANIFEST_BYTES, PagedStore, Store};

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub(super) async fn pull(
    service: &ServerState,
    repository: &RepositoryPath,
    name: &Name,
    client: &SessionOwner,
    method: &Method,
) -> Reply {
    let store = service.existing(repository).await?;
    let node = store.resolve(name).await.map_err(|error| unknown(error, name))?;
    let (content, is_head) = (PulledContent::Manifest(name, &node), method == Method::HEAD);
    service.admit(Pull { user: client.user(), repository, content, is_head }).await?;
    // Read first: a damaged manifest is an error, and not a missing one.
    let body = if is_head { Body::empty() } else { content_of(service, repository, &*store, &node, name).await? };
    if let (Name::Digest(digest), Some(writer)) = (name, &service.writer) {
        // A client that finds it by digest may list it in an index without sending it.
        if !writer.data_dir.repository(repository).vouch_manifest(*digest, node.size).await? {
            return Err(ErrorResponse::manifest_unknown(name));
        }
    }
    let headers = [
        ("content-type", node.media_type.to_string()),
        (CONTENT_DIGEST, node.digest.to_string()),
        ("content-length", node.size.to_string()),
        ("etag", format!("\"{}\"", node.digest)),
    ];
    Ok(reply(StatusCode::OK, headers, body))
}

/// Returns the verified bytes of a manifest. Reads a large one twice: a client that reads slowly holds no memory.
async fn content_of(
    service: &ServerState,
    repository: &RepositoryPath,
    store: &dyn PagedStore,
    node: &Descriptor,
    name: &Name,
) -> Result<Body, ErrorResponse> {
    if node.size > SMALL_BYTES {
        let found = service.reader.open_blob(repository, &node.digest).await?;
        let manifest = found.ok_or_else(|| ErrorResponse::manifest_unknown(name))?;
        if !is_right(&*manifest, node).await? {
            return Err(Error::new(Kind::Corrupt, "read").on(node.digest).into());
        }
        return Ok(blob::body(service, &*manifest, 0, node.size));
    }
    let bytes = store.fetch(&Name::Digest(node.digest)).await.map_err(|error| unknown(error, name))?.bytes;
    service.metrics.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(Body::from(bytes))
}

async fn is_right(blob: &dyn BlobReader, node: &Descriptor) -> Result<bool, ErrorResponse> {
    if blob.size() != node.size {
        return Ok(false);
    }
    let mut hasher = Hasher::new(node.digest.algorithm());
    // Small pieces, because many manifests may be hashed at once.
    let mut pieces = blob.stream(0, node.size, SMALL_BYTES);
    while let Some(piece) = pieces.next().await {
        hasher.update(&piece?);
    }
    Ok(hasher.finish() == node.digest)
}

/// `PUT /v2/<name>/manifests/<reference>`.
pub(super) async fn push(to: WriteTarget<'_>, name: &Name, query: &Query, head: &Parts, body: Body) -> Reply {
    let WriteTarget { service, writer, repository } = to;
    let (headers, tags) = (&head.headers, tags(name, query)?);
    let (bytes, _share) = gather(service, headers, network_of(head), body).await?;
    let is_small = bytes.len() as u64 <= SMALL_BYTES && !json_cost::exceeds(&bytes, SMALL_VALUES);
    let _turn = if is_small { None } else { Some(service.memory.desk().await?) };
    service.metrics.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let digest = match name {
        Name::Digest(digest) => digest.same_kind_of(&bytes),
        Name::Tag(_) => Digest::sha256(&bytes),
    };
    if let Name::Digest(named) = name
        && digest != *named
    {
        return Err(ErrorResponse::digest_invalid(format!("the bytes sent hash to {digest}, not to {named}")));
    }
    let served = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let manifest = Manifest::parse_new(&bytes, &MediaType::new(served))
        .map_err(|why| ErrorResponse::manifest_invalid(crate::error::printable(&why.to_string())))?;
    let layout = writer.data_dir.repository(repository);
    let node = Descriptor::new(manifest.media_type.clone(), digest, bytes.len() as u64);
    let former = former(service, &layout, &tags).await;
    let needed = needed(service, &manifest);
    if let Some(lack) = layout.put_complete(&node, bytes, &tags, needed).await? {
        writer.data_dir.forget_unless_made(layout, repository).await?;
        return Err(match lack {
            Lack::Missing(digest) => ErrorResponse::missing_child(service.behaviour.missing_child, digest),
            // One of the two lengths is wrong. The client sends the blob again.
            Lack::OtherLength(digest, held) => ErrorResponse::other_length(digest, held),
        });
    }
    forget(&layout, former).await?;
    Ok(created(service, repository, digest, name, &tags, &manifest))
}

/// Returns the reference in the path if it is a tag, and the tags that the query names beside a digest.
fn tags(name: &Name, query: &Query) -> Result<Vec<Tag>, ErrorResponse> {
    match name {
        Name::Tag(tag) => Ok(vec![tag.clone()]),
        Name::Digest(_) => query
            .all("tag")
            .map(|tag| tag.parse().map_err(|_| ErrorResponse::manifest_invalid(format!("{tag:?} is not a tag"))))
            .collect(),
    }
}

fn created(
    service: &ServerState,
    repository: &RepositoryPath,
    digest: Digest,
    name: &Name,
    tags: &[Tag],
    manifest: &Manifest,
) -> Response<Body> {
    let headers = [("location", format!("/v2/{repository}/manifests/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    let mut response = reply(StatusCode::CREATED, headers, Body::empty());
    let headers = response.headers_mut();
    if let (Some(subject), true) = (&manifest.subject, service.behaviour.has_referrers_api) {
        headers.extend(HeaderValue::try_from(subject.digest.to_string()).ok().map(|v| (super::OCI_SUBJECT, v)));
    }
    if matches!(name, Name::Digest(_)) {
        for tag in tags {
            headers.extend(HeaderValue::try_from(tag.as_str()).ok().map(|v| (super::OCI_TAG, v)));
        }
    }
    response
}

/// Returns the content that a manifest needs here. An image needs its blobs; an index may be sparse, unless this server
/// refuses that.
fn needed(service: &ServerState, manifest: &Manifest) -> Vec<(Digest, u64)> {
    if manifest.shape == Shape::Index && !service.behaviour.refuses_sparse {
        return Vec::new();
    }
    // Clients download foreign layers from their publisher, so they need not be here.
    let own = |node: &&Descriptor| !node.is_foreign();
    manifest.children().filter(own).map(|node| (node.digest, node.size)).collect()
}

/// Reads a manifest from a request's body, with its share of the memory.
async fn gather(
    service: &ServerState,
    headers: &HeaderMap,
    from: IpAddr,
    body: Body,
) -> Result<(Bytes, Option<Share>), ErrorResponse> {
    let too_large = || {
        let message = format!("a manifest holds at most {MAX_MANIFEST_BYTES} bytes");
        ErrorResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_MANIFEST_BYTES) {
        return Err(too_large());
    }
    let (memory, whole) = (&service.memory, announced.unwrap_or(MAX_MANIFEST_BYTES));
    // An announced length alone reserves no memory.
    let mut bytes = BytesMut::with_capacity(whole.min(SMALL_BYTES) as usize);
    let (mut share, mut stream, begun) = (None, PacedBody::new(body, &service.limits), Instant::now());
    loop {
        let step = tokio::select! {
            biased;
            () = memory.is_wanted_back(begun), if share.is_some() => return Err(ErrorResponse::busy()),
            step = stream.next() => step,
        };
        match step {
            BodyStep::Piece(piece) => {
                let length = (bytes.len() + piece.len()) as u64;
                if length > MAX_MANIFEST_BYTES {
                    return Err(too_large());
                }
                if share.is_none() && length > SMALL_BYTES {
                    share = Some(memory.share(from, whole).await?);
                    // Reserved at once: a buffer that grows is held twice for a moment.
                    bytes.reserve((whole as usize).saturating_sub(bytes.len()));
                }
                bytes.extend_from_slice(&piece);
            }
            BodyStep::End if announced.is_none_or(|length| length == bytes.len() as u64) => {
                return Ok((bytes.freeze(), share));
            }
            BodyStep::End | BodyStep::Cut => {
                return Err(ErrorResponse::manifest_invalid("the connection broke inside the body"));
            }
        }
    }
}

/// `DELETE /v2/<name>/manifests/<reference>`: removes a tag alone, or a manifest with all its tags.
pub(super) async fn delete(to: WriteTarget<'_>, name: &Name) -> Reply {
    let layout = to.existing().await?;
    let is_removed = match name {
        Name::Tag(tag) => {
            let former = former(to.service, &layout, std::slice::from_ref(tag)).await;
            let is_removed = layout.remove_tag(tag).await?;
            forget(&layout, former).await?;
            is_removed
        }
        Name::Digest(digest) => layout.remove_manifest(*digest).await?,
    };
    if !is_removed {
        return Err(ErrorResponse::manifest_unknown(name));
    }
    Ok(reply(StatusCode::ACCEPTED, [], Body::empty()))
}

/// Returns the digests that the tags name before they move, for a server that drops untagged manifests.
async fn former(service: &ServerState, layout: &Layout, tags: &[Tag]) -> Vec<Digest> {
    let mut found = Vec::new();
    for tag in tags.iter().filter(|_| service.behaviour.forgets_untagged) {
        found.extend(layout.resolve(&Name::Tag(tag.clone())).await.map(|node| node.digest));
    }
    found
}

async fn forget(layout: &Layout, former: Vec<Digest>) -> Result<(), ErrorResponse> {
    let mut open = former;
    // Manifests that other tagged indexes list stay.
    let listed = if open.is_empty() { HashSet::new() } else { listed(layout).await? };
    // Ends because a removed manifest is not found again.
    while let Some(digest) = open.pop() {
        if listed.contains(&digest) || layout.is_tagged(digest).await? {
            continue;
        }
        let Ok(root) = layout.fetch(&Name::Digest(digest)).await else { continue };
        if let Ok(manifest) = root.manifest() {
            open.extend(manifest.manifests.iter().map(|node| node.digest));
        }
        layout.remove_manifest(digest).await?;
    }
    Ok(())
}

/// Returns every digest that tagged indexes list, at any depth.
async fn listed(layout: &Layout) -> Result<HashSet<Digest>, ErrorResponse> {
    let (mut open, mut found) = (Vec::new(), HashSet::new());
    for tag in layout.tags().await? {
        open.extend(layout.resolve(&Name::Tag(tag)).await.map(|node| node.digest));
    }
    while let Some(digest) = open.pop() {
        let Ok(root) = layout.fetch(&Name::Digest(digest)).await else { continue };
        if let Ok(manifest) = root.manifest() {
            open.extend(manifest.manifests.iter().map(|node| node.digest).filter(|digest| found.insert(*digest)));
        }
    }
    Ok(found)
}

fn unknown(error: crate::error::Error, name: &Name) -> ErrorResponse {
    match error.kind() {
        Kind::NotFound => ErrorResponse::manifest_unknown(name),
        _ => error.into(),
    }
}
