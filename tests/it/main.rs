//! Tests of more than one module, and of the whole program. They need nothing but Rust.

mod floors;
mod serve;
mod serve_faults;
mod store_contract;
