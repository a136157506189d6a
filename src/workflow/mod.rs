//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod bundle;
mod check;
mod demo;
mod ends;
mod inspect;
mod record;
mod request;
mod resolve;
mod seed;
mod verify;

pub use demo::{Demo, Forgery, Published, Refusal};
pub use record::Record;
pub use request::{Seed, Sidecars, Trust};
pub use seed::{Outcome, Status, Verification, seed};
pub use verify::verify;
