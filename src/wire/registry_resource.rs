//! The resource that a registry URL names, to decide whether a write may be redirected there.
//!
//! The target of a redirect could redirect again: if it sent the unverified bytes of a blob to a manifest's URL, a tag
//! would move. So no redirect and no Location turns a write into one of another kind.

use percent_encoding::percent_decode_str;
use url::Url;

/// The resource of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// A manifest by its tag or digest.
    Manifest(String),
    /// An upload session, or the URL that starts one.
    Upload,
    /// A blob by its digest.
    Blob(String),
    /// Anything else.
    Other,
}

impl Resource {
    pub(super) fn of(url: &Url) -> Self {
        // Servers decode before they compare.
        let path = percent_decode_str(url.path()).decode_utf8_lossy().to_lowercase();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            [.., "manifests", name] => Self::Manifest((*name).to_owned()),
            // GitHub uses `upload`.
            [.., "blobs", "uploads" | "upload"] | [.., "blobs", "uploads" | "upload", _] => Self::Upload,
            [.., "blobs", name] => Self::Blob((*name).to_owned()),
            _ => Self::Other,
        }
    }

    pub(super) fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest(_))
    }

    /// Returns whether a write to this may be redirected to `next`. The URL of a session may have any form; it leads
    /// only to another of any form or to an upload session.
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
            // Repositories may have any name.
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
