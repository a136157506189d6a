//! Manifests: the parts that a replicator needs, read from bytes that are copied unchanged.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::descriptor::null_is_default;
use super::{Descriptor, MediaType, Platform, json_cost};

/// The two forms of a manifest: a list of manifests, or something made of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An OCI index or a Docker manifest list.
    Index,
    /// An image, an artifact, a signature, a sidecar.
    Image,
}

/// The parsed references of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The type: from the bytes if they name one, else the type it was served with.
    pub media_type: MediaType,
    /// Whether it lists manifests or blobs.
    pub shape: Shape,
    /// The configuration, for an image.
    pub config: Option<Descriptor>,
    /// The layers, for an image. (The artifact manifest of the 1.1 candidates calls them `blobs`.)
    pub layers: Vec<Descriptor>,
    /// The entries, for an index.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is attached to.
    pub subject: Option<Descriptor>,
    /// The artifact type that this manifest declares.
    pub artifact_type: Option<MediaType>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// Most values in one manifest. An index of 1,000 platforms has about 10,000; a value of two bytes can use a hundred in
/// memory, so a bound on bytes alone would let 4 MiB become 400.
pub(super) const MAX_VALUES: usize = 50_000;

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More parts than a manifest needs.
    #[error("manifest holds more than {0} values")]
    Limit(usize),
    /// Not JSON, or not the form of a manifest.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// The type in the bytes differs from the type that they were served with or referred to by (CVE-2021-41190).
    #[error("manifest says it is {inside}, but was served as {outside}")]
    Type {
        /// The type in the bytes.
        inside: MediaType,
        /// The type from outside.
        outside: MediaType,
    },
    /// Lists both manifests and layers: its meaning depends on the reader (CVE-2021-41190).
    #[error("manifest holds both manifests and layers")]
    Ambiguous,
    /// Neither the bytes nor the server names a known type.
    #[error("{0} is not a manifest type that can be copied")]
    Unknown(MediaType),
    /// None of the fields that make a manifest: `{}` is only a JSON object.
    #[error("not a manifest: it has no {0}")]
    Missing(&'static str),
    /// A version of the form other than the known one.
    #[error("not a manifest: schemaVersion is {0}, not 2")]
    Version(u64),
    /// Docker's schema 1.
    #[error(
        "docker schema 1 manifests are not content-addressed and cannot be copied; push the image again with a current client"
    )]
    Schema1,
}

/// A JSON object and nothing else: a derived reader also accepts an array for a struct.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Only(PhantomData)).map(Self)
    }
}

