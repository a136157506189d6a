//! Manifests: one GET, one HEAD or one PUT each.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::{Registry, own_failure_may_pass, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag};
use crate::store::{Body, MAX_MANIFEST_BYTES, Put, Root};
use crate::wire::{Payload, Problem, Response};

/// All types that can be copied; schema 1 last, so that the registry returns it as such and does not convert it.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";

/// The header with the digest of the content that is served or was stored.
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";

/// The header by which a registry confirms that it has recorded a subject (distribution-spec, "Pushing Manifests with
/// Subject").
const SUBJECT_HEADER: &str = "oci-subject";

impl Registry {
    pub(super) async fn resolve_once(&self, name: &Name) -> Result<Descriptor> {
        match self.head(name).await? {
            Some(node) => Ok(node),
            None => Ok(self.fetch_once(name).await?.node),
        }
    }

    /// Returns the registry's claim about `name`, if it claims enough.
    async fn head(&self, name: &Name) -> Result<Option<Descriptor>> {
        let request = self
            .request(Method::HEAD, &format!("manifests/{name}"), "find manifest", suffix(name))
            .header(ACCEPT, ACCEPTED);
        let answer = self.host.send(&request).await?;
        if [405, 501].contains(&answer.status().as_u16()) {
            return Ok(None);
        }
        let answer = answer.expect(&[200]).await?;
        let media_type = MediaType::new(answer.header(CONTENT_TYPE.as_str()).unwrap_or_default());
        if media_type.is_schema1() {
            return Err(schema1(&answer));
        }
        let (Some(digest), Some(size)) = (claimed_digest(&answer), answer.length()) else { return Ok(None) };
        let is_other = matches!(name, Name::Digest(asked) if *asked != digest);
        Ok((media_type.is_manifest() && !is_other).then(|| Descriptor::new(media_type, digest, size)))
    }

    /// Returns the manifest itself, checked against the requested name and against the registry's own headers.
    pub(super) async fn fetch_once(&self, name: &Name) -> Result<Root> {
        let request = self
            .request(Method::GET, &format!("manifests/{name}"), "get manifest", suffix(name))
            .header(ACCEPT, ACCEPTED);
        let answer = self.host.send(&request).await?.expect(&[200]).await?;
        let served = MediaType::new(answer.header(CONTENT_TYPE.as_str()).unwrap_or_default());
        if served.is_schema1() {
            return Err(schema1(&answer));
        }
        let claimed = claimed_digest(&answer);
        let strange = match served.as_str() {
            "" => "what came has no type, and is no manifest that tells its own".to_owned(),
            served => format!("{served} is not a manifest type that can be copied"),
        };
        let strange = answer.error(Kind::Unsupported, strange);
        let page = answer.page("an HTML page in place of a manifest");
        let bytes = answer.bytes(MAX_MANIFEST_BYTES).await?;
        let asked = if let Name::Digest(digest) = name { Some(*digest) } else { None };
        for expected in [asked, claimed].into_iter().flatten() {
            self.check(name, &expected, &bytes)?;
        }
        if served.as_str() == "text/html" {
            return Err(page);
        }
        let media_type = if served.is_manifest() { Some(served) } else { Manifest::sniff(&bytes) };
        let media_type = media_type.filter(MediaType::is_manifest).ok_or(strange)?;
        let digest = asked.or(claimed).unwrap_or_else(|| Digest::sha256(&bytes));
        Ok(Root { node: Descriptor::new(media_type, digest, bytes.len() as u64), bytes })
    }

    fn check(&self, name: &Name, expected: &Digest, bytes: &[u8]) -> Result<()> {
        let found = expected.same_kind_of(bytes);
        if found == *expected {
            return Ok(());
        }
        let why = format!("{}: its bytes hash to {found}, not to {expected}", Kind::Corrupt);
        Err(self.error(Kind::Corrupt, "get manifest", suffix(name)).because(why))
    }

    /// Puts a manifest under each of `tags`, or by its digest if there are none.
    pub(super) async fn put_manifest(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        let bytes = self.collect(node, body).await?;
        let names = match tags {
            [] => vec![Name::Digest(node.digest)],
            tags => tags.iter().cloned().map(Name::Tag).collect(),
        };
        let manifest = Manifest::parse(&bytes, &node.media_type).ok();
        let has_subject = manifest.as_ref().is_some_and(|manifest| manifest.subject.is_some());
        let mut is_noted = true;
        for name in &names {
            let (is_lost, is_damaged) = (AtomicBool::new(false), AtomicBool::new(false));
            let put = || async {
                // An attempt failed, but perhaps only its answer was lost: a tag that is already right is not put
                // again. A manifest with a subject is: only the answer says whether the subject was recorded.
                if is_lost.load(Ordering::Relaxed) && !has_subject && self.names(name, node).await {
                    return Ok(true);
                }
                let put = self.put_once(name, node, &bytes, &is_damaged).await;
                // A registry that says when to retry has stored nothing.
                let may_have_moved =
                    |error: &Error| error.kind() == Kind::Unavailable && error.requested_pause().is_none();
                is_lost.store(put.as_ref().err().is_some_and(may_have_moved), Ordering::Relaxed);
                put
            };
            is_noted = match self.host.retrying(own_failure_may_pass, put).await {
                // A registry that allows each tag only once also rejects a manifest that is already in place.
                Err(error) if is_refusal(&error) && self.names(name, node).await => false,
                // Several answers say this of the same bytes: the registry's copy of the content is damaged.
                Err(error) if error.kind() == Kind::Corrupt && is_damaged.into_inner() => {
                    return Err(self.error(Kind::Incomplete, "put manifest", suffix(name)).because(error));
                }
                put => put?,
            };
        }
        // ECR confirms the subject, but has no API to list it by (sigstore-js #1183).
        is_noted &= !self.lacks_referrers_api();
        if let Some(manifest) = manifest
            && let Some(subject) = manifest.subject.clone()
            && !is_noted
        {
            Box::pin(self.attach(&subject.digest, node, manifest)).await?;
        }
        Ok(Put::Sent(node.size))
    }

