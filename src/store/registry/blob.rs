//! Reads blobs and manifests by digest, from any offset.

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use http::Method;
use http::header::{ACCEPT, CONTENT_RANGE, RANGE};

use super::{Registry, suffix};
use crate::error::{Kind, Result};
use crate::oci::{Descriptor, Name};
use crate::store::ByteStream;
use crate::wire::{Response, content_range};

impl Registry {
    pub(super) async fn contains_once(&self, node: &Descriptor) -> Result<bool> {
        let request = self
            .request(Method::HEAD, &place(node), "look for", suffix(&Name::Digest(node.digest)))
            .header(ACCEPT, accepted(node));
        let answer = self.host.send(&request).await?;
        if answer.status().as_u16() == 404 {
            return Ok(false);
        }
        let answer = answer.expect(&[200]).await?;
        match answer.length() {
            _ if answer.is_page() => Err(answer.page("an HTML page in place of an answer")),
            Some(length) if length != node.size => Err(other_length(&answer, length, node.size)),
            _ => Ok(true),
        }
    }

    pub(super) async fn open_once(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let what = suffix(&Name::Digest(node.digest));
        if from > 0 && from == node.size {
            return Ok(Box::pin(stream::empty()));
        }
        if from > node.size {
            let why = format!("offset {from} lies past its {} bytes", node.size);
            return Err(self.error(Kind::Usage, "open", what).because(why));
        }
        let (op, is_manifest) = if node.is_manifest() { ("get manifest", true) } else { ("get blob", false) };
        let mut request = self.request(Method::GET, &place(node), op, what).header(ACCEPT, accepted(node));
        // Ranges are for blobs (distribution-spec, "Pulling blobs"); a manifest is small enough to fetch again.
        let is_ranged = from > 0 && !is_manifest;
        if is_ranged {
            request = request.header(RANGE, &format!("bytes={from}-"));
        }
        let answer = self.host.send(&request).await?;
        if answer.status().is_success() && !is_manifest {
            self.host.content_moved();
        }
        match answer.status().as_u16() {
            200 => {
                check_length(&answer, node.size, node.size)?;
                Ok(skip(answer.stream(), from))
            }
            206 if is_ranged => {
                check_range(&answer, from, node.size)?;
                check_length(&answer, node.size - from, node.size)?;
                Ok(answer.stream())
            }
            206 => Err(answer.error(Kind::Invalid, "a part, where all of it was asked for")),
            // The body is not read: registry 2.8 declares the whole blob's length there and sends less.
            416 => Err(answer.error(Kind::Corrupt, format!("the registry holds no byte {from} of {}", node.size))),
            _ => Err(answer.problem().await.into()),
        }
    }
}

/// Returns the path of a node, below its repository.
fn place(node: &Descriptor) -> String {
    let kind = if node.is_manifest() { "manifests" } else { "blobs" };
    format!("{kind}/{}", node.digest)
}

fn accepted(node: &Descriptor) -> &str {
    if node.is_manifest() { node.media_type.as_str() } else { "*/*" }
}

fn check_length(answer: &Response, expected: u64, whole: u64) -> Result<()> {
    match answer.length() {
        Some(length) if length != expected => {
            Err(other_length(answer, (whole - expected).saturating_add(length), whole))
        }
        _ => Ok(()),
    }
}

fn other_length(answer: &Response, length: u64, expected: u64) -> crate::error::Error {
    answer.error(Kind::Corrupt, format!("the registry says {length} bytes, its manifest {expected}"))
}

/// A range that starts elsewhere would be spliced into the wrong place; the digest would only notice it afterwards.
fn check_range(answer: &Response, from: u64, size: u64) -> Result<()> {
    let said = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
    match content_range(said) {
        Some(range) if range.total.is_some_and(|total| total != size) => {
            Err(other_length(answer, range.total.unwrap_or_default(), size))
        }
        Some(range) if range.first == from && range.last == size - 1 => Ok(()),
        _ => Err(answer.error(Kind::Invalid, format!("asked for bytes {from}-{}, was given {said:?}", size - 1))),
    }
}

/// Skips the first `count` bytes, for registries that answer a range request with everything. Skipped bytes come as
/// empty pieces, so that the reader sees progress.
fn skip(stream: ByteStream, count: u64) -> ByteStream {
    if count == 0 {
        return stream;
    }
    let mut left = count;
    Box::pin(stream.map_ok(move |piece: Bytes| {
        let cut = left.min(piece.len() as u64);
        left -= cut;
        // At most the length of the piece, which is a usize.
        piece.slice(usize::try_from(cut).unwrap_or(piece.len())..)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use futures_util::StreamExt as _;

    #[tokio::test]
    async fn skipping_leaves_out_exactly_the_first_bytes() {
        for count in 0..=6_u64 {
            let pieces = ["ab", "", "c", "def"].map(|piece| Ok::<_, Error>(Bytes::from_static(piece.as_bytes())));
            let all: Vec<_> = skip(Box::pin(stream::iter(pieces)), count).map(Result::unwrap).collect().await;
            assert_eq!(all.concat(), &b"abcdef"[usize::try_from(count).unwrap()..]);
        }
    }
}
