//! Trust: decides whether an image may be shown to a site. Reads stores, never writes.
//!
//! [`Subject`] says what is verified, resolved once; [`Demands`] what must hold; [`Pipeline`] runs the four steps and
//! gives a [`Report`]; [`Report::approve`] turns a good one into an [`Approved`], without which nothing is copied.
//!
//! Everything that comes from a registry is hostile until a trusted key vouches for it: sizes are checked before bytes
//! are fetched, signatures before bytes are interpreted, and only a 404 means that there is no signature. A store that
//! could not be asked is an error of its own kind.

mod approved;
pub mod attach;
pub mod bundle;
mod class;
mod demand;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod key;
mod key_file;
pub mod payload;
mod pem;
mod pipeline;
mod protojson;
mod pss;
mod report;
mod seal_time;
mod search;
mod signing_key;
mod subject;
mod tlog;

pub use approved::Approved;
pub use class::{ErrorClass, Failure};
pub use demand::{Clock, Demands, Identity, Rollback, SIGNED_AT, SidecarDemand, Tlog, TrustTime};
pub use key::{PublicKey, Scheme};
pub use pipeline::{Pipeline, SignedAt};
pub use report::{Evidence, Outcome, Report, Step, StepResult};
pub use search::{MAX_LISTED_SIGNATURES, MAX_REFERRERS, MAX_SIGNATURES, MAX_TOTAL_BYTES, signature_tag};
pub use signing_key::SigningKey;
pub use subject::{Sidecar, SidecarKind, Subject};
