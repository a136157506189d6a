//! Images, logs, links and clients shared by the tests, the interop checks and the benches.
//!
//! A function here panics where a test would: a test without its set-up has failed.

pub mod images;
pub mod link;
pub mod rekor;
pub mod serve_fuzz;
pub mod verify_bench;
pub mod verify_site;
