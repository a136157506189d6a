//! Durations and sizes as people write them, in flags and in files.

mod decimal;
pub(crate) mod duration;
pub(crate) mod size;
