//! The sidecars of an image: its lock and its policy bundle.

use serde::{Deserialize, Serialize};

use super::{lock, policy_bundle};
use crate::oci::Tag;

/// The two documents next to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SidecarKind {
    /// `autonomy.lock.json`, under `<tag>-lock`.
    Lock,
    /// The policy bundle, under `<tag>-policy`.
    Policy,
}

impl SidecarKind {
    /// Returns the media type of the layer, which is also the artifact type of the manifest.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Lock => lock::MEDIA_TYPE,
            Self::Policy => policy_bundle::MEDIA_TYPE,
        }
    }

    /// Returns the sidecar's tag for `tag`; none if it would be too long.
    #[must_use]
    pub fn tag(self, tag: &Tag) -> Option<Tag> {
        format!("{tag}-{}", self.as_str()).parse().ok()
    }

    /// Returns `lock` or `policy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Policy => "policy",
        }
    }
}
