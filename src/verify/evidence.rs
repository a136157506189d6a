//! Evidence: the signature objects that proved something.

use jiff::Timestamp;

use crate::oci::{Descriptor, Digest, Tag};
use crate::trust::tlog::Recorded;

/// A signature object that proved something, which must be copied too, so that the destination can be verified again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A manifest of legacy signatures, under its tag.
    Tagged {
        /// The tag, `sha256-<hex>.sig`.
        tag: Tag,
        /// The manifest.
        node: Descriptor,
        /// The valid signature, by its position in the manifest.
        layer: usize,
    },
    /// A manifest that refers to the content it signs.
    Referrer {
        /// The manifest.
        node: Descriptor,
    },
}

impl Evidence {
    /// Returns the manifest.
    #[must_use]
    pub fn node(&self) -> &Descriptor {
        match self {
            Self::Tagged { node, .. } | Self::Referrer { node } => node,
        }
    }

    /// Returns the same evidence for the layer at `position`.
    pub(super) fn of_layer(mut self, position: usize) -> Self {
        if let Self::Tagged { layer, .. } = &mut self {
            *layer = position;
        }
        self
    }
}

/// A signature that met every demand.
#[derive(Debug, Clone)]
pub(super) struct SignatureProof {
    /// The digest that is signed.
    pub(super) signs: Digest,
    pub(super) key: String,
    pub(super) signed_at: Option<Timestamp>,
    /// The entry of a transparency log, if one was required and verified.
    pub(super) recorded: Option<Recorded>,
    pub(super) form: &'static str,
    pub(super) evidence: Evidence,
}
