//! Tests of more than one module, and of the whole program. They need nothing but Rust.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its scaffolding too")]

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod floors;
mod registry_store;
mod wire;
mod wire_server;
mod serve;
mod serve_faults;
mod store_contract;
