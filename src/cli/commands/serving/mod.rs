//! Commands for the embedded registry, and logins.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod gc;
pub(crate) mod login;
pub(crate) mod serve;
