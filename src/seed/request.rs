//! The request for a seed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::copy::{self, Commit};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result};
use crate::oci::{Platform, Reference, Tag};
use crate::verify::{Demands, IdentityRule, SigningKey};

/// How the tags of a seed move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tagging {
    /// Former roots are left to the registry.
    #[default]
    Plain,
    /// Each former root is put under a tag of its own first.
    Keep,
    /// As `Keep`, and no tag moves before every image of the run is in place.
    Together,
}

/// The image to seed, and the demands on it.
#[derive(Debug)]
pub struct Seed {
    /// The source: tag, digest or neither.
    pub from: Reference,
    /// The destination, with its tag.
    pub to: Reference,
    /// The demands on the image.
    pub trust: Trust,
    /// The parts to copy. Default: the whole image with its accessories, without sidecars.
    pub scope: SeedScope,
    /// How the tags move. Default [`Tagging::Plain`].
    pub tagging: Tagging,
    /// Options of the engine.
    pub engine: copy::Options,
    /// Folder of the record. Default: the working folder.
    pub folder: PathBuf,
    /// Records that tags have begun to move; from then on the seed is finished, not cancelled.
    pub commit: Commit,
}

/// The parts of an image that a seed copies.
#[derive(Debug, Clone, Default)]
pub struct SeedScope {
    /// Platforms to copy; an empty list means all.
    pub platforms: Vec<Platform>,
    /// The handling of the index when some platforms are left out.
    pub index: IndexHandling,
    /// Whether the lock and policy sidecars are copied too.
    pub sidecars: SidecarHandling,
    /// Which accessories are copied too.
    pub accessories: Accessories,
}

/// The handling of the index when some platforms are left out.
#[derive(Debug, Clone, Default)]
pub enum IndexHandling {
    /// It stays as it is, and lists manifests that are not copied. Not every registry accepts that.
    #[default]
    Keep,
    /// A smaller index replaces it, under its own digest. With verification it needs a key that signs it. Valid only with
    /// platforms and without sidecars, because their lock names the whole index.
    Rewrite(Option<Arc<SiteKey>>),
}

/// The key of a site that rewrites indexes.
#[derive(Debug)]
pub struct SiteKey {
    /// The key.
    pub key: SigningKey,
    /// Its file as the user named it, for the record.
    pub name: String,
}

/// Whether `<tag>-lock` and `<tag>-policy` are copied too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SidecarHandling {
    /// Copies the sidecars that the source has.
    Copy,
    /// Copies neither.
    #[default]
    Leave,
}

/// The demands on an image.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The same demands at both ends.
    Verify {
        /// The demands.
        demands: Box<Demands>,
        /// The key as the user named it, for the record.
        key: String,
    },
    /// The content is verified against the digest in the source's reference, at both ends; the publisher is not.
    Pinned,
    /// No verification: for development only.
    Skip,
}

impl Seed {
    /// Returns a seed of the image `from` to `to`, with the defaults.
    #[must_use]
    pub fn new(from: Reference, to: Reference, trust: Trust) -> Self {
        Self {
            from,
            to,
            trust,
            scope: SeedScope::default(),
            tagging: Tagging::default(),
            engine: copy::Options::default(),
            folder: PathBuf::from("."),
            commit: Commit::default(),
        }
    }

    /// Returns the destination's tag.
    pub(crate) fn tag(&self) -> Result<Tag> {
        let missing = || Error::new(Kind::Usage, "name the destination's tag").on(&self.to);
        self.to.tag.clone().ok_or_else(missing)
    }

    /// Returns the key that verifies the destination, as the record names it.
    pub(crate) fn key(&self) -> Option<String> {
        match (&self.trust, &self.scope.index) {
            (Trust::Verify { .. }, IndexHandling::Rewrite(Some(site))) => Some(site.name.clone()),
            (trust, _) => trust.key(),
        }
    }

    /// Returns the demands on the image at the destination. There the image has the identity that it had at the source; a
    /// rewritten index is signed with the site's own key, for the destination's repository.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if an index is to be rewritten and verified without a key to sign it.
    pub(super) fn site_demands(&self) -> Result<Option<Demands>> {
        match (&self.trust, &self.scope.index) {
            (Trust::Skip | Trust::Pinned, _) => Ok(None),
            (Trust::Verify { demands, .. }, IndexHandling::Keep) => {
                let identity = match &demands.identity {
                    IdentityRule::MatchRepository => IdentityRule::Named(self.from.repository.clone()),
                    identity => identity.clone(),
                };
                Ok(Some(Demands { identity, ..Demands::clone(demands) }))
            }
            (Trust::Verify { demands, .. }, IndexHandling::Rewrite(Some(site))) => {
                let identity = match &demands.identity {
                    IdentityRule::Any => IdentityRule::Any,
                    IdentityRule::MatchRepository | IdentityRule::Named(_) => IdentityRule::MatchRepository,
                };
                Ok(Some(Demands { keys: vec![site.key.public_key()?], identity, ..Demands::clone(demands) }))
            }
            (Trust::Verify { .. }, IndexHandling::Rewrite(None)) => {
                Err(Error::new(Kind::Usage, "rewrite an index that is verified, with no key to sign it").on(&self.to))
            }
        }
    }
}

impl Trust {
    /// Returns the key as the user named it.
    fn key(&self) -> Option<String> {
        match self {
            Self::Verify { key, .. } => Some(key.clone()),
            Self::Pinned | Self::Skip => None,
        }
    }
}
