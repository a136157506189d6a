//! Stores: places that hold bytes by digest.
//!
//! Everything above this module moves content by calling [`Store`]; everything below it speaks HTTP or files. A store
//! never decides *whether* to copy, only *how* to hold.
//!
//! Implementations must pass the contract in `tests/it/store/contract.rs`.

mod body;
mod cached;
pub(crate) mod layout;
mod memory;
mod page;
mod registry;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, ManifestError, Name, Tag};

pub use body::{Body, Meter};
pub use cached::Cached;
pub use layout::Layout;
pub use memory::Memory;
pub use page::{NamesPage, PagedStore, ReferrersPage};
#[cfg(feature = "fuzzing")]
pub(crate) use registry::fuzzing;
pub use registry::{Registry, RegistryCatalog, Role, Untagged};

pub use crate::stream::ByteStream;

/// Largest manifest that is read, in bytes: the size that the distribution specification asks clients and registries to
/// support at least, and that the common registries accept at most.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The manifest that a name refers to, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Type, digest and size of the manifest.
    pub node: Descriptor,
    /// The manifest. Always hashes to `node.digest`.
    pub bytes: Bytes,
}

impl Root {
    /// Parses the manifest.
    ///
    /// # Errors
    ///
    /// Fails like [`Manifest::parse`].
    pub fn manifest(&self) -> Result<Manifest, ManifestError> {
        Manifest::parse(&self.bytes, &self.node.media_type)
    }
}

/// How a store came to hold a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The store already held it.
    Present,
    /// The destination mounted it from another of its own repositories.
    Mounted,
    /// Its bytes were sent; this many.
    Sent(u64),
}

/// A home for content-addressed bytes: one repository, one folder, one map.
///
/// Few operations and no defaults: a wrapper that forgets one must not compile. Conveniences are free functions, so
/// that implementers never have to keep two ways of doing the same thing consistent.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Name for logs and errors, such as `ghcr.io/acme/app`. Holds no secrets.
    fn label(&self) -> &str;

    /// Returns the descriptor of the manifest that `name` refers to now: a HEAD request on a registry.
    ///
    /// This is only the store's claim, good enough to decide that nothing has changed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such name. A store that has to read the manifest for this also fails
    /// like [`fetch`](Self::fetch).
    async fn resolve(&self, name: &Name) -> Result<Descriptor>;

    /// Returns the manifest that `name` refers to now: a GET request on a registry.
    ///
    /// The answer is as reliable as the bytes: they are hashed, and must match if `name` is a digest.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such name; [`Corrupt`](Kind::Corrupt) if the bytes, after retries,
    /// still differ from the digest or from the store's own statement about them; [`Limit`](Kind::Limit) past
    /// [`MAX_MANIFEST_BYTES`].
    async fn fetch(&self, name: &Name) -> Result<Root>;

    /// Returns whether the store holds `node`, without moving its bytes.
    ///
    /// An answer about a manifest says nothing about the nodes that the manifest refers to.
    async fn contains(&self, node: &Descriptor) -> Result<bool>;

    /// Opens `node` at byte offset `from`; `from == node.size` gives an empty stream.
    ///
    /// Returns bytes as stored. [`Body`] checks them.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if `node` is not held, [`Corrupt`](Kind::Corrupt) if it is held with another size,
    /// [`Unsupported`](Kind::Unsupported) if `from > 0` and the store cannot seek.
    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream>;

    /// Makes the store hold `node`, reading `body` only if it needs the bytes, and then makes `tags` name it.
    ///
    /// Atomic and idempotent: readers see all of `node` or nothing, and a second call is cheap. Only manifests take
    /// tags. A manifest with a subject becomes one of the subject's referrers.
    ///
    /// # Errors
    ///
    /// Fails like `body`, with its side; [`Incomplete`](Kind::Incomplete) if a manifest refers to missing nodes and the
    /// store insists on them; [`Usage`](Kind::Usage) for a tag on a blob.
    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put>;

    /// Announces that about `count` calls will come at the same time. A hint: a remote store can get ready for them.
    fn expect(&self, count: usize);
}

/// A store's lists.
#[async_trait]
pub trait Listing: fmt::Debug + Send + Sync {
    /// Returns all tags, in no particular order. Empty if the repository does not exist.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 100,000 tags or 1,000 pages.
    async fn tags(&self) -> Result<Vec<Tag>>;

    /// Does the same for a caller that could also ask for the tags by name: reads only as much of the list as that
    /// costs.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 8 pages or 512 KiB.
    async fn few_tags(&self) -> Result<Vec<Tag>>;

    /// Returns all manifests that name `subject` as theirs, as a list states it: types may be wrong and manifests
    /// missing.
    ///
    /// An empty list means that the store was asked and knows none. "Could not ask" is an error.
    ///
    /// # Errors
    ///
    /// [`Limit`](Kind::Limit) past 16 pages; [`NotFound`](Kind::NotFound) if the store lists referrers of other
    /// manifests, and says that it has no such list for this one.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>>;

    /// Does the same through the Referrers API alone: `None` if the store has no such API and keeps a fallback index
    /// instead, for callers that know by other means whether there is one.
    ///
    /// # Errors
    ///
    /// Fails like [`referrers`](Self::referrers).
    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>>;
}

/// A store that can list: what verification needs to read.
pub trait ListingStore: Store + Listing {}

impl<T: Store + Listing> ListingStore for T {}

/// Reads a whole manifest, checked against its descriptor, at most [`MAX_MANIFEST_BYTES`] long.
///
/// # Errors
///
/// Fails like [`Store::open`] and [`Body`]; with [`Limit`](Kind::Limit), before anything is fetched, if `node` declares
/// a larger size.
pub async fn read_manifest(store: &dyn Store, node: &Descriptor) -> Result<Bytes> {
    read_small(store, node, MAX_MANIFEST_BYTES).await
}

/// Reads a whole node of at most `limit` bytes, checked against its descriptor. Fetches it again, a bounded number of
/// times, if it is damaged.
///
/// # Errors
///
/// Fails like [`read_manifest`].
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

/// Puts `node`, whose content is the small `bytes` in memory, and then `tags` that name it.
///
/// # Errors
///
/// Fails like [`Store::put`].
pub async fn put_bytes(
    store: &dyn Store,
    node: &Descriptor,
    bytes: impl Into<Bytes> + Send,
    tags: &[Tag],
) -> Result<Put> {
    store.put(node, &Body::bytes(node.clone(), bytes), tags).await
}

/// Whether `node` is transferred as a manifest: its media type decides. Everything else is a blob.
#[must_use]
pub fn is_manifest(node: &Descriptor) -> bool {
    node.media_type.is_manifest()
}

/// Returns the descriptor that `store` holds under `name`, or None.
///
/// # Errors
///
/// Fails like [`Store::resolve`], but not with [`NotFound`](Kind::NotFound).
pub(crate) async fn find(store: &dyn Store, name: &Name) -> Result<Option<Descriptor>> {
    absent_is_none(store.resolve(name).await)
}

/// Returns the manifest that `store` holds under `name`, or None.
///
/// # Errors
///
/// Fails like [`Store::fetch`], but not with [`NotFound`](Kind::NotFound).
pub(crate) async fn find_manifest(store: &dyn Store, name: &Name) -> Result<Option<Root>> {
    absent_is_none(store.fetch(name).await)
}

/// Turns only "not found" into None; a query that fails stays an error.
pub(crate) fn absent_is_none<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
