//! A repository on a registry, over HTTP (OCI distribution-spec).
//!
//! Sends the fewest requests that the specification allows: a manifest is one GET or one PUT; a blob is one GET, or one
//! POST that asks for a mount and opens the upload session at the same time, and one PUT.

mod blob;
mod catalog;
mod delete;
mod fallback_index;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod listing;
mod manifest;
mod refused_tags;
mod session;
mod some_tags;
mod upload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use tokio::time::Instant;

use super::{Body, ByteStream, Listing, Put, Root, Store};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Name, Repository, Tag};
use crate::retry::Retry;
use crate::wire::{Client, Host, Request, Scopes, Stats};

pub use catalog::RegistryCatalog;
pub use delete::Untagged;

/// Pause before a second try if a registry says that it does not hold a blob.
const SECOND_THOUGHT: Duration = Duration::from_millis(50);

/// The use of a repository: decides which rights are requested if the registry wants a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reading.
    Source,
    /// Reading and writing.
    Sink,
}

/// One repository on a registry. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    host: Host,
    label: Arc<str>,
    path: Arc<str>,
    role: Role,
    refusal: refused_tags::Refusal,
    unshown: Arc<refused_tags::RefusedTags>,
    notes: Arc<Notes>,
    /// When this repository last got an entry of a fallback index, or of a list that is kept in the same way.
    last_entry: Arc<Mutex<Option<Instant>>>,
}

/// Facts learned about a registry, shared by all its repositories during a run.
#[derive(Debug, Default)]
struct Notes {
    /// It does not understand a POST that asks for a mount.
    refuses_mounts: AtomicBool,
    /// It does not let a client continue an upload after its connection broke.
    forgets_uploads: AtomicBool,
    /// It has no Referrers API.
    lacks_referrers: AtomicBool,
    /// It has a Referrers API: it has answered through it.
    has_referrers: AtomicBool,
    /// Held by the first caller that finds that out: concurrent callers would only get the same answer.
    first_referrers: tokio::sync::Mutex<()>,
    /// Whether that has been found out.
    is_past_first_referrers: AtomicBool,
    /// The fallback indexes that this run writes.
    ledgers: fallback_index::FallbackIndexes,
}

impl Registry {
    /// Returns the repository `repository`, reached through `client`. Sends no request.
    #[must_use]
    pub fn new(client: &Client, repository: &Repository, role: Role) -> Self {
        let path = repository.path.as_str();
        Self::at(client.host(repository.api_host(), path), &repository.to_string(), path, role)
    }

    fn at(host: Host, label: &str, path: &str, role: Role) -> Self {
        let notes = host.notes();
        Self {
            host,
            label: label.into(),
            path: path.into(),
            role,
            refusal: refused_tags::Refusal::default(),
            unshown: Arc::default(),
            notes,
            last_entry: Arc::default(),
        }
    }

    /// Returns the traffic of this repository, including token requests.
    #[must_use]
    pub fn tally(&self) -> Stats {
        self.host.tally()
    }

    /// Whether the registry was found to speak plain HTTP; false before the first request.
    #[must_use]
    pub fn speaks_plain_http(&self) -> bool {
        self.host.speaks_plain_http()
    }

    /// Whether credentials may be sent to the registry over the protocol that it was found to speak.
    #[must_use]
    pub fn may_log_in(&self) -> bool {
        self.host.may_log_in()
    }

    /// Whether the registry was found to have no Referrers API; false before the first request for referrers.
    #[must_use]
    pub fn lacks_referrers_api(&self) -> bool {
        self.notes(|notes| &notes.lacks_referrers)
    }

    /// Returns a request below the repository's root, such as `manifests/v1`.
    fn request(&self, method: Method, below: &str, op: &'static str, what: impl std::fmt::Display) -> Request {
        let path = format!("/v2/{}/{below}", self.path);
        Request::new(method, path, op, format!("{}{what}", self.label)).needing(self.scopes())
    }

    /// Returns the token scopes. Computed on demand: thousands of repositories wait in a catalog.
    fn scopes(&self) -> Scopes {
        match self.role {
            Role::Source => Scopes::pull(&self.path),
            Role::Sink => Scopes::push(&self.path),
        }
    }

    fn notes(&self, which: fn(&Notes) -> &AtomicBool) -> bool {
        which(&self.notes).load(Ordering::Relaxed)
    }

    fn note(&self, which: fn(&Notes) -> &AtomicBool) {
        which(&self.notes).store(true, Ordering::Relaxed);
    }

    fn error(&self, kind: Kind, op: &str, what: impl std::fmt::Display) -> Error {
        Error::new(kind, op).on(format!("{}{what}", self.label))
    }
}

/// Returns `:tag` or `@digest`, the part after the repository in a reference.
fn suffix(name: &Name) -> String {
    match name {
        Name::Tag(tag) => format!(":{tag}"),
        Name::Digest(digest) => format!("@{digest}"),
    }
}

/// Whether this registry's side of a write failed in a way that may pass. The engine handles errors of the source.
fn own_failure_may_pass(error: &Error) -> bool {
    error.side() != Some(Side::Source) && Retry::refetchable(error)
}

fn misses_a_blob(error: &Error) -> bool {
    error.side() != Some(Side::Source) && error.kind() == Kind::Incomplete
}

#[async_trait]
impl Store for Registry {
    fn label(&self) -> &str {
        &self.label
    }

    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.shown(name, self.host.retrying(Retry::refetchable, || self.resolve_once(name)).await)
    }

    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.shown(name, self.host.retrying(Retry::refetchable, || self.fetch_once(name)).await)
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.host.retrying(Retry::refetchable, || self.contains_once(node)).await
    }

    /// Makes one attempt: the reader of the stream retries, and counts errors of opening and reading together.
    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        self.open_once(node, from).await
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        if node.is_manifest() {
            return match self.put_manifest(node, body, tags).await {
                // distribution 2.8 reports a blob as missing, although it holds it, while another client puts the same
                // one.
                Err(error) if misses_a_blob(&error) && !node.media_type.is_index() => {
                    tokio::time::sleep(SECOND_THOUGHT).await;
                    self.put_manifest(node, body, tags).await
                }
                done => done,
            };
        }
        if !tags.is_empty() {
            return Err(self.error(Kind::Usage, "tag a blob", suffix(&Name::Digest(node.digest))));
        }
        self.put_blob(node, body).await
    }

    fn expect(&self, count: usize) {
        self.host.expect(count);
    }
}

#[async_trait]
impl Listing for Registry {
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.listed_tags(listing::ALL_NAMES).await
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.listed_tags(listing::FEW_NAMES).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        self.all_referrers(subject).await
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        self.known_by_the_api(subject).await
    }
}
