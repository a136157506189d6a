//! What is asked of a seed.

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
    /// What becomes of the former roots is the registry's business.
    #[default]
    Plain,
    /// Each former root is put under a tag of its own first.
    Keep,
    /// The same, and no tag moves before every image of the run is in place.
    Together,
}

/// What to seed, and what it has to satisfy.
#[derive(Debug)]
pub struct Seed {
    /// The source: tag, digest or neither.
    pub from: Reference,
    /// The destination, with its tag.
    pub to: Reference,
    /// Platforms to copy; none stands for all.
    pub platforms: Vec<Platform>,
    /// What becomes of the index when some platforms are left out.
    pub index: IndexHandling,
    /// Whether the lock and policy sidecars travel along.
    pub sidecars: SidecarHandling,
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

/// What becomes of the index when some platforms are left out.
#[derive(Debug, Clone, Default)]
pub enum IndexHandling {
    /// It stays what it is, and lists what is not there. Not every registry takes that.
    #[default]
    Keep,
    /// A smaller one takes its place, under its own digest. Whoever verifies has a key to sign it with. Goes with
    /// platforms and without sidecars, whose lock names the whole index.
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

/// Whether `<tag>-lock` and `<tag>-policy` travel along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarHandling {
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
    pub(crate) fn tag(&self) -> Result<Tag> {
        let missing = || Error::new(Kind::Usage, "name the destination's tag").on(&self.to);
        self.to.tag.clone().ok_or_else(missing)
    }

    /// The key that has verified the destination, as the record names it.
    pub(crate) fn key(&self) -> Option<String> {
        match (&self.trust, &self.index) {
            (Trust::Verify { .. }, IndexHandling::Rewrite(Some(site))) => Some(site.name.clone()),
            (trust, _) => trust.key(),
        }
    }

    /// What the image has to satisfy at the destination. It bears the name that it had at the source; an index that was
    /// rewritten is signed by the site's own key, under the name that it has there.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for an index that is rewritten and verified with no key to sign it.
    pub(super) fn site_demands(&self) -> Result<Option<Demands>> {
        match (&self.trust, &self.index) {
            (Trust::Skip, _) => Ok(None),
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
    /// The key as the user named it.
    fn key(&self) -> Option<String> {
        match self {
            Self::Verify { key, .. } => Some(key.clone()),
            Self::Skip => None,
        }
    }
}
