//! Tests of more than one module, and of the whole program. They need nothing but Rust.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod floors;
mod serve;
mod serve_faults;
mod store_contract;
