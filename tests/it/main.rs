//! Tests of more than one module, and of the whole program. They need nothing but Rust.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod floors;
mod images;
