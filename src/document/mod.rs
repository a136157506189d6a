//! What users and auditors read and write: pure data, a version each, and one check at the border.
//!
//! No I/O. Formats that we own refuse unknown fields; foreign ones are kept as they came.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod json;
pub mod lock;
pub mod policy;
mod seed;

pub use seed::{SeedManifest, Transfer, seed_lock};
