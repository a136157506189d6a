//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod accessories;
mod arrival;
mod atomic;
mod bootstrap;
mod bundle;
mod catalog;
mod check;
mod commons;
mod demo;
mod ends;
mod expand;
mod files;
mod forecast;
mod former;
mod inspect;
mod keygen;
mod login;
mod package;
mod prepare;
mod publish_index;
mod record;
mod rehearsal;
mod replay;
mod request;
mod resolve;
mod restore;
mod rewrite;
mod roll_up;
mod rollback;
mod seal;
mod seed;
mod sidecars;
mod subset;
mod verify;

pub use bootstrap::{Bootstrap, Bootstrapped, Search, bootstrap};
pub use bundle::{Format, Signature};
pub use catalog::{Catalog, Entry, Seeded, forecast_catalog, seed_catalog};
pub use demo::{Demo, Forgery, Published, Refusal};
pub use expand::Wish;
pub use forecast::{Cost, Forecast, Forecasts, forecast};
pub use former::Tagging;
pub use keygen::{Existing, KeyPair, Keygen};
pub use login::{LoggedIn, LoggedOut, login, logout};
pub use package::{Package, Packaged, package, read_catalog};
pub use publish_index::{Change, Publication, publish_index};
pub use record::Record;
pub use request::{Index, Seed, Sidecars, SiteKey, Trust};
pub use rewrite::Rewritten;
pub use roll_up::read_roll_up;
pub use rollback::{Fate, Rollback, Step};
pub use seal::{Content, Seal, Sealed, SealedSidecar, seal};
pub use seed::{Outcome, Status, Verification, seed, seed_until};
pub use verify::{Unfinished, verify};
