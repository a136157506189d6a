//! Tests of more than one module, and of the whole program. They need nothing but Rust.

mod floors;
mod verify;
mod verify_bench;
mod verify_sidecars;
mod verify_site;
mod verify_vectors;
