//! The terminal: results on stdout, notes on stderr, passwords that are typed.

pub(super) mod password;
pub(super) mod print;
