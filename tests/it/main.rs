//! Tests of more than one module, and of the whole program. They need nothing but Rust.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod accessories;
mod atomic;
mod attack;
mod attack_site;
mod bundle_bed;
mod bundle_keys;
mod bundle_seal;
mod bundle_verify;
mod catalog;
mod command_line;
mod corpora;
mod demo;
mod dry_run;
mod fallback;
mod floors;
mod images;
mod limits;
mod logins;
mod publish_index;
mod registry_store;
#[expect(dead_code, reason = "shared with the other test program, which needs more of it")]
mod rekor;
mod resident;
mod rewrite;
mod rollback;
mod seed;
mod seed_verified;
mod serve;
mod serve_faults;
mod serve_kill;
mod site_bed;
mod site_files;
mod store_contract;
mod subset;
mod tamper;
mod tlog;
mod verify;
mod verify_bench;
mod verify_sidecars;
mod verify_site;
mod verify_vectors;
mod wire;
mod wire_server;
