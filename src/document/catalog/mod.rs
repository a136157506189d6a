//! The catalog: which images go where, in one YAML file that people write.
//!
//! Read once and strictly: unknown keys, duplicate keys and wrong types are errors with line and column, before any
//! registry is contacted. A catalog can also be built without a file; [`Catalog::new`] checks it in the same way. Knows
//! neither files nor registries: tags for a pattern are chosen from a list that the caller passes.

mod destinations;
mod file;
mod pattern;
mod pin;
mod range;
mod select;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::oci::{Platform, Reference, Tag};

pub use destinations::Destinations;
pub use pattern::{Pattern, PatternError};
pub use pin::{PinnableCatalog, PinnableSource};
pub use range::{Range, RangeError};
pub use select::{Select, Which};

/// Largest catalog that is read, in bytes.
pub const MAX_CATALOG_BYTES: u64 = 16 << 20;

/// Most entries of one catalog.
pub const MAX_ENTRIES: usize = 100_000;

/// Images and their destinations: at least one entry, and no destination tag twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

/// One image, or the images that one selection chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The source as it was written; a repository alone if there is a selection.
    pub from: Reference,
    /// The destination as it was written, see [`Entry::destination`]; a repository alone if there is a selection.
    pub to: Reference,
    /// Which tags of the source, instead of one in `from`.
    pub select: Option<Select>,
    /// Whether the lock and policy sidecars travel along.
    pub copy_policy: bool,
    /// The file of the public key as it was written: relative to the catalog's folder.
    pub pub_key: Option<String>,
    /// Platforms to copy; empty means all.
    pub platforms: Vec<Platform>,
    /// Whether an image may replace one that was signed later.
    pub allow_rollback: bool,
    /// Whether the digest in `from` takes the place of a signature.
    pub pinned: bool,
    /// Which accessories are copied, if the entry says so.
    pub accessories: Option<Accessories>,
    /// The line where the entry begins; 0 without a file.
    pub line: u64,
}

/// Which accessories of an image are copied with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accessories {
    /// Accessories of every copied manifest.
    #[default]
    All,
    /// Accessories of the root only.
    Root,
    /// Only the accessories that verification needs.
    None,
}

impl Catalog {
    /// Reads a catalog.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage), with line and column, for everything that is not a catalog of version 1.
    pub fn parse(text: &str) -> Result<Self> {
        file::parse(text)
    }

    /// Builds a catalog without a file.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if there is no entry, if the fields of one contradict each other, or if two have the same
    /// destination.
    pub fn new(entries: Vec<Entry>) -> Result<Self> {
        if entries.is_empty() {
            return Err(Error::new(Kind::Usage, "there is no entry"));
        }
        if entries.len() > MAX_ENTRIES {
            let why = format!("{} entries, at most {MAX_ENTRIES} are taken", entries.len());
            return Err(Error::new(Kind::Usage, why).hint("split the catalog"));
        }
        let mut taken = Destinations::default();
        for entry in &entries {
            entry.check().map_err(|error| located(error, entry.line))?;
            for to in entry.known_destinations() {
                taken.claim(&to, entry)?;
            }
        }
        Ok(Self { entries })
    }
}

impl Entry {
    /// Builds an entry with a source and a destination only.
    #[must_use]
    pub fn new(from: Reference, to: Reference) -> Self {
        Self {
            from,
            to,
            select: None,
            copy_policy: false,
            pub_key: None,
            platforms: Vec::new(),
            allow_rollback: false,
            pinned: false,
            accessories: None,
            line: 0,
        }
    }

    /// Returns where the image goes: `to`, with the source's tag if it names none. For an entry with a selection, see
    /// [`Entry::chosen`].
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if neither names a tag.
    pub fn destination(&self) -> Result<Reference> {
        let Some(tag) = self.to.tag.clone().or_else(|| self.from.effective_tag()) else {
            let refused = Error::new(Kind::Usage, "to needs a tag, because from is a digest");
            return Err(refused.hint(format!("write {}:<tag>", self.to)));
        };
        Ok(self.to.repository.tagged(&tag))
    }

    /// Returns source and destination of the image of a chosen tag.
    #[must_use]
    pub fn chosen(&self, tag: &Tag) -> (Reference, Reference) {
        (self.from.repository.tagged(tag), self.to.repository.tagged(tag))
    }

    /// Returns the destinations that are known before any registry is contacted.
    fn known_destinations(&self) -> Vec<Reference> {
        match &self.select {
            None => self.destination().into_iter().collect(),
            Some(Select { which: Which::List(tags), latest: None }) => {
                tags.iter().map(|tag| self.chosen(tag).1).collect()
            }
            Some(_) => Vec::new(),
        }
    }

    /// Checks the fields of an entry against each other.
    fn check(&self) -> Result<()> {
        let refused = |text: &str| Err(Error::new(Kind::Usage, text));
        if self.to.digest.is_some() {
            return refused("a digest cannot be chosen for to; name a tag");
        }
        if self.pinned && self.from.digest.is_none() {
            let error = Error::new(Kind::Usage, "pinned needs a digest in from");
            return Err(error.hint("registry pin writes the digests of today into a catalog"));
        }
        if self.pinned && self.pub_key.is_some() {
            let error = Error::new(Kind::Usage, "pinned stands for no signature, and pub_key demands one");
            return Err(error.hint("keep pub_key: the digest in from is checked all the same"));
        }
        if self.select.is_some() {
            if self.from.tag.is_some() || self.from.digest.is_some() {
                return refused("from names a tag or digest, and tags or latest chooses others: keep one of the two");
            }
            if self.to.tag.is_some() {
                return refused("with tags or latest, to is a repository without a tag: each image keeps its own");
            }
            return Ok(());
        }
        if self.copy_policy && (self.from.digest.is_some() || self.from.tag.is_none()) {
            let error = Error::new(Kind::Usage, "copy_policy requires tag-based from and to");
            return Err(error.hint("sidecars stand beside the image as <tag>-lock and <tag>-policy"));
        }
        self.destination().map(|_| ())
    }
}

/// Adds the line of the file to the error, if there is a file.
fn located(error: Error, line: u64) -> Error {
    if line == 0 { error } else { error.during(format!("line {line}"), "") }
}
