//! Images, logs, links and clients that the tests, the checks beside real clients and the benches share.
//!
//! A function here panics where a test would: a test that cannot set itself up has failed.

pub mod images;
pub mod link;
pub mod rekor;
pub mod serve_fuzz;
pub mod verify_bench;
pub mod verify_site;
