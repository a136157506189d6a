//! What the engine keeps of a descriptor.

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType};

/// Longest media type (RFC 6838, section 4.2: two names of at most 127 characters).
const MAX_TYPE_CHARS: usize = 255;
/// Largest embedded content (base64) that is used. What is larger is fetched like everything else.
const MAX_EMBEDDED: usize = 64 << 10;

/// A node by type, name and length: the plans of thousands of images wait in memory, and most of what a descriptor has
/// room for is of no use there. The rest stands in the manifest's bytes, and can be as long as those.
#[derive(Debug, Clone)]
pub struct Slim {
    /// What the content is.
    pub media_type: MediaType,
    /// The name of the content.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Whether it may be a layer that only its publisher hands out.
    pub(super) is_foreign: bool,
    data: Option<Box<str>>,
}

impl Slim {
    /// What is needed of `node`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) for a media type that can be none.
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

    /// Whether this names a manifest, which refers to more nodes.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.media_type.is_manifest()
    }

    /// The descriptor that stores are asked by.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { data: self.data.clone(), ..Descriptor::new(self.media_type.clone(), self.digest, self.size) }
    }
}
