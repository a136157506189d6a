//! The HTTP client: one client, the only retry loop, logins, TLS, and error bodies as errors.
//!
//! Knows hosts and requests, and nothing about images. Sends no request that the caller did not ask for: no ping, no
//! token before a challenge. Everything that a peer sends is bounded by a named constant before it is read.

mod address;
mod auth;
mod cleanup;
mod client;
mod connect;
mod exchange;
mod flow;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod header;
mod host;
mod probe;
mod problem;
mod registry_resource;
mod request;
mod response;
mod scope;

pub use address::PlainHost;
pub use client::{Client, ClientOptions};
pub use connect::proxy::Proxies;
pub(crate) use connect::tls::holds_certificates;
pub use flow::link::Traffic;
pub use flow::stats::Stats;
pub use header::{ByteRange, arrived, content_range, next_link};
pub use host::Host;
pub use probe::{LoginProof, prove};
pub use problem::Problem;
pub use request::{Payload, Request};
pub use response::Response;
pub use scope::Scopes;
