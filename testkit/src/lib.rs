//! Images, logs, links, registries and clients shared by the tests, the interop checks and the benches.
//!
//! A function here panics where a test would: a test without its set-up has failed.

pub mod connection;
pub mod cut_line;
pub mod images;
pub mod link;
pub mod proxy;
pub mod registry;
pub mod rekor;
pub mod serve_fuzz;
pub mod tally;
pub mod tls;
pub mod verify_bench;
pub mod verify_site;
