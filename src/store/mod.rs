//! Stores: places that hold bytes by digest.
//!
//! Everything above this module moves content by calling [`Store`]; everything below it speaks HTTP or files. A store
//! never decides *whether* to copy, only *how* to hold.
//!
//! Implementations must pass the contract in `tests/it/store_contract.rs`.

mod body;
mod cached;
pub(crate) mod layout;
mod memory;
mod registry;
mod spool;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Tag};

pub use body::{Body, Meter};
pub use cached::Cached;
pub use layout::Layout;
pub use memory::Memory;
#[cfg(feature = "fuzzing")]
pub(crate) use registry::fuzzing;
pub use registry::{Registry, Role, Untagged};
pub use spool::Spool;

pub use crate::stream::ByteStream;

/// Largest manifest that is read, in bytes: what the distribution specification asks clients and registries to support
/// at least, and what the common registries accept at most.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// How much to answer when a name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Which content it is: a HEAD request on a registry.
    Digest,
    /// The content too: a GET request on a registry, and the only way to be sure of the digest.
    Bytes,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Type, digest and size of the manifest.
    pub node: Descriptor,
    /// The manifest, if asked for. Always hashes to `node.digest`.
    pub bytes: Option<Bytes>,
}

/// How a node came to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was there already.
    Present,
    /// The destination took it from another repository of its own.
    Mounted,
    /// Its bytes were sent; how many.
    Sent(u64),
}

/// A home for content-addressed bytes: one repository, one folder, one map.
///
/// Few operations and no defaults: a wrapper that forgets one must not compile. Conveniences are free functions, so
/// that implementers never keep two ways of doing a thing in step.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Name for logs and errors, such as `ghcr.io/acme/app`. Holds no secrets.
    fn label(&self) -> &str;

    /// Says what `name` stands for now.
    ///
    /// With [`Want::Bytes`] the answer is as good as the bytes: they are hashed, and for a digest they match it. With
    /// [`Want::Digest`] it is what the store claims, good enough to decide that nothing has changed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such name; [`Corrupt`](Kind::Corrupt) if the bytes stay different
    /// from what the digest, or the store's own word about them, says; [`Limit`](Kind::Limit) past
    /// [`MAX_MANIFEST_BYTES`].
    async fn resolve(&self, name: &Name, want: Want) -> Result<Root>;

    /// Says whether `node` is held, without moving its bytes.
    ///
    /// An answer about a manifest says nothing about what the manifest refers to.
    async fn contains(&self, node: &Descriptor) -> Result<bool>;

    /// Opens `node` at byte offset `from`; `from == node.size` gives an empty stream.
    ///
    /// Bytes come as stored. [`Body`] is what checks them.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if `node` is not held, [`Corrupt`](Kind::Corrupt) if it is held with another size,
    /// [`Unsupported`](Kind::Unsupported) if `from > 0` and the store cannot seek.
    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream>;

    /// Makes `node` held, drawing on `body` only if its bytes are needed, and then makes `tags` name it.
    ///
    /// Atomic and idempotent: readers see all of `node` or nothing, and a second call is cheap. Only manifests take
    /// tags. A manifest with a subject becomes one of the subject's referrers.
    ///
    /// # Errors
    ///
    /// Those of `body`, with their side; [`Incomplete`](Kind::Incomplete) if a manifest refers to what is not held and
    /// the store insists on that; [`Usage`](Kind::Usage) for a tag on a blob.
    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put>;

    /// Says that about `count` calls are soon to come at the same time. A hint: a store far away can get ready for them.
    fn expect(&self, count: usize);
}

/// What a store can list.
#[async_trait]
pub trait Listing: fmt::Debug + Send + Sync {
    /// All tags, in no particular order. None if the repository does not exist.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 100,000 tags or 1,000 pages.
    async fn tags(&self) -> Result<Vec<Tag>>;

    /// The same for whoever can ask for the tags by their names instead: only as much of the list is read as that costs.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 8 pages or 512 KiB.
    async fn few_tags(&self) -> Result<Vec<Tag>>;

    /// All manifests that name `subject` as theirs, as a list says it: types may be wrong and manifests missing.
    ///
    /// An empty list means that the store was asked and knows none. "Could not ask" is an error.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 16 pages; [`NotFound`](Kind::NotFound) if the store lists what refers to other
    /// manifests, and says of this one that it has no such list.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>>;

    /// The same by the Referrers API alone: `None` where a store has none and keeps a fallback index instead, for those
    /// who know by other means whether there is one.
    ///
    /// # Errors
    ///
    /// Those of [`referrers`](Self::referrers).
    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>>;
}

/// A store that can list: what verification reads.
pub trait ListingStore: Store + Listing {}

impl<T: Store + Listing> ListingStore for T {}

/// Reads a whole manifest, checked against its descriptor, at most [`MAX_MANIFEST_BYTES`] long.
///
/// # Errors
///
/// Those of [`Store::open`] and [`Body`]; [`Limit`](Kind::Limit) before anything is fetched if `node` says that it is
/// larger than allowed.
pub async fn read_manifest(store: &dyn Store, node: &Descriptor) -> Result<Bytes> {
    read_small(store, node, MAX_MANIFEST_BYTES).await
}

/// Reads a whole node of at most `limit` bytes, checked against its descriptor. Fetched again, a bounded number of
/// times, if it comes damaged.
///
/// # Errors
///
/// As [`read_manifest`].
pub async fn read_small(store: &dyn Store, node: &Descriptor, limit: u64) -> Result<Bytes> {
    if node.size > limit {
        let why = format!("{} bytes announced, at most {limit} are read", node.size);
        return Err(Error::new(Kind::Limit, "read").on(format!("{}@{}", store.label(), node.digest)).because(why));
    }
    match node.inline() {
        Some(bytes) => Ok(Bytes::from(bytes)),
        None => body::read_all(store, node).await,
    }
}

/// Whether `node` travels as a manifest: its type says so. Everything else is a blob.
#[must_use]
pub fn is_manifest(node: &Descriptor) -> bool {
    node.media_type.is_manifest()
}

/// Returns what `store` holds under `name`; none if nothing.
///
/// # Errors
///
/// Fails like [`Store::resolve`], but not with [`NotFound`](Kind::NotFound).
pub(crate) async fn find(store: &dyn Store, name: &Name) -> Result<Option<Descriptor>> {
    match store.resolve(name, Want::Digest).await {
        Ok(root) => Ok(Some(root.node)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
