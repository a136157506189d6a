//! Finds the endpoint of a path by its last words: repository names contain slashes and may even be called `blobs`.

use super::error_response::ErrorResponse;
use crate::oci::{Digest, Name, RepositoryPath};

/// An endpoint of the distribution specification ("Endpoints"), or of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: asks for the API and for a login.
    Ping,
    /// The list of repositories.
    Catalog,
    /// The tokens of a test registry.
    Token,
    /// Whether the server runs.
    Health,
    /// Whether the server runs with its files as they are now.
    Ready,
    /// The metrics.
    Metrics,
    /// A blob.
    Blob(RepositoryPath, Digest),
    /// The uploads to a repository: a new one, or a mount.
    Uploads(RepositoryPath),
    /// One upload.
    Upload(RepositoryPath, String),
    /// A manifest.
    Manifest(RepositoryPath, Name),
    /// The tags of a repository.
    Tags(RepositoryPath),
    /// The referrers of a manifest.
    Referrers(RepositoryPath, Digest),
}

impl Route {
    /// Parses a request's path. Returns None for a path that is no endpoint.
    pub(super) fn parse(path: &str) -> Result<Option<Self>, ErrorResponse> {
        match path {
            "/v2" | "/v2/" => return Ok(Some(Self::Ping)),
            "/v2/_catalog" => return Ok(Some(Self::Catalog)),
            "/token" => return Ok(Some(Self::Token)),
            "/healthz" => return Ok(Some(Self::Health)),
            "/readyz" => return Ok(Some(Self::Ready)),
            "/metrics" => return Ok(Some(Self::Metrics)),
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Ok(None) };
        let Some((before, last)) = rest.rsplit_once('/') else { return Ok(None) };
        // Clients are seen to escape only one character of a legal path: the colon of a digest.
        let last = &last.replace("%3A", ":").replace("%3a", ":");
        let Some((name, word)) = before.rsplit_once('/') else { return Ok(None) };
        let repository = |name: &str| name.parse().map_err(|_| ErrorResponse::name_invalid(name));
        Ok(Some(match word {
            "blobs" if last == "uploads" => Self::Uploads(repository(name)?),
            "blobs" => Self::Blob(repository(name)?, digest(last)?),
            "manifests" => Self::Manifest(repository(name)?, reference(last)?),
            "referrers" => Self::Referrers(repository(name)?, digest(last)?),
            "tags" if last == "list" => Self::Tags(repository(name)?),
            "uploads" => {
                let Some(name) = name.strip_suffix("/blobs") else { return Ok(None) };
                let name = repository(name)?;
                if last.is_empty() { Self::Uploads(name) } else { Self::Upload(name, last.clone()) }
            }
            _ => return Ok(None),
        }))
    }
}

fn digest(text: &str) -> Result<Digest, ErrorResponse> {
    text.parse().map_err(|why: crate::oci::DigestError| ErrorResponse::digest_invalid(why.to_string()))
}

fn reference(text: &str) -> Result<Name, ErrorResponse> {
    if text.contains(':') {
        return digest(text).map(Name::Digest);
    }
    text.parse().map(Name::Tag).map_err(|_| ErrorResponse::manifest_invalid(format!("{text:?} is not a tag")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn path(text: &str) -> RepositoryPath {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_words_decide() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        for (text, route) in [
            ("/v2/".into(), Route::Ping),
            (format!("/v2/a/b/blobs/sha256:{HEX}"), Route::Blob(path("a/b"), digest)),
            (format!("/v2/a/blobs/sha256%3A{HEX}"), Route::Blob(path("a"), digest)),
            (format!("/v2/a/blobs/blobs/sha256:{HEX}"), Route::Blob(path("a/blobs"), digest)),
            ("/v2/a/blobs/uploads/".into(), Route::Uploads(path("a"))),
            ("/v2/a/blobs/uploads".into(), Route::Uploads(path("a"))),
            ("/v2/a/blobs/uploads/1-2".into(), Route::Upload(path("a"), "1-2".into())),
            ("/v2/blobs/uploads/manifests/v1".into(), {
                Route::Manifest(path("blobs/uploads"), Name::Tag("v1".parse().unwrap()))
            }),
            ("/v2/tags/list/tags/list".into(), Route::Tags(path("tags/list"))),
            (format!("/v2/a/referrers/sha256:{HEX}"), Route::Referrers(path("a"), digest)),
        ] {
            assert_eq!(Route::parse(&text).unwrap(), Some(route), "{text}");
        }
    }

    #[test]
    fn what_could_leave_the_folder_is_refused() {
        for text in [
            "/v2/../manifests/v1",
            "/v2/a/../../etc/manifests/v1",
            "/v2/A/tags/list",
            "/v2//tags/list",
            "/v2/_layout/tags/list",
            "/v2/a/blobs/sha256:..",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/.hidden",
            "/v2/%2e%2e/tags/list",
        ] {
            assert!(!matches!(Route::parse(text), Ok(Some(_))), "{text} was taken");
        }
    }
}
