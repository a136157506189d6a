//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod accessories;
mod bundle;
mod catalog;
mod check;
mod commons;
mod demo;
mod ends;
mod expand;
mod inspect;
mod keygen;
mod prepare;
mod record;
mod request;
mod resolve;
mod rewrite;
mod roll_up;
mod seal;
mod seed;
mod subset;
mod verify;

pub use bundle::{Format, Signature};
pub use catalog::{Catalog, Entry, Seeded, seed_catalog};
pub use demo::{Demo, Forgery, Published, Refusal};
pub use expand::Wish;
pub use keygen::{Existing, KeyPair, Keygen};
pub use record::Record;
pub use request::{Index, Seed, Sidecars, SiteKey, Trust};
pub use rewrite::Rewritten;
pub use seal::{Content, Seal, Sealed, SealedSidecar, seal};
pub use seed::{Outcome, Status, Verification, seed, seed_until};
pub use verify::verify;
