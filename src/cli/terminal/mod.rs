//! The terminal: results on stdout, notes on stderr, passwords from the keyboard.

pub(super) mod catalog_result;
pub(super) mod password;
pub(super) mod print;
pub(super) mod seed_result;
