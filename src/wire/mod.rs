//! HTTP with manners: one client, the only retry loop, logins, TLS, and problem bodies told as errors.
//!
//! Knows hosts and requests, and nothing about images.

mod retry;

pub use retry::{Retry, Tries};
