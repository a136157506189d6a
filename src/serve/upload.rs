//! Pushing blobs (distribution-spec, "Pushing blobs", "Mounting a blob from another repository").

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use tokio::sync::OwnedMutexGuard;

use super::error_response::{ErrorResponse, is_no_room};
use super::profile::AfterCut;
use super::query::Query;
use super::reply::{CONTENT_DIGEST, Reply, reply};
use super::state::{RegistryWriter, ServerState, WriteTarget};
use super::upload_quota::{Exceeded, SessionOwner};
use super::upload_session::{BodyEnd, UploadSession};
use crate::error::{Error, Kind};
use crate::http_server::paced_body::PacedBody;
use crate::oci::{Algorithm, Digest, RepositoryPath};

/// Seconds until a client asks again for a session: sessions end when pushes do.
const UPLOADS_RETRY_SECONDS: u16 = 30;

/// `POST /v2/<name>/blobs/uploads/`: begins an upload, mounts a blob, or takes a whole blob.
pub(super) async fn begin(
    to: WriteTarget<'_>,
    query: &Query,
    client: SessionOwner,
    headers: &HeaderMap,
    body: Body,
) -> Reply {
    if let Some(digest) = query.digest("mount")?
        && mount(to, &client, digest, query.get("from")).await?
    {
        return Ok(created(to.repository, digest));
    }
    let algorithm = match query.get("digest-algorithm") {
        Some("sha512") => Algorithm::Sha512,
        None | Some("sha256") => Algorithm::Sha256,
        Some(_) => return Err(ErrorResponse::digest_invalid("only sha256 and sha512 digests are supported")),
    };
    let digest = query.digest("digest")?;
    let part = to.writer.sessions.part(client).await.map_err(|why| too_many(to.service, why))?;
    let id = to.writer.sessions.begin(to.repository, algorithm, part).await?;
    if let Some(digest) = digest.filter(|_| to.service.behaviour.takes_single_post) {
        let closed = close_with(to, &id, digest, headers, body).await;
        if closed.is_err() {
            // No client knows its name, so none can go on with it or cancel it.
            let _ = cancel(to, &id).await;
        }
        return closed;
    }
    Ok(accepted(to.repository, &id, 0, StatusCode::ACCEPTED))
}

fn too_many(service: &ServerState, why: Exceeded) -> ErrorResponse {
    let told = match why {
        Exceeded::Own => {
            let most = service.limits.sessions_of_one;
            format!("this client has {most} uploads open, which is as many as it may; finish or cancel some")
        }
        Exceeded::All => "as many uploads are open as there may be; try again later".to_owned(),
    };
    ErrorResponse::too_many(told, UPLOADS_RETRY_SECONDS)
}

