//! The terminal: results on stdout, notes on stderr, passwords from the keyboard, and the signals that end a run.
//!
//! Knows no commands.

pub(crate) mod catalog_result;
pub(crate) mod interrupt;
pub(crate) mod password;
pub(crate) mod print;
pub(crate) mod seed_result;
