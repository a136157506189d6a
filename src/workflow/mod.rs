//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod accessories;
mod arrival;
mod bundle;
mod check;
mod commons;
mod demo;
mod ends;
mod inspect;
mod keygen;
mod prepare;
mod record;
mod request;
mod resolve;
mod seal;
mod seed;
mod verify;

pub use bundle::{Format, Signature};
pub use demo::{Demo, Forgery, Published, Refusal};
pub use keygen::{Existing, KeyPair, Keygen};
pub use record::Record;
pub use request::{Seed, Sidecars, Trust};
pub use seal::{Content, Seal, Sealed, SealedSidecar, seal};
pub use seed::{Outcome, Status, Verification, seed, seed_until};
pub use verify::verify;
