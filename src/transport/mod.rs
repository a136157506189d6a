//! Transports of whole images behind one trait: the engine itself, skopeo as a subprocess, and one after the other.
//!
//! Nothing moves without an [`Approved`]: a [`Job`] requires one, and its root must match it.

mod fallback;
mod native;
pub mod skopeo;

use std::fmt;

use async_trait::async_trait;

use crate::copy::{self, CopyReport, Events};
use crate::error::{Error, Kind, Result};
use crate::oci;
use crate::verify::Approved;

pub use fallback::FallbackTransport;
pub use native::Native;
pub use skopeo::Skopeo;

/// An approved root with all its accessories, and where it goes.
#[derive(Debug)]
pub struct Job {
    /// The source, for transports that connect to it themselves.
    pub(crate) from: Location,
    /// The destination, likewise.
    pub(crate) to: Location,
    /// Stores and targets; the image is the first target.
    pub(crate) copy: copy::Job,
}

/// A repository, and the scheme of its registry.
#[derive(Debug, Clone)]
pub struct Location {
    /// The repository.
    pub repository: oci::Repository,
    /// The scheme that our own client found at its registry.
    pub scheme: LocationScheme,
}

/// The scheme for a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationScheme {
    /// TLS, with a valid certificate.
    Https,
    /// Plain HTTP: permitted by the user, and found at the host by our own client.
    Http,
    /// Plain HTTP at a host that was not named and is not this machine: no credentials are sent to it.
    HttpWithoutLogin,
}

impl Job {
    /// Allows `copy` to move, if its first target is the approved root.
    ///
    /// # Errors
    ///
    /// [`Untrusted`](Kind::Untrusted) if the approval is for other content.
    pub fn new(approved: &Approved, from: Location, to: Location, copy: copy::Job) -> Result<Self> {
        match copy.targets.first() {
            Some(image) if approved.covers(&image.node.digest) => Ok(Self { from, to, copy }),
            _ => Err(Error::new(Kind::Untrusted, "move an image that was not approved").on(&from.repository)),
        }
    }
}

/// The result of a transport, and its name.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// The name of the transport that moved the image.
    pub engine: &'static str,
    /// Its counts.
    pub report: CopyReport,
}

/// Moves approved images.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// Returns the name for the record, such as `native`.
    fn name(&self) -> &'static str;

    /// Makes the destination hold all targets of `job`, under their tags.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) if this transport cannot do it and another may; otherwise any error of the
    /// source or destination. Content that arrived before stays.
    async fn carry(&self, job: &Job, options: &copy::Options, events: &Events) -> Result<Carried>;
}
