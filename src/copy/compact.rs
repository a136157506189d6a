//! The part of a descriptor that the engine keeps.

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType};

/// Longest media type (RFC 6838, section 4.2: two names of at most 127 characters).
const MAX_TYPE_CHARS: usize = 255;
/// Largest embedded content (base64) that is used. Larger content is fetched like any other.
const MAX_EMBEDDED: usize = 64 << 10;

/// A node by type, digest and length: the plans of thousands of images wait in memory and do not need the other fields of
/// a descriptor. The others remain in the manifest, and can be as long as it.
#[derive(Debug, Clone)]
pub struct Slim {
    /// The media type of the content.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Whether it may be a layer that only its publisher distributes.
    pub(super) is_foreign: bool,
    data: Option<Box<str>>,
}

impl Slim {
    /// Keeps the needed fields of `node`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) if the media type is too long to be one.
    pub(super) fn of(node: &Descriptor) -> Result<Self> {
        if node.media_type.as_str().len() > MAX_TYPE_CHARS {
            let why = format!("its media type is longer than {MAX_TYPE_CHARS} characters");
            return Err(Error::new(Kind::Invalid, "read manifests").on(node.digest).because(why));
        }
        Ok(Self {
            media_type: node.media_type.clone(),
            digest: node.digest,
            size: node.size,
            is_foreign: node.is_foreign(),
            data: node.data.as_ref().filter(|data| data.len() <= MAX_EMBEDDED).cloned(),
        })
    }

    /// Returns whether this is a manifest, which refers to more nodes.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.media_type.is_manifest()
    }

    /// Returns the descriptor to pass to stores.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { data: self.data.clone(), ..Descriptor::new(self.media_type.clone(), self.digest, self.size) }
    }
}
