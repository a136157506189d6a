//! Tests of more than one module, and of the whole program. They need nothing but Rust.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod accessories;
mod attack;
mod attack_site;
mod bundle_bed;
mod bundle_keys;
mod bundle_seal;
mod bundle_verify;
mod command_line;
mod demo;
mod fallback;
mod floors;
mod images;
mod registry_store;
mod seed;
mod seed_verified;
mod serve;
mod serve_faults;
mod store_contract;
mod verify;
mod verify_bench;
mod verify_sidecars;
mod verify_site;
mod verify_vectors;
mod wire;
mod wire_server;
