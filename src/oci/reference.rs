//! References: `host[:port]/repository[:tag][@digest]`, always with a host.
//!
//! Short names are refused: the registry of `nginx` depends on the machine's configuration, and an audit record must not.
//! The error gives the spelling to use instead.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Digest;
use super::canonical::{DOCKER_HUB, api_host, canonical_host, is_docker_hub};

/// A tag: up to 128 letters, digits, `_`, `.`, `-`, not starting with `.` or `-` (distribution-spec, "Pulling
/// manifests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// The path of a repository on its registry, such as `library/nginx`. Safe as a relative path: it has no `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPath(String);

/// A repository on a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// `host[:port]` as it was written, IPv6 addresses in brackets.
    pub host: String,
    /// The path on that registry.
    pub path: RepositoryPath,
}

/// A name in a repository: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// The content that the tag names now.
    Tag(Tag),
    /// This content only.
    Digest(Digest),
}

/// A repository with a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written. It wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference, with the spelling that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("it is empty: write host[:port]/repository[:tag]; a variable in its place may not be set")]
    Empty,
    /// `oci://…`.
    #[error("oci:// is how charts are named, and a reference has no scheme; write {0}")]
    Chart(String),
    /// `localhost:5000`.
    #[error("it names a registry and no repository; write {0}/<repository>:<tag>")]
    NoRepository(String),
    /// `1.2.3+4`.
    #[error("{0:?} is not a tag: + is written _ there, also in the version of a chart; write {plain}", plain = .0.replace('+', "_"))]
    Plus(String),
    /// `docker://…`, `https://…`.
    #[error("a reference has no scheme; write {0}")]
    Scheme(String),
    /// No host at the start.
    #[error("the registry's host must be named; write {0}")]
    Host(String),
    /// The host part is not a valid host.
    #[error("{0:?} is not a host[:port]")]
    BadHost(String),
    /// The repository part violates the specification.
    #[error("{0:?} is not a repository name: lower-case letters and digits, separated by one of . _ __ - or /")]
    Repository(String),
    /// The tag violates the specification.
    #[error("{0:?} is not a tag: at most 128 letters, digits, _ . and -, not starting with . or -")]
    Tag(String),
    /// The digest violates the specification.
    #[error("{0:?} is not a digest: {1}")]
    Digest(String, super::DigestError),
}

impl Tag {
    /// Returns the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RepositoryPath {
    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let is_tag = (1..=128).contains(&bytes.len())
            && word(bytes[0])
            && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-');
        match is_tag {
            true => Ok(Self(text.to_owned())),
            false if text.contains('+') && text.replace('+', "_").parse::<Self>().is_ok() => {
                Err(ReferenceError::Plus(text.to_owned()))
            }
            false => Err(ReferenceError::Tag(text.to_owned())),
        }
    }
}

impl FromStr for RepositoryPath {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // Registries share a limit of 255 with the host; here it applies to the path alone.
        if text.len() <= 255 && text.split('/').all(is_path_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Repository(text.to_owned()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec, "Pulling manifests").
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    bytes
        .split(|&b| word(b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

impl Repository {
    /// Returns the host to connect to: Docker Hub's API has another name than its references.
    #[must_use]
    pub fn api_host(&self) -> &str {
        api_host(&self.host)
    }

    /// Returns whether the host is this machine itself: `localhost`, `127.0.0.0/8` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns this repository with a tag.
    #[must_use]
    pub fn tagged(&self, tag: &Tag) -> Reference {
        Reference { repository: self.clone(), tag: Some(tag.clone()), digest: None }
    }

    /// Returns this repository with a digest.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }
}

impl Reference {
    /// Returns the name to request: the digest if there is one, else the tag, else `latest`.
    #[must_use]
    pub fn name(&self) -> Name {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Name::Digest(*digest),
            (None, Some(tag)) => Name::Tag(tag.clone()),
            (None, None) => Name::Tag(Tag("latest".to_owned())),
        }
    }

    /// Returns the tag that it means: the one that was written, or `latest` if neither tag nor digest was.
    #[must_use]
    pub fn effective_tag(&self) -> Option<Tag> {
        match self.name() {
            Name::Tag(tag) => Some(tag),
            Name::Digest(_) => self.tag.clone(),
        }
    }

    /// Returns whether it is fixed: by its digest, or by a tag that is not `latest`.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some() || self.tag.as_ref().is_some_and(|tag| tag.as_str() != "latest")
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.trim().is_empty() {
            return Err(ReferenceError::Empty);
        }
        match text.split_once("://") {
            Some(("oci", rest)) => return Err(ReferenceError::Chart(rest.replace('+', "_"))),
            Some((_, rest)) => return Err(ReferenceError::Scheme(rest.to_owned())),
            None => {}
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let parsed = digest.parse().map_err(|why| ReferenceError::Digest(digest.to_owned(), why))?;
                (rest, Some(parsed))
            }
            None => (text, None),
        };
        let (host, rest) = split_host(rest, text)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse()?)),
            None => (rest, None),
        };
        let path = if is_docker_hub(host) && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Ok(Self { repository: Repository { host: host.to_owned(), path: path.parse()? }, tag, digest })
    }
}

/// Splits `host/rest`; without a host, returns the spelling that was probably meant.
fn split_host<'a>(text: &'a str, whole: &str) -> Result<(&'a str, &'a str), ReferenceError> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let is_registry =
        bare.starts_with(['[']) || bare.split(':').next().is_some_and(|name| name == "localhost" || name.contains('.'));
    if is_registry && !bare.contains('/') && is_host(bare) {
        return Err(ReferenceError::NoRepository(bare.to_owned()));
    }
    let (first, rest) = text.split_once('/').unwrap_or(("", text));
    if !names_host(first) {
        return Err(ReferenceError::Host(full_spelling(whole)));
    }
    if is_host(first) { Ok((first, rest)) } else { Err(ReferenceError::BadHost(first.to_owned())) }
}

