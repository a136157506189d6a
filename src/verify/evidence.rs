//! Evidence: the signature objects that proved something.

use jiff::Timestamp;

use crate::oci::{Descriptor, Digest, Tag};
use crate::trust::tlog::Recorded;

/// A signature object that proved something, and has to travel along so that a destination can verify again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A manifest of legacy signatures, under its tag.
    Tagged {
        /// The tag, `sha256-<hex>.sig`.
        tag: Tag,
        /// The manifest.
        node: Descriptor,
        /// Which of its signatures holds, by position among them.
        layer: usize,
    },
    /// A manifest that refers to what it signs.
    Referrer {
        /// The manifest.
        node: Descriptor,
    },
}

impl Evidence {
    /// The manifest.
    #[must_use]
    pub fn node(&self) -> &Descriptor {
        match self {
            Self::Tagged { node, .. } | Self::Referrer { node } => node,
        }
    }

    /// The same, found in the layer at `position`.
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
    /// What is signed.
    pub(super) signs: Digest,
    pub(super) key: String,
    pub(super) signed_at: Option<Timestamp>,
    /// What a transparency log says of it, if one was asked for and does.
    pub(super) recorded: Option<Recorded>,
    pub(super) form: &'static str,
    pub(super) evidence: Evidence,
}