    /// Puts the manifest once; returns whether the registry has recorded its subject.
    async fn put_once(&self, name: &Name, node: &Descriptor, bytes: &Bytes, is_damaged: &AtomicBool) -> Result<bool> {
        let answer = self.sent(name, &node.media_type, bytes).await?.map_err(|problem| {
            is_damaged.store(problem.has_code("SIZE_INVALID"), Ordering::Relaxed);
            Error::from(problem)
        })?;
        match claimed_digest(&answer) {
            Some(stored) if stored.algorithm() == node.digest.algorithm() && stored != node.digest => {
                Err(answer.error(Kind::Corrupt, format!("the registry stored {stored} in place of {}", node.digest)))
            }
            _ => Ok(answer.header(SUBJECT_HEADER).is_some()),
        }
    }

    /// Whether `name` is a tag that now names `node`, as far as the registry answers.
    async fn names(&self, name: &Name, node: &Descriptor) -> bool {
        let is_tag = matches!(name, Name::Tag(_));
        is_tag && self.resolve_once(name).await.is_ok_and(|found| found.digest == node.digest)
    }

    /// Sends a manifest. Success means that the registry then holds it, and not the status: 200, 202 and 204 come from
    /// registries that have stored it (Quay, distribution before 2.2) and also from servers that store nothing. If one
    /// of these statuses comes without a digest, a second request checks the registry.
    pub(super) async fn put_bytes(&self, name: &Name, media_type: &MediaType, bytes: &Bytes) -> Result<Response> {
        Ok(self.sent(name, media_type, bytes).await??)
    }

    /// Does the same, and returns the registry's problem instead of an error.
    async fn sent(&self, name: &Name, media_type: &MediaType, bytes: &Bytes) -> Result<Result<Response, Problem>> {
        let request = self
            .request(Method::PUT, &format!("manifests/{name}"), "put manifest", suffix(name))
            .header(CONTENT_TYPE, media_type.as_str())
            .carrying(Payload::Bytes(bytes.clone()));
        let answer = self.host.send(&request).await?;
        let is_told = answer.status().as_u16() == 201 || claimed_digest(&answer).is_some();
        if answer.status().is_success() && is_told {
            self.host.content_moved();
            return Ok(Ok(answer));
        }
        if answer.status().is_success() && !answer.is_page() {
            return self.held_after(answer, name, bytes).await.map(Ok);
        }
        let mut problem = answer.problem().await;
        // A missing thing in the answer to a manifest is something that the manifest refers to. Registries report it
        // under several codes; only an unknown repository means something else.
        if problem.has_code("BLOB_UNKNOWN") || problem.has_code("MANIFEST_UNKNOWN") {
            problem.kind = Kind::Incomplete;
        }
        Ok(Err(problem))
    }

    /// Returns `answer`, a success without a digest, if `name` now names `bytes`.
    async fn held_after(&self, answer: Response, name: &Name, bytes: &Bytes) -> Result<Response> {
        let why = format!("{}, and no such manifest is there", answer.status());
        let lost = answer.error(Kind::Unavailable, why);
        match self.resolve_once(name).await {
            Ok(node) if node.digest.matches(bytes) => Ok(answer),
            Ok(node) => Err(answer.error(Kind::Corrupt, format!("{} is there in its place", node.digest))),
            Err(error) if error.kind() == Kind::NotFound => Err(lost),
            Err(error) => Err(error),
        }
    }

    async fn collect(&self, node: &Descriptor, body: &Body) -> Result<Bytes> {
        if node.size > MAX_MANIFEST_BYTES {
            let why = format!("{} bytes, at most {MAX_MANIFEST_BYTES} are allowed for", node.size);
            return Err(self.error(Kind::Limit, "put manifest", suffix(&Name::Digest(node.digest))).because(why));
        }
        // Content in memory is checked in place: dozens of manifests may be on their way at the same time.
        if let Some(bytes) = body.at_hand()
            && bytes.len() as u64 == node.size
            && node.digest.matches(bytes)
        {
            return Ok(bytes.clone());
        }
        // The stream checks as it goes, and returns the right error.
        let mut stream = body.open();
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.freeze())
    }
}

/// Returns the digest that the answer claims; a digest of an unknown algorithm is ignored, as it cannot be checked.
pub(super) fn claimed_digest(answer: &Response) -> Option<Digest> {
    answer.header(DIGEST_HEADER)?.trim().parse().ok()
}

/// Whether a manifest was rejected because of its content, or of its destination.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Invalid | Kind::Denied | Kind::Unsupported)
}

fn schema1(answer: &Response) -> Error {
    answer
        .error(Kind::Unsupported, "docker schema 1 manifests are not content-addressed and cannot be copied")
        .hint("push the image again with a current client")
}
