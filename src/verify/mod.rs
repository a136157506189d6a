//! Trust: decides whether a site may use an image. Reads stores, never writes.
//!
//! [`Candidate`] is the subject, resolved once; [`Demands`] are the requirements; [`Pipeline`] runs the four steps and
//! returns a [`VerifyReport`]; [`VerifyReport::approve`] turns a successful one into an [`Approved`], without which
//! nothing is copied.
//!
//! Everything from a registry is hostile until a trusted key vouches for it: sizes are checked before bytes are
//! fetched, signatures before bytes are parsed, and only a 404 means that there is no signature. A store that cannot be
//! queried is an error of its own kind.

mod approved;
mod evidence;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod pipeline;
mod report;
mod requirements;
mod seal_time;
mod search;
mod subject;

pub use crate::clock::Clock;
pub use crate::document::sidecar::SidecarKind;
pub use crate::trust::claim::SIGNED_AT;
pub use crate::trust::failure::{ErrorClass, Failure};
pub use crate::trust::key::{KeyScheme, PublicKey};
pub use crate::trust::signing_key::SigningKey;
pub use crate::trust::tlog::Tlog;
pub use approved::Approved;
pub use evidence::Evidence;
pub use pipeline::{Pipeline, SignedAt};
pub use report::{Step, StepOutcome, StepResult, VerifyReport};
pub use requirements::{Demands, IdentityRule, RollbackRule, SidecarDemand, TrustTime};
pub use search::{MAX_LISTED_SIGNATURES, MAX_REFERRERS, MAX_SIGNATURES, MAX_TOTAL_BYTES, signature_tag};
pub use subject::{Candidate, Sidecar};
