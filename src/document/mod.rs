//! What users and auditors read and write: pure data, a version each, and one check at the border.
//!
//! No I/O. Formats that we own refuse unknown fields; foreign ones are kept as they came.

pub mod catalog;
mod directory;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod json;
pub mod lock;
pub mod policy;
pub mod rollup;
mod seed;

pub use catalog::Accessories;
pub use directory::entry_directory;
pub use seed::{SeedManifest, Transfer, seed_lock};
