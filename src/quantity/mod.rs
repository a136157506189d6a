//! Quantities as people write and read them: durations, sizes, rates, numbers of things.

mod decimal;
pub(crate) mod duration;
pub mod human;
pub(crate) mod size;
