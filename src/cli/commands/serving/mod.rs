//! Commands for the embedded registry, and logins.

mod access_log;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod gc;
pub(crate) mod htpasswd;
pub(crate) mod login;
pub(crate) mod serve;