/// A list that may be missing; `null` is different: Go writes it for an empty list.
struct Listed<T>(Option<Vec<T>>);

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Some(Option::deserialize(deserializer)?.unwrap_or_default())))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Listed<Descriptor>,
    #[serde(default)]
    blobs: Listed<Descriptor>,
    #[serde(default)]
    manifests: Listed<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<MediaType>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TypeOnly {
    #[serde(default, rename = "mediaType")]
    media_type: Option<MediaType>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads `bytes`, which were served as, or referred to as, `outside`.
    ///
    /// If the outside type is generic (none, `application/json`, `text/plain`, octet-stream), the type in the bytes
    /// counts.
    ///
    /// # Errors
    ///
    /// See [`ManifestError`]; nothing else can fail, and no input panics (tested with random bytes).
    pub fn parse(bytes: &[u8], outside: &MediaType) -> Result<Self, ManifestError> {
        Self::of(read(bytes, outside)?, outside)
    }

    /// Reads a manifest that is new to a registry, and requires its `schemaVersion`: some stored manifests have none, but
    /// no client writes one without.
    ///
    /// # Errors
    ///
    /// Fails like [`Manifest::parse`], and with [`Missing`](ManifestError::Missing) without `schemaVersion`, which only
    /// the artifact manifest of the 1.1 candidates does not have.
    pub fn parse_new(bytes: &[u8], outside: &MediaType) -> Result<Self, ManifestError> {
        let raw = read(bytes, outside)?;
        let has_version = raw.schema_version.is_some();
        let manifest = Self::of(raw, outside)?;
        if has_version || manifest.media_type == MediaType::OCI_ARTIFACT {
            Ok(manifest)
        } else {
            Err(ManifestError::Missing("schemaVersion"))
        }
    }

    fn of(raw: RawManifest, outside: &MediaType) -> Result<Self, ManifestError> {
        let media_type = agreed_type(raw.media_type, outside, raw.manifests.0.is_some())?;
        let shape = if media_type.is_index() { Shape::Index } else { Shape::Image };
        let has_blobs = raw.config.is_some() || raw.layers.0.is_some() || raw.blobs.0.is_some();
        match shape {
            Shape::Index if raw.manifests.0.is_none() && !has_blobs => return Err(ManifestError::Missing("manifests")),
            // An artifact of the 1.1 candidates may consist of annotations and a subject.
            Shape::Image if !has_blobs && raw.manifests.0.is_none() && media_type != MediaType::OCI_ARTIFACT => {
                return Err(ManifestError::Missing("config"));
            }
            _ => {}
        }
        let layers = raw.layers.0.or(raw.blobs.0).unwrap_or_default();
        let manifests = raw.manifests.0.unwrap_or_default();
        let is_mixed = match shape {
            Shape::Index => !layers.is_empty() || raw.config.is_some(),
            Shape::Image => !manifests.is_empty(),
        };
        if is_mixed {
            return Err(ManifestError::Ambiguous);
        }
        Ok(Self {
            media_type,
            shape,
            config: raw.config,
            layers,
            manifests,
            subject: raw.subject,
            artifact_type: raw.artifact_type,
            annotations: raw.annotations,
        })
    }

    /// Returns the type to serve `bytes` with; reads no further than needed.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<MediaType> {
        let Object(raw): Object<TypeOnly> = serde_json::from_slice(bytes).ok()?;
        let implied = if raw.manifests.is_some() { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
        Some(raw.media_type.unwrap_or(implied))
    }

    /// Returns all nodes that this one needs, in order: configuration first, then layers; or the entries of an index.
    ///
    /// The subject is not included: an accessory may be stored before its subject.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).chain(&self.manifests)
    }

    /// Returns the platforms in the entries of an index, without attestations and other entries that do not run.
    #[must_use]
    pub fn platforms(&self) -> Vec<&Platform> {
        self.manifests.iter().filter_map(|entry| entry.platform.as_deref()).filter(|p| p.is_known()).collect()
    }

    /// Returns the type that a referrers list shows for this manifest: its own, else that of its configuration
    /// (distribution-spec, "Listing Referrers").
    #[must_use]
    pub fn referrer_type(&self) -> Option<&MediaType> {
        self.artifact_type
            .as_ref()
            .filter(|t| !t.as_str().is_empty())
            .or_else(|| self.config.as_ref().map(|config| &config.media_type))
    }
}

fn read(bytes: &[u8], outside: &MediaType) -> Result<RawManifest, ManifestError> {
    if outside.is_schema1() {
        return Err(ManifestError::Schema1);
    }
    if json_cost::exceeds(bytes, MAX_VALUES) {
        return Err(ManifestError::Limit(MAX_VALUES));
    }
    let Object(raw): Object<RawManifest> = serde_json::from_slice(bytes)?;
    match raw.schema_version {
        Some(1) => Err(ManifestError::Schema1),
        None | Some(2) => Ok(raw),
        Some(other) => Err(ManifestError::Version(other)),
    }
}

