//! Descriptors: how one piece of content refers to another.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Digest, MediaType, Platform};

/// A typed, sized reference to content (image-spec, "OCI Content Descriptors"): a *node* of the graph that is copied.
///
/// `null` means "absent" wherever the specification allows leaving a field out; some writers do that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    #[serde(default = "octet_stream", deserialize_with = "null_is_octet_stream")]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// The URLs of a foreign layer. Read only to see that it is one; never fetched.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key, bounded by the manifest's own size limit.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact that the content is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The platform of the content; only entries of an index have one: thousands of other nodes are kept in memory
    /// without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Box<Platform>>,
    /// The content itself, base64. Used only after [`Descriptor::inline`] has checked its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<str>>,
}

fn octet_stream() -> MediaType {
    MediaType::OCTET_STREAM
}

fn null_is_octet_stream<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(MediaType::OCTET_STREAM))
}

pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Returns the two bytes `{}`, the content of [`MediaType::OCI_EMPTY`].
#[must_use]
pub fn empty_json() -> (Descriptor, &'static [u8]) {
    (Descriptor::of(MediaType::OCI_EMPTY, b"{}"), b"{}")
}

impl Descriptor {
    /// Refers to content by type, digest and length.
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
            data: None,
        }
    }

    /// Describes `bytes`, by SHA-256.
    #[must_use]
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// Returns whether this is a manifest, which refers to more nodes.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.media_type.is_manifest()
    }

    /// Returns whether this may be a layer that only its publisher distributes.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty() || self.media_type.is_foreign_layer()
    }

    /// Returns the content if it need not be fetched: nothing, the empty JSON object, or embedded `data` with the right
    /// hash.
    #[must_use]
    pub fn inline(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let known: [&[u8]; 2] = [b"", b"{}"];
        if let Some(bytes) = known.into_iter().find(|b| b.len() as u64 == self.size && self.digest.matches(b)) {
            return Some(bytes.to_vec());
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(self.data.as_deref()?).ok()?;
        (bytes.len() as u64 == self.size && self.digest.matches(&bytes)).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_data_is_believed_only_if_it_hashes_right() {
        let mut node = Descriptor::of(MediaType::OCTET_STREAM, b"hello");
        assert_eq!(node.inline(), None);
        node.data = Some("aGVsbG8=".into());
        assert_eq!(node.inline().as_deref(), Some(&b"hello"[..]));
        node.data = Some("aGVsbG9v".into());
        assert_eq!(node.inline(), None);
    }

    #[test]
    fn nothing_and_the_empty_object_are_known_without_asking() {
        assert_eq!(Descriptor::of(MediaType::OCI_LAYER, b"").inline().as_deref(), Some(&b""[..]));
        assert_eq!(empty_json().0.inline().as_deref(), Some(&b"{}"[..]));
        let lie = Descriptor::new(MediaType::OCI_EMPTY, Digest::sha256(b"[]"), 2);
        assert_eq!(lie.inline(), None);
    }

    #[test]
    fn descriptors_of_the_wild_are_read() {
        let text = r#"{"mediaType":null,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "size":0,"urls":null,"annotations":null,"platform":{},"artifactType":null,"unknown":[1]}"#;
        let node: Descriptor = serde_json::from_str(text).unwrap();
        assert_eq!(node.media_type, MediaType::OCTET_STREAM);
        assert!(!node.platform.unwrap().is_known());
    }
}