/// Returns whether the first part of a reference is meant as a host: a namespace contains none of these characters.
pub(super) fn names_host(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost"
}

fn full_spelling(short: &str) -> String {
    let library = if short.contains('/') { "" } else { "library/" };
    let last = short.rsplit('/').next().unwrap_or(short);
    let latest = if last.contains([':', '@']) { "" } else { ":latest" };
    format!("{DOCKER_HUB}/{library}{short}{latest}")
}

/// Returns whether `text` is a DNS name, an IPv4 address or a bracketed IPv6 address, with or without a port.
pub(super) fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("ipv6", Some(port)),
                None if rest.is_empty() => ("ipv6", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    name.len() <= 253 && name.split('.').all(is_label) && port.is_none_or(is_port)
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl From<Tag> for Name {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Name {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// Prints the name as the distribution specification's `<reference>`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Repository {
    /// Returns this repository in its canonical spelling: for comparing, and for names made from it. Output for people
    /// and records show it as it was written.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self { host: canonical_host(&self.host), path: self.path.clone() }
    }

    /// Returns whether both are the same repository, in any spelling.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other || self.canonical() == other.canonical()
    }
}

impl Reference {
    /// Returns this reference with its repository in canonical spelling, see [`Repository::canonical`].
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self { repository: self.repository.canonical(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de";

    #[test]
    fn references_are_read_and_written_alike() {
        for text in [
            "localhost:5000/app:v1",
            "localhost/app",
            "[::1]:5000/a/b/c:v1",
            "[2001:db8::1]/app:v1",
            "ghcr.io/acme/app_x/y__z/q---r:V1.0_a-b",
            &format!("127.0.0.1:5599/robot-behavior:1.2.3@sha256:{HEX}"),
            &format!("r.example.com/app@sha256:{HEX}"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn docker_hub_gets_its_library_and_its_api_host() {
        let hub: Reference = "docker.io/nginx".parse().unwrap();
        assert_eq!(hub.to_string(), "docker.io/library/nginx");
        assert_eq!(hub.repository.api_host(), "registry-1.docker.io");
        assert_eq!(hub.name().to_string(), "latest");
    }

    #[test]
    fn the_full_spelling_is_the_hint_for_a_short_name() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("acme/app", "docker.io/acme/app:latest"),
        ] {
            assert_eq!(short.parse::<Reference>(), Err(ReferenceError::Host(full.into())));
        }
        assert_eq!(
            "docker://quay.io/acme/app:v1".parse::<Reference>(),
            Err(ReferenceError::Scheme("quay.io/acme/app:v1".into()))
        );
    }

    #[test]
    fn the_error_for_a_common_slip_has_the_right_spelling() {
        for (text, told) in [
            ("", "a variable in its place may not be set"),
            (" ", "a variable in its place may not be set"),
            ("localhost:5705", "write localhost:5705/<repository>:<tag>"),
            ("localhost:5705/", "write localhost:5705/<repository>:<tag>"),
            ("localhost", "write localhost/<repository>:<tag>"),
            ("r.example", "write r.example/<repository>:<tag>"),
            ("[::1]:5000", "write [::1]:5000/<repository>:<tag>"),
            ("oci://r.example/charts/app:1.2.3+4", "write r.example/charts/app:1.2.3_4"),
            ("r.example/charts/app:1.2.3+4", "write 1.2.3_4"),
            ("https://r.example/app:v1", "write r.example/app:v1"),
            ("redis:7", "write docker.io/library/redis:7"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "/",
            "localhost:5000/",
            "localhost:5000/App:v1",
            "localhost:5000/a//b",
            "localhost:5000/a/../b",
            "localhost:5000/a._b",
            "localhost:5000/a___b",
            "localhost:5000/-a",
            "localhost:5000/a-",
            "localhost:5000/app:",
            "localhost:5000/app:.v",
            "localhost:5000/app:v 1",
            "localhost:99999/app",
            "localhost:/app",
            "a..b/app",
            "[::1/app",
            "[::g]/app",
            "[::1]x/app",
            "user@host.com/app",
            "host.com/app@sha256:abc",
            "host.com/app@md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("host.com/app:{}", "v".repeat(129)),
            &format!("host.com/{}", "v".repeat(256)),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for (text, expected) in [
            ("localhost/a", true),
            ("localhost:1/a", true),
            ("127.8.0.1:1/a", true),
            ("[::1]:1/a", true),
            ("10.0.0.1:1/a", false),
            ("localhost.evil.com/a", false),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().repository.is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn the_specifications_own_parser_agrees_on_paths() {
        for path in ["a", "a/b", "a-b", "a--b", "a.b", "a_b", "a__b", "a.-b", "a_.b", "A", "a/", "a..b"] {
            let text = format!("host.example.com/{path}:v1");
            let theirs = text.parse::<oci_spec::distribution::Reference>().is_ok();
            assert_eq!(text.parse::<Reference>().is_ok(), theirs, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_comes_back(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn well_formed_references_are_taken(
            host in "([a-z]{1,8}\\.){1,3}[a-z]{2,3}(:[1-9][0-9]{0,3})?",
            path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
        ) {
            let text = format!("{host}/{path}:{tag}");
            proptest::prop_assert!(text.parse::<Reference>().is_ok(), "{}", text);
        }
    }
}