fn agreed_type(
    inside: Option<MediaType>,
    outside: &MediaType,
    lists_manifests: bool,
) -> Result<MediaType, ManifestError> {
    let inside = inside.filter(|t| !t.as_str().is_empty());
    let is_generic = !outside.is_manifest()
        && ["", "application/json", "text/plain", "application/octet-stream"].contains(&outside.as_str());
    let media_type = match inside {
        Some(inside) if is_generic || inside == *outside => inside,
        Some(inside) => return Err(ManifestError::Type { inside, outside: outside.clone() }),
        None if !is_generic => outside.clone(),
        None if lists_manifests => MediaType::OCI_INDEX,
        None => MediaType::OCI_MANIFEST,
    };
    if media_type.is_schema1() {
        return Err(ManifestError::Schema1);
    }
    if media_type.is_manifest() { Ok(media_type) } else { Err(ManifestError::Unknown(media_type)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn generic() -> MediaType {
        MediaType::OCTET_STREAM
    }

    #[test]
    fn manifests_of_the_wild_are_read() {
        for (text, shape, children) in [
            (r#"{"schemaVersion":2,"layers":null}"#.to_owned(), Shape::Image, 0),
            (format!(r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":0}},"layers":[]}}"#), Shape::Image, 1),
            (
                format!(r#"{{"manifests":[{{"mediaType":"x/y","digest":"{D}","size":0,"platform":{{}}}}]}}"#),
                Shape::Index,
                1,
            ),
            (
                r#"{"schemaVersion":2,"manifests":null,"mediaType":"application/vnd.oci.image.index.v1+json"}"#.into(),
                Shape::Index,
                0,
            ),
        ] {
            let manifest = Manifest::parse(text.as_bytes(), &generic()).unwrap();
            assert_eq!((manifest.shape, manifest.children().count()), (shape, children), "{text}");
        }
    }

    #[test]
    fn two_meanings_in_one_manifest_are_refused() {
        let both = format!(r#"{{"manifests":[{{"digest":"{D}","size":0}}],"layers":[{{"digest":"{D}","size":0}}]}}"#);
        assert!(matches!(Manifest::parse(both.as_bytes(), &generic()), Err(ManifestError::Ambiguous)));
        let index = br#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(Manifest::parse(index, &MediaType::OCI_MANIFEST), Err(ManifestError::Type { .. })));
        assert!(Manifest::parse(index, &MediaType::OCI_INDEX).is_ok());
    }

    #[test]
    fn only_an_object_is_a_manifest() {
        for text in ["[]", "[2]", "null", "\"\"", "2", "{", "{}{}"] {
            assert!(matches!(Manifest::parse(text.as_bytes(), &generic()), Err(ManifestError::Json(_))), "{text}");
            assert_eq!(Manifest::sniff(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_object_without_the_fields_of_a_manifest_is_none() {
        for text in ["{}", r#"{"schemaVersion":2}"#, r#"{"annotations":{"a":"b"}}"#, r#"{"config":null}"#] {
            for outside in [generic(), MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST, MediaType::OCI_INDEX] {
                let told = Manifest::parse(text.as_bytes(), &outside);
                assert!(matches!(told, Err(ManifestError::Missing(_))), "{text} as {outside}: {told:?}");
            }
        }
        let text = br#"{"schemaVersion":3,"manifests":[]}"#;
        assert!(matches!(Manifest::parse(text, &generic()), Err(ManifestError::Version(3))));
        assert!(Manifest::parse(b"{}", &MediaType::OCI_ARTIFACT).is_ok(), "all of its fields may be left out");
    }

    #[test]
    fn a_new_manifest_says_its_version() {
        let config = format!(r#""config":{{"digest":"{D}","size":0}}"#);
        for (text, is_complete) in [
            (format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#), true),
            (format!(r#"{{"schemaVersion":2,{config},"layers":null}}"#), true),
            (r#"{"schemaVersion":2,"manifests":null}"#.to_owned(), true),
            (format!(r#"{{{config},"layers":[]}}"#), false),
            (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), true),
            (r#"{"manifests":[]}"#.to_owned(), false),
            (r#"{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}"#.to_owned(), true),
        ] {
            assert!(Manifest::parse(text.as_bytes(), &generic()).is_ok(), "{text}");
            assert_eq!(Manifest::parse_new(text.as_bytes(), &generic()).is_ok(), is_complete, "{text}");
        }
    }

    #[test]
    fn schema_1_is_named_as_such() {
        assert!(matches!(Manifest::parse(br#"{"schemaVersion":1}"#, &generic()), Err(ManifestError::Schema1)));
        assert!(matches!(Manifest::parse(b"{}", &MediaType::DOCKER_SCHEMA1_SIGNED), Err(ManifestError::Schema1)));
    }

    #[test]
    fn a_path_in_place_of_a_digest_is_refused() {
        let text = br#"{"layers":[{"digest":"sha256:../../../../etc/passwd","size":1}]}"#;
        assert!(matches!(Manifest::parse(text, &generic()), Err(ManifestError::Json(_))));
    }

    #[test]
    fn the_specifications_own_reader_finds_the_same_children() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{D}","size":0}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{D}","size":0}}]}}"#
        );
        let ours = Manifest::parse(text.as_bytes(), &MediaType::OCI_MANIFEST).unwrap();
        let theirs = oci_spec::image::ImageManifest::from_reader(text.as_bytes()).unwrap();
        assert_eq!(ours.layers.len(), theirs.layers().len());
        assert_eq!(ours.config.unwrap().digest.to_string(), theirs.config().digest().to_string());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Manifest::parse(&bytes, &MediaType::OCTET_STREAM);
            let _ = Manifest::sniff(&bytes);
        }
    }
}
