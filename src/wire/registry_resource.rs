//! What a URL of a registry names, as far as it matters where a write may be led.
//!
//! A host that a request was led to could lead it on: the bytes of a blob, which nobody has verified, put to the place of a
//! manifest would move a tag. So no redirect and no Location turns a write into one of another kind.

use percent_encoding::percent_decode_str;
use url::Url;

/// What a path is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// A manifest by its tag or digest.
    Manifest(String),
    /// An upload session, or the place where one begins.
    Upload,
    /// A blob by its digest.
    Blob(String),
    /// Anything else.
    Other,
}

impl Resource {
    pub(super) fn of(url: &Url) -> Self {
        // Servers decode before they look.
        let path = percent_decode_str(url.path()).decode_utf8_lossy().to_lowercase();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            [.., "manifests", name] => Self::Manifest((*name).to_owned()),
            // GitHub's say `upload`.
            [.., "blobs", "uploads" | "upload"] | [.., "blobs", "uploads" | "upload", _] => Self::Upload,
            [.., "blobs", name] => Self::Blob((*name).to_owned()),
            _ => Self::Other,
        }
    }

    pub(super) fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest(_))
    }

    /// Whether a write to this may be led on to `next`. The place of a session may be of any form, and leads to such
    /// places only.
    pub(super) fn may_become(&self, next: &Self) -> bool {
        self == next || matches!((self, next), (Self::Other, Self::Other | Self::Upload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Resource {
        Resource::of(&Url::parse(&format!("https://r.example{path}")).unwrap())
    }

    #[test]
    fn a_write_is_led_only_to_more_of_its_kind() {
        let session = "/v2/a/blobs/uploads/7?state=x";
        for (from, to) in [
            ("/v2/a/blobs/uploads/?mount=x", session),
            (session, "/v2/b/blobs/upload/1.7"),
            ("/artifacts-uploads/7", "/v2/a/blobs/uploads/7"),
            ("/artifacts-uploads/7?x", "/store/7"),
            ("/v2/a/manifests/v1", "/v2/mirror/a/manifests/v1"),
            // Repositories may be called what they like.
            ("/v2/manifests/blobs/uploads/", "/v2/manifests/blobs/uploads/7"),
        ] {
            assert!(of(from).may_become(&of(to)), "{from} to {to}");
        }
        for (from, to) in [
            (session, "/v2/a/manifests/v1"),
            (session, "/v2/a/%6Danifests/v1"),
            (session, "/v2/a/manifests%2Fv1"),
            (session, "/v2/a//manifests//v1/"),
            (session, "/v2/a/x/../manifests/v1"),
            (session, "/v2/a/blobs/uploads/manifests/v1"),
            (session, "/v2/a/Manifests/v1"),
            (session, "/api/admin"),
            ("/artifacts-uploads/7", "/v2/a/manifests/v1"),
            ("/artifacts-uploads/7", "/v2/a/blobs/sha256:00"),
            ("/v2/a/manifests/v1", "/v2/a/manifests/v2"),
            ("/v2/a/manifests/v1", session),
        ] {
            assert!(!of(from).may_become(&of(to)), "{from} to {to}");
        }
    }
}
