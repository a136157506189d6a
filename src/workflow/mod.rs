//! The tasks of the program besides the seed of one image (`seed`), one file or folder each.
//!
//! Knows neither the command line nor terminals: takes values, sends events, returns a value.

mod batch;
mod bundle;
mod data_check;
mod demo;
mod generate;
mod image_content;
mod inspect;
mod list;
mod login;
mod pin;
mod publish_index;
mod remove;
mod rollback;

pub use crate::disk::Existing;
pub use crate::journal::{Effect, IntentNumber, Journal, JournalWriter, TagChange};
pub use crate::seed::dry_run::{DryRunCost, Forecast, Forecasts, forecast};
pub use crate::seed::platforms::rewrite_index::Rewritten;
pub use crate::seed::record::Record;
pub use crate::seed::request::{IndexHandling, Seed, SeedScope, SidecarHandling, SiteKey, Tagging, Trust};
pub use crate::seed::signing::{Signature, SignatureFormat};
pub use crate::seed::{Outcome, SeedStatus, Verification, seed, seed_until};
pub use batch::expand::CatalogEntry;
pub use batch::history::{KEPT_FOR, RecordedRun, RecordedRuns, read_roll_up, recorded_runs};
pub use batch::{BatchEntry, Catalog, Seeded, forecast_catalog, seed_catalog};
pub use bundle::blob::{FileReport, SignedFile, sign_file, verify_file};
pub use bundle::keygen::{KeyPair, KeyPairPlace};
pub use bundle::seal::{SealContent, SealRequest, SealedBundle, SealedSidecar, seal};
pub use bundle::verify::{Unfinished, verify};
pub use data_check::{Checked, DataCheck, check_data};
pub use demo::{Demo, DemoPace, Forgery, ForgeryRefusal, Published};
pub use generate::zarf::{Packaged, ZarfPackage, package, read_catalog};
pub use generate::zot::{Bootstrap, Bootstrapped, SearchExtension, bootstrap};
pub use inspect::{AttachmentKind, InspectedAttachment, InspectedPlatform, Inspection};
pub use list::{ListDetail, ListedImage, ListedRepository, ListedTag, RepositoryList, TagList};
pub use login::{LoggedIn, LoggedOut, login, logout};
pub use pin::{PinStatus, PinnedCatalog, PinnedEntry};
pub use publish_index::{Change, Publication, publish_index};
pub use remove::{Removal, RemovalFate, RemovalItem};
pub use rollback::{RollbackFate, RollbackPlan, RollbackStep};
