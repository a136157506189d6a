//! HTTP with manners: one client, the only retry loop, logins, TLS, and problem bodies told as errors.
//!
//! Knows hosts and requests, and nothing about images. Sends no request that nobody asked for: no ping, no token before
//! a challenge. Whatever a peer sends is bounded by a named constant before it is read.

mod answer;
mod authority;
mod challenge;
mod client;
mod dial;
mod exchange;
mod fault;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod header;
mod host;
mod keychain;
mod login;
mod named;
mod names;
mod outgoing;
mod overheard;
mod pace;
mod plain_http;
mod pool;
mod problem;
mod proxy;
mod pulse;
mod quota;
mod request;
mod resource;
mod retry;
mod scope;
mod speed;
mod tally;
mod tls;
mod token;

pub use answer::Answer;
pub use client::{Client, Options};
pub(crate) use file::read as read_file;
pub use header::{ByteRange, arrived, content_range, next_link};
pub use host::Host;
pub use keychain::{Account, Environment, Kept, Vault};
pub use login::{Proof, prove};
pub(crate) use named::Named;
pub use plain_http::PlainHost;
pub use problem::Problem;
pub use proxy::Proxies;
pub use request::{Payload, Request, Stream};
pub use retry::{Retry, Tries};
pub use scope::Scopes;
pub use tally::Tally;
pub(crate) use tls::holds_certificates;
