//! Media types, and which of them are manifests.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// A media type without parameters, such as `application/vnd.oci.image.manifest.v1+json`.
///
/// Well-known types use no heap memory: a plan of thousands of nodes holds thousands of these.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct MediaType(Cow<'static, str>);

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self(Cow::Borrowed($text));)*
            const KNOWN: &'static [&'static str] = &[$($text),*];
        }
    };
}

known! {
    /// An OCI image manifest; artifacts use it too.
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    OCI_INDEX = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, version 2 schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The artifact manifest of the OCI 1.1 release candidates; registries still hold some.
    OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json";
    /// A Docker manifest, version 2 schema 1, signed. Its digest is not that of its bytes.
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// The same with its signature block.
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// An OCI image's configuration.
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// A Docker image's configuration.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// The two bytes `{}`.
    OCI_EMPTY = "application/vnd.oci.empty.v1+json";
    /// A layer, gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A layer, not compressed.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// A Docker layer.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Bytes of unknown type.
    OCTET_STREAM = "application/octet-stream";
}

impl MediaType {
    /// Takes `text` up to the first `;`: registries add parameters such as `charset=utf-8`, which have no meaning here.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.split(';').next().unwrap_or_default().trim();
        match Self::KNOWN.iter().find(|known| known.eq_ignore_ascii_case(text)) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(text.to_owned())),
        }
    }

    /// Returns the type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is an index: an OCI image index or a Docker manifest list.
    #[must_use]
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST
    }

    /// Returns whether content of this type is stored and served as a manifest and not as a blob.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.is_index()
            || self.is_schema1()
            || [Self::OCI_MANIFEST, Self::DOCKER_MANIFEST, Self::OCI_ARTIFACT].contains(self)
    }

    /// Returns whether this is Docker's schema 1, which is not content-addressed by its bytes.
    #[must_use]
    pub fn is_schema1(&self) -> bool {
        *self == Self::DOCKER_SCHEMA1 || *self == Self::DOCKER_SCHEMA1_SIGNED
    }

    /// Returns whether the layer may be one that only its publisher may distribute ("foreign", "non-distributable").
    #[must_use]
    pub fn is_foreign_layer(&self) -> bool {
        self.0.contains(".foreign.") || self.0.contains(".nondistributable.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<'de, str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped_and_known_types_are_shared() {
        let index = MediaType::new("application/vnd.oci.image.index.v1+json; charset=utf-8");
        assert_eq!(index, MediaType::OCI_INDEX);
        assert!(index.is_index() && index.is_manifest());
        assert!(!MediaType::new("text/plain").is_manifest());
    }
}
