//! What users and auditors read and write: pure data with one check each.

pub(crate) mod json;
pub mod lock;
pub mod policy;
