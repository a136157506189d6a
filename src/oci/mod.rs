//! The types of the OCI specifications: digest, descriptor, media type, platform, reference, manifest.
//!
//! Pure: no I/O, no async, no clock. Manifests are read leniently, because a replicator must copy what registries hold
//! (`layers: null`, a platform without `os`, unknown media types); their bytes are copied unchanged. Digests are read
//! strictly, because they become file names and the root of all trust.

mod canonical;
mod descriptor;
mod digest;
pub mod filter_index;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod json_cost;
mod manifest;
mod media_type;
mod place;
mod platform;
mod reference;
pub(crate) mod tag_order;
pub(crate) mod walk;

pub use descriptor::{Descriptor, empty_json};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use manifest::{Manifest, ManifestError, Shape};
pub use media_type::MediaType;
pub use place::{ListPlace, PlaceError, RegistryHost};
pub use platform::{Platform, PlatformError};
pub use reference::{Name, Reference, ReferenceError, Repository, RepositoryPath, Tag};
