//! Documents that users and auditors read and write: pure data, each with a version and one check at the border.
//!
//! No I/O. Formats of this project refuse unknown fields; foreign formats keep them unchanged.

pub mod catalog;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod json;
pub mod lock;
pub mod policy_bundle;
mod record_dir;
pub mod roll_up;
mod seed_manifest;
pub mod sidecar;
pub(crate) mod yaml;

pub use catalog::Accessories;
pub use record_dir::entry_directory;
pub use seed_manifest::{SeedManifest, Transfer, seed_lock};
