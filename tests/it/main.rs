//! Tests of more than one module, and of the whole program. They require only Rust.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod bundle;
mod catalog;
mod cli;
mod copy;
mod everyday;
mod hostile;
mod house;
mod kit;
mod serve;
mod store;
mod verify;
mod wire;
