//! Keys, signatures, envelopes and transparency logs. Pure: no I/O, no store.
//!
//! `verify` decides; this module works on bytes alone.

pub mod artifact;
pub mod blob;
pub mod blob_signature;
pub(crate) mod claim;
pub(crate) mod claimed_signer;
pub(crate) mod failure;
pub(crate) mod key;
pub(crate) mod key_file;
pub(crate) mod pem;
pub(crate) mod protojson;
pub(crate) mod pss;
pub(crate) mod signing_key;
pub mod sigstore_bundle;
pub mod simple_signing;
pub(crate) mod tlog;
