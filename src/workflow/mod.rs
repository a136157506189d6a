//! One file per task: resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, sends events, returns a value.

mod batch;
mod bundle;
mod data_check;
mod demo;
mod generate;
mod journal;
mod login;
mod publish_index;
mod rollback;
mod seed;

pub use crate::disk::Existing;
pub use batch::expand::CatalogEntry;
pub use batch::roll_up::read_roll_up;
pub use batch::{BatchEntry, Catalog, Seeded, forecast_catalog, seed_catalog};
pub use bundle::keygen::{KeyPair, KeyPairPlace};
pub use bundle::seal::{SealContent, SealRequest, SealedBundle, SealedSidecar, seal};
pub use bundle::verify::{Unfinished, verify};
pub use data_check::{Checked, DataCheck, check_data};
pub use demo::{Demo, Forgery, ForgeryRefusal, Published};
pub use generate::zarf::{Packaged, ZarfPackage, package, read_catalog};
pub use generate::zot::{Bootstrap, Bootstrapped, SearchExtension, bootstrap};
pub use journal::{Effect, IntentNumber, Journal, JournalWriter, TagChange};
pub use login::{LoggedIn, LoggedOut, login, logout};
pub use publish_index::{Change, Publication, publish_index};
pub use rollback::{RollbackFate, RollbackPlan, RollbackStep};
pub use seed::dry_run::{DryRunCost, Forecast, Forecasts, forecast};
pub use seed::platforms::rewrite_index::Rewritten;
pub use seed::record::Record;
pub use seed::request::{IndexHandling, Seed, SeedScope, SidecarHandling, SiteKey, Tagging, Trust};
pub use seed::signing::{Signature, SignatureFormat};
pub use seed::{Outcome, SeedStatus, Verification, seed, seed_until};
