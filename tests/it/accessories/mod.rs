//! What is attached to an image, seeded by the whole program between registries of every kind.

mod cost;
mod faults;
mod field;
mod lies;
mod merge;
mod rivals;
mod travel;
mod words;