async fn mount(
    to: WriteTarget<'_>,
    client: &SessionOwner,
    digest: Digest,
    from: Option<&str>,
) -> Result<bool, ErrorResponse> {
    let WriteTarget { service, writer: RegistryWriter { data_dir, .. }, repository } = to;
    // Not remembered before there is content in it.
    let target = data_dir.repository_to_read(repository);
    if service.behaviour.mounts_from_anywhere {
        for path in service.reader.repositories().await? {
            if data_dir.has_sound_blob(&path, &digest).await?
                && service.admit_blob(client, &path, &digest, false).await.is_ok()
                && target.mount(&data_dir.repository(&path), digest).await?
            {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let Some(from) = from else { return Ok(false) };
    let from: RepositoryPath = from.parse().map_err(|_| ErrorResponse::name_invalid(from))?;
    if from == *repository {
        return Ok(data_dir.has_sound_blob(repository, &digest).await? && target.vouch(&digest).await?.is_some());
    }
    // A source that does not exist is no error: the upload begins (tried on distribution 2.8 and 3).
    let Ok(Some(source)) = data_dir.existing(&from).await else { return Ok(false) };
    // A mount is a pull from the other repository.
    Ok(data_dir.has_sound_blob(&from, &digest).await?
        && service.admit_blob(client, &from, &digest, false).await.is_ok()
        && target.mount(&source, digest).await?)
}

/// `PATCH /v2/<name>/blobs/uploads/<id>`: takes a chunk.
pub(super) async fn chunk(to: WriteTarget<'_>, id: &str, headers: &HeaderMap, body: Body) -> Reply {
    let session = take(to, id).await?;
    let session = append(to, session, headers, body).await?;
    Ok(accepted(to.repository, id, session.offset(), StatusCode::ACCEPTED))
}

/// `PUT /v2/<name>/blobs/uploads/<id>?digest=`: takes the last chunk, if there is one, and makes it a blob.
pub(super) async fn close(to: WriteTarget<'_>, id: &str, query: &Query, headers: &HeaderMap, body: Body) -> Reply {
    let digest = query.digest("digest")?.ok_or_else(|| ErrorResponse::digest_invalid("the query names no digest"))?;
    close_with(to, id, digest, headers, body).await
}

async fn close_with(to: WriteTarget<'_>, id: &str, digest: Digest, headers: &HeaderMap, body: Body) -> Reply {
    let mut session = take(to, id).await?;
    session.expect(digest.algorithm());
    if to.service.behaviour.takes_unsized_put || headers.contains_key(header::CONTENT_LENGTH) {
        session = append(to, session, headers, body).await?;
    }
    // Held until it is a blob: no other server writes to it meanwhile, or makes another blob of it.
    let file = session.open().await.map_err(taken)?;
    let found = session.digest(&file, digest.algorithm()).await?;
    if found != digest {
        to.writer.sessions.end(&mut session).await?;
        return Err(ErrorResponse::digest_invalid(format!("the bytes sent hash to {found}, not to {digest}")));
    }
    let adopted = to.writer.data_dir.repository(to.repository).adopt(session.place(), file, digest).await;
    // On a full disk, removing the session frees room.
    if adopted.as_ref().err().is_none_or(is_no_room) {
        to.writer.sessions.end(&mut session).await?;
    }
    adopted?;
    Ok(created(to.repository, digest))
}

/// `GET /v2/<name>/blobs/uploads/<id>`: says how much has arrived.
pub(super) async fn status(to: WriteTarget<'_>, id: &str) -> Reply {
    let offset = to.writer.sessions.offset(to.repository, id).await?.ok_or_else(ErrorResponse::upload_unknown)?;
    Ok(accepted(to.repository, id, offset, StatusCode::NO_CONTENT))
}

/// `DELETE /v2/<name>/blobs/uploads/<id>`: cancels the upload.
pub(super) async fn cancel(to: WriteTarget<'_>, id: &str) -> Reply {
    let mut session = take(to, id).await?;
    to.writer.sessions.end(&mut session).await?;
    Ok(reply(StatusCode::NO_CONTENT, [], Body::empty()))
}

async fn take(to: WriteTarget<'_>, id: &str) -> Result<OwnedMutexGuard<UploadSession>, ErrorResponse> {
    to.writer.sessions.take(to.repository, id).await?.ok_or_else(ErrorResponse::upload_unknown)
}

fn taken(error: Error) -> ErrorResponse {
    match error.kind() {
        // A sweep has just removed it for its age, or another server has made a blob of it.
        Kind::NotFound => ErrorResponse::upload_unknown(),
        Kind::Unavailable => ErrorResponse::upload_invalid("another request is writing to this upload"),
        _ => error.into(),
    }
}

async fn append(
    to: WriteTarget<'_>,
    mut session: OwnedMutexGuard<UploadSession>,
    headers: &HeaderMap,
    body: Body,
) -> Result<OwnedMutexGuard<UploadSession>, ErrorResponse> {
    let WriteTarget { service, writer, .. } = to;
    let length = length(headers);
    let is_empty = length == Some(0);
    let file = if is_empty { None } else { Some(session.open().await.map_err(taken)?) };
    if service.behaviour.checks_content_range {
        check_range(&session, headers, length)?;
    }
    let Some(file) = file else { return Ok(session) };
    let before = session.offset();
    let paced = PacedBody::new(body, &service.limits);
    let appended = UploadSession::append(session, file, paced, length, service.memory.lane()).await;
    let (mut session, arrival) = appended.map_err(taken)?;
    service.metrics.bytes_in.fetch_add(session.offset() - before, Ordering::Relaxed);
    if arrival == BodyEnd::Whole {
        return Ok(session);
    }
    if service.behaviour.after_cut != AfterCut::Resumable {
        writer.sessions.end(&mut session).await?;
    }
    Err(ErrorResponse::upload_invalid("the connection broke inside the body"))
}

/// Checks `Content-Range` against the bytes that have arrived and the length of this body.
fn check_range(session: &UploadSession, headers: &HeaderMap, length: Option<u64>) -> Result<(), ErrorResponse> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    span(value.to_str().unwrap_or_default(), session.offset(), length)
}

/// Checks `<start>-<end>` (no unit, both ends inclusive) against the offset where a chunk must start, and its length if
/// known.
pub(super) fn span(text: &str, offset: u64, length: Option<u64>) -> Result<(), ErrorResponse> {
    // `parse` accepts a sign, which no header has.
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let range = text.split_once('-').and_then(|(start, end)| Some((number(start)?, number(end)?)));
    let Some((start, end)) = range.filter(|(start, end)| start <= end) else {
        return Err(ErrorResponse::upload_invalid("Content-Range is <start>-<end>"));
    };
    if start != offset {
        let message = format!("the next byte is {offset}, the chunk starts at {start}");
        let problem = ErrorResponse::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message);
        return Err(problem.with(header::RANGE, arrived(offset)));
    }
    // Subtracts, because a range may reach the largest number.
    if length.is_some_and(|length| length.checked_sub(1) != Some(end - start)) {
        return Err(ErrorResponse::new(
            StatusCode::BAD_REQUEST,
            "SIZE_INVALID",
            "Content-Range and Content-Length do not agree",
        ));
    }
    Ok(())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns `0-<last byte>`; an empty upload is `0-0`, as all registries write it.
fn arrived(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn accepted(repository: &RepositoryPath, id: &str, offset: u64, status: StatusCode) -> Response<Body> {
    let headers = [
        ("location", format!("/v2/{repository}/blobs/uploads/{id}")),
        ("range", arrived(offset)),
        ("docker-upload-uuid", id.to_owned()),
    ];
    reply(status, headers, Body::empty())
}

fn created(repository: &RepositoryPath, digest: Digest) -> Response<Body> {
    let headers = [("location", format!("/v2/{repository}/blobs/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    reply(StatusCode::CREATED, headers, Body::empty())
}
