//! Accessories of an image, seeded by the whole program between registries of every kind.

mod cost;
mod faults;
mod field;
mod gaps;
mod hiding;
mod lies;
mod long_lists;
mod merge;
mod rivals;
mod travel;
mod words;
