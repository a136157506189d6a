//! Trust: decides whether an image may be shown to a site. Reads stores, never writes.
//!
//! [`Candidate`] says what is verified, resolved once; [`Demands`] what must hold; [`Pipeline`] runs the four steps and
//! gives a [`VerifyReport`]; [`VerifyReport::approve`] turns a good one into an [`Approved`], without which nothing is copied.
//!
//! Everything that comes from a registry is hostile until a trusted key vouches for it: sizes are checked before bytes
//! are fetched, signatures before bytes are interpreted, and only a 404 means that there is no signature. A store that
//! could not be asked is an error of its own kind.

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
pub use requirements::{Clock, Demands, IdentityRule, RollbackRule, SidecarDemand, TrustTime};
pub use search::{MAX_LISTED_SIGNATURES, MAX_REFERRERS, MAX_SIGNATURES, MAX_TOTAL_BYTES, signature_tag};
pub use subject::{Candidate, Sidecar};
