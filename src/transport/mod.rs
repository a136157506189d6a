//! Movers of whole images behind one trait: the engine itself, skopeo as a subprocess, and one after the other.
//!
//! Nothing moves without an [`Approved`]: a [`Job`] cannot be made without one, and holds its root to it.

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

/// An approved root with all that travels along, and where it goes.
#[derive(Debug)]
pub struct Job {
    /// Where content comes from, for movers that find their own way there.
    pub(crate) from: Location,
    /// Where it goes to, likewise.
    pub(crate) to: Location,
    /// Stores and targets; the image is the first target.
    pub(crate) copy: copy::Job,
}

/// A repository, and how its registry is spoken to.
#[derive(Debug, Clone)]
pub struct Location {
    /// The repository.
    pub repository: oci::Repository,
    /// What our own wire found that its registry speaks.
    pub scheme: LocationScheme,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationScheme {
    /// TLS, with a certificate that verifies.
    Https,
    /// Plain HTTP: permitted by the user, and what our own wire found that the host speaks.
    Http,
    /// The same, at a host that was neither named nor is this machine: no credentials are sent to it.
    HttpWithoutLogin,
}

impl Job {
    /// Allows `copy` to move, if its first target is what `approved` is about.
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

/// What was carried, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// The name of the transport that did it.
    pub engine: &'static str,
    /// What it did.
    pub report: CopyReport,
}

/// Moves approved images.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// The name that the record shows, such as `native`.
    fn name(&self) -> &'static str;

    /// Makes the destination hold all targets of `job`, under their tags.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) if this mover cannot do it and another may; otherwise what the two ends fail
    /// with. Whatever arrived before stays.
    async fn carry(&self, job: &Job, options: &copy::Options, events: &Events) -> Result<Carried>;
}
