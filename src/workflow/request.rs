//! What is asked of a seed.

use std::path::PathBuf;

use super::former::Tagging;
use crate::copy::{self, Commit};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result};
use crate::oci::{Reference, Tag};
use crate::verify::Demands;

/// What to seed, and what it has to satisfy.
#[derive(Debug)]
pub struct Seed {
    /// The source: tag, digest or neither.
    pub from: Reference,
    /// The destination, with its tag.
    pub to: Reference,
    /// Whether the lock and policy sidecars travel along.
    pub sidecars: Sidecars,
    /// Which of the things attached to the image travel along.
    pub accessories: Accessories,
    /// What the image has to satisfy.
    pub trust: Trust,
    /// How the tags move.
    pub tagging: Tagging,
    /// How the engine works.
    pub engine: copy::Options,
    /// Where the record goes.
    pub folder: PathBuf,
    /// Told before the destination's tag moves.
    pub commit: Commit,
}

/// Whether `<tag>-lock` and `<tag>-policy` travel along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecars {
    /// Those that the source has.
    Copy,
    /// Neither.
    Leave,
}

/// What an image has to satisfy.
#[derive(Debug, Clone)]
pub enum Trust {
    /// These demands, at both ends.
    Verify {
        /// What is demanded.
        demands: Box<Demands>,
        /// The key as the user named it, for the record.
        key: String,
    },
    /// Nothing: development only.
    Skip,
}

impl Seed {
    /// The destination's tag.
    pub(super) fn tag(&self) -> Result<Tag> {
        let missing = || Error::new(Kind::Usage, "name the destination's tag").on(&self.to);
        self.to.tag.clone().ok_or_else(missing)
    }
}

impl Trust {
    /// The key as the record names it.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Self::Verify { key, .. } => Some(key.clone()),
            Self::Skip => None,
        }
    }
}
