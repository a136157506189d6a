//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod bundle;
mod check;
mod demo;
mod inspect;
mod record;
mod resolve;
mod seed;

pub use demo::{Demo, Forgery, Published, Refusal};
pub use record::Record;
pub use seed::{Outcome, Seed, Sidecars, Status, Trust, Verification, seed, seed_until};
