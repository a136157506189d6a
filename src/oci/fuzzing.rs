//! Properties of references, digests and manifests, for any bytes.

use super::manifest::MAX_VALUES;
use super::{Digest, Manifest, MediaType, Reference, RepositoryPath, Shape, Tag};

/// The types that a manifest is served with, right or wrong.
const OUTSIDE: [MediaType; 8] = [
    MediaType::OCTET_STREAM,
    MediaType::OCI_MANIFEST,
    MediaType::OCI_INDEX,
    MediaType::DOCKER_MANIFEST,
    MediaType::DOCKER_LIST,
    MediaType::OCI_ARTIFACT,
    MediaType::DOCKER_SCHEMA1,
    MediaType::OCI_LAYER,
];

/// Checks that an accepted reference prints as it was, or as its full spelling, and is safe as a path.
pub(crate) fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tag) = text.parse::<Tag>() {
        assert!(tag.as_str() == text && text.is_ascii() && text.len() <= 128);
    }
    if let Ok(path) = text.parse::<RepositoryPath>() {
        assert_eq!(path.as_str(), text);
        safe(&path);
    }
    match text.parse::<Reference>() {
        Ok(reference) => taken(&reference, text),
        Err(why) => assert!(why.to_string().len() <= 200 + 12 * text.len(), "the hint is no longer than its cause"),
    }
}

fn taken(reference: &Reference, text: &str) {
    let printed = reference.to_string();
    assert_eq!(printed.parse::<Reference>().as_ref(), Ok(reference), "printed and read again");
    assert!(printed == text || printed == text.replacen('/', "/library/", 1), "{printed}");
    assert!(printed.is_ascii() && printed.bytes().all(|b| b.is_ascii_graphic()));
    let json = serde_json::to_vec(reference).expect("a reference is a text");
    assert_eq!(serde_json::from_slice::<Reference>(&json).ok().as_ref(), Some(reference));
    let repository = &reference.repository;
    assert!(!repository.host.is_empty() && !repository.host.contains(['/', '@', '\\', '?', '#', '%']));
    safe(&repository.path);
    assert_eq!(repository.to_string(), format!("{}/{}", repository.host, repository.path));
    // A host that counts as this machine must also be this machine for the HTTP client.
    let url = url::Url::parse(&format!("https://{}/", repository.api_host())).ok();
    let host = url.as_ref().and_then(url::Url::host_str);
    assert!(
        !repository.is_loopback() || host.is_some_and(|h| h == "localhost" || h == "[::1]" || h.starts_with("127."))
    );
    match &reference.digest {
        Some(digest) => assert_eq!(reference.name().to_string(), digest.to_string()),
        None => assert!(reference.name().to_string().parse::<Tag>().is_ok()),
    }
}

/// Checks that no part of the path is `..`, hidden or empty.
fn safe(path: &RepositoryPath) {
    assert!(path.as_str().len() <= 255 && !path.as_str().contains(".."));
    for part in path.as_str().split('/') {
        assert!(!part.is_empty() && !part.starts_with(['.', '-', '_']) && !part.ends_with(['.', '-', '_']), "{path}");
    }
}

/// Checks that a digest has one spelling, which it prints.
pub(crate) fn digest(bytes: &[u8]) {
    let own = Digest::sha256(bytes);
    assert!(own.matches(bytes) && own.to_string().parse() == Ok(own));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(digest) = text.parse::<Digest>() else { return };
    assert_eq!(digest.to_string(), text);
    assert_eq!(digest.hex().len(), 2 * digest.as_bytes().len());
    assert!(digest.hex().starts_with(&digest.short()) && digest.fallback_tag().parse::<Tag>().is_ok());
    assert_eq!(digest.matches(b""), digest == digest.same_kind_of(b""));
    let json = serde_json::to_vec(&digest).expect("a digest is a text");
    assert_eq!(serde_json::from_slice::<Digest>(&json).ok(), Some(digest));
}

/// Checks that bytes that refer to something have one meaning, whatever they are served as.
pub(crate) fn manifest(bytes: &[u8]) {
    let read: Vec<_> =
        OUTSIDE.iter().filter_map(|outside| Some((outside, Manifest::parse(bytes, outside).ok()?))).collect();
    for (outside, manifest) in &read {
        assert!(manifest.media_type.is_manifest() && !manifest.media_type.is_schema1() && !outside.is_schema1());
        assert!(!outside.is_manifest() || manifest.media_type == **outside, "the type outside is believed or refused");
        assert_eq!(manifest.shape == Shape::Index, manifest.media_type.is_index());
        let (has_blobs, has_manifests) =
            (manifest.config.is_some() || !manifest.layers.is_empty(), !manifest.manifests.is_empty());
        assert!(if manifest.shape == Shape::Index { !has_blobs } else { !has_manifests }, "one or the other");
        assert!(
            manifest.children().count() <= MAX_VALUES + 2 && manifest.platforms().len() <= manifest.manifests.len()
        );
        assert_eq!(Manifest::parse(bytes, &manifest.media_type).ok().as_ref(), Some(manifest), "its own type fits");
        assert!(Manifest::sniff(bytes).is_some(), "what is read has a type to be served with");
    }
    let shapes = |wanted: Shape| read.iter().any(|(_, m)| m.shape == wanted && m.children().count() > 0);
    assert!(!(shapes(Shape::Index) && shapes(Shape::Image)), "an index to one reader, an image to another");
    if let Some((_, manifest)) = read.first() {
        for node in manifest.children().chain(&manifest.subject) {
            if let Some(bytes) = node.inline() {
                assert!(bytes.len() as u64 == node.size && node.digest.matches(&bytes));
            }
            let json = serde_json::to_vec(node).expect("a descriptor can be written");
            assert_eq!(serde_json::from_slice(&json).ok().as_ref(), Some(node), "written and read again");
        }
    }
}
