//! Places that can be listed: a registry, `host[:port]`, or a repository on it, `host[:port]/repository`.

use std::fmt;
use std::str::FromStr;

use super::canonical::{DOCKER_HUB, api_host};
use super::reference::{is_host, names_host};
use super::{Reference, ReferenceError, Repository};

/// A registry: `host[:port]` as it was written, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHost(String);

/// A registry, or one of its repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPlace {
    /// The registry as a whole.
    Registry(RegistryHost),
    /// A repository on it.
    Repository(Repository),
}

/// Why a text is not a place, with the spelling that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Nothing.
    #[error("it is empty; write host[:port] or host[:port]/repository")]
    Empty,
    /// A tag or a digest at the end.
    #[error("a list is about a repository, not about one image; write {0}, or see registry inspect")]
    Image(Repository),
    /// Wrong in the way of a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl RegistryHost {
    /// Returns `host[:port]` as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host to connect to: Docker Hub's API has another name than its references.
    #[must_use]
    pub fn api_host(&self) -> &str {
        api_host(&self.0)
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListPlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text.is_empty() {
            return Err(PlaceError::Empty);
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(ReferenceError::Scheme(rest.trim_end_matches('/').to_owned()).into());
        }
        // Typed with the completion of a path in mind.
        let text = text.strip_suffix('/').unwrap_or(text);
        match text.split_once('/') {
            Some((first, _)) if names_host(first) => match text.parse()? {
                Reference { repository, tag: None, digest: None } => Ok(Self::Repository(repository)),
                Reference { repository, .. } => Err(PlaceError::Image(repository)),
            },
            None if names_host(text) && is_host(text) => Ok(Self::Registry(RegistryHost(text.to_owned()))),
            // `nginx:1.27` has a colon and is an image.
            None if text.contains(['.', '[']) && !is_image(text) => {
                Err(ReferenceError::BadHost(text.to_owned()).into())
            }
            _ => Err(ReferenceError::Host(full_spelling(text)).into()),
        }
    }
}

/// Returns whether `text` is a name without dots, with a tag.
fn is_image(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, _)| !name.contains(['.', '[']))
}

/// Returns the repository that a short name means for docker.
fn full_spelling(short: &str) -> String {
    let end = short.rfind('/').map_or(0, |slash| slash + 1);
    let name = &short[..short[end..].find([':', '@']).map_or(short.len(), |at| end + at)];
    let library = if name.contains('/') { "" } else { "library/" };
    format!("{DOCKER_HUB}/{library}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_is_a_registry_and_with_a_path_a_repository() {
        for (text, host) in [
            ("localhost:5000", "localhost:5000"),
            ("localhost", "localhost"),
            ("registry.example.com/", "registry.example.com"),
            ("[::1]:5000", "[::1]:5000"),
            ("registry:5000", "registry:5000"),
        ] {
            assert_eq!(text.parse(), Ok(ListPlace::Registry(RegistryHost(host.to_owned()))), "{text}");
        }
        for (text, repository) in [
            ("localhost:5000/app", "localhost:5000/app"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("ghcr.io/acme/app/", "ghcr.io/acme/app"),
        ] {
            let Ok(ListPlace::Repository(found)) = text.parse() else { panic!("{text} is no repository") };
            assert_eq!(found.to_string(), repository);
        }
        let Ok(ListPlace::Registry(hub)) = "docker.io".parse() else { panic!("no registry") };
        assert_eq!(hub.api_host(), "registry-1.docker.io");
    }

    #[test]
    fn a_wrong_place_is_refused_with_the_right_spelling() {
        for (text, said) in [
            ("", "it is empty; write host[:port] or host[:port]/repository"),
            ("nginx", "the registry's host must be named; write docker.io/library/nginx"),
            ("nginx:1.27", "the registry's host must be named; write docker.io/library/nginx"),
            ("acme/app", "the registry's host must be named; write docker.io/acme/app"),
            ("acme/app:v1", "the registry's host must be named; write docker.io/acme/app"),
            ("https://ghcr.io/", "a reference has no scheme; write ghcr.io"),
            ("docker://ghcr.io/acme/app", "a reference has no scheme; write ghcr.io/acme/app"),
            ("a..b", "\"a..b\" is not a host[:port]"),
            ("r.example:99999", "\"r.example:99999\" is not a host[:port]"),
            ("[::g]", "\"[::g]\" is not a host[:port]"),
            (
                "localhost:5000/app:v1",
                "a list is about a repository, not about one image; write localhost:5000/app, or see registry inspect",
            ),
        ] {
            assert_eq!(text.parse::<ListPlace>().unwrap_err().to_string(), said, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<ListPlace>();
        }
    }
}
