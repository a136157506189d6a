//! Bodies: content that can be opened, checked while it is read, and opened again.

pub(super) mod checkpoints;
pub(super) mod pass;
#[cfg(test)]
mod spool_tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use super::body::checkpoints::{Checkpoints, Trace};
use super::body::pass::Pass;
use super::{ByteStream, Store};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, RepositoryPath};
use crate::retry::Retry;
use crate::spool::{Spool, SpoolEntry};

/// How far a body has been read, for progress displays.
#[derive(Debug, Default)]
pub struct Meter {
    position: AtomicU64,
    fetched: AtomicU64,
    spooled: AtomicU64,
}

impl Meter {
    /// Returns the bytes of the current pass; starts again at zero when the body is opened again.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Returns the bytes read in all passes together.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Returns how many of them came from the spool; without it the source would have had to send them again.
    #[must_use]
    pub fn spooled(&self) -> u64 {
        self.spooled.load(Ordering::Relaxed)
    }

    /// Records that a new pass starts at `position`.
    pub(super) fn begin(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// Records that the pass has reached `position` with these bytes.
    pub(super) fn count(&self, position: u64, bytes: usize) {
        self.position.store(position, Ordering::Relaxed);
        self.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records that these bytes came from the spool.
    pub(super) fn count_spooled(&self, bytes: u64) {
        self.spooled.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The content of one node, not yet opened.
///
/// A sink opens it when it needs bytes, and again if the sink's own side failed. A sink that already holds the content,
/// or can mount it, never opens it. Every pass counts, hashes and ends at the declared size; wrong bytes are an error
/// *before* their last piece is handed out, so that no sink can commit them.
///
/// The pass itself repairs a break in the middle: it opens the origin again where it stopped. With a spool, a pass
/// starts with the spooled bytes, fetches the missing ones, and leaves them in the spool for the next pass.
#[derive(Clone)]
pub struct Body {
    node: Descriptor,
    origin: Origin,
    mount_from: Option<RepositoryPath>,
    meter: Arc<Meter>,
    retry: Retry,
    spool: Option<Spooled>,
    is_early: bool,
    is_replacing: bool,
}

/// A spool, and this content's file in it, which all passes share; none if the content must do without.
#[derive(Clone)]
struct Spooled {
    spool: Spool,
    entry: Arc<OnceCell<Option<Arc<SpoolEntry>>>>,
}

#[derive(Clone)]
pub(super) enum Origin {
    Bytes(Bytes),
    Store(Arc<dyn Store>),
}

impl Body {
    /// Returns a body of content in memory. Content that does not match `node` fails as soon as it is opened.
    #[must_use]
    pub fn bytes(node: Descriptor, bytes: impl Into<Bytes>) -> Self {
        Self::new(node, Origin::Bytes(bytes.into()))
    }

    /// Returns a body of content that `store` holds. Inline content ([`Descriptor::inline`]) is not fetched.
    #[must_use]
    pub fn stored(node: Descriptor, store: Arc<dyn Store>) -> Self {
        let origin = match node.inline() {
            Some(bytes) => Origin::Bytes(bytes.into()),
            None => Origin::Store(store),
        };
        Self::new(node, origin)
    }

    fn new(node: Descriptor, origin: Origin) -> Self {
        Self {
            node,
            origin,
            mount_from: None,
            meter: Arc::default(),
            retry: Retry::default(),
            spool: None,
            is_early: false,
            is_replacing: false,
        }
    }

    /// Keeps fetched bytes in `spool` until the content has [`landed`](Self::landed). Manifests, content in memory and
    /// content smaller than [`Spool::SMALLEST`] are not spooled.
    #[must_use]
    pub fn spooled(mut self, spool: &Spool) -> Self {
        let is_fetched = matches!(self.origin, Origin::Store(_)) && !self.node.is_manifest();
        if is_fetched && self.node.size >= Spool::SMALLEST {
            self.spool = Some(Spooled { spool: spool.clone(), entry: Arc::default() });
        }
        self
    }

    /// Records that the sink's registry already holds this content in the repository `from`.
    #[must_use]
    pub fn mountable(mut self, from: RepositoryPath) -> Self {
        self.mount_from = Some(from);
        self
    }

    /// Lets a sink open the body before it knows whether it needs it: for small content, and a sink that is far away
    /// and has received no such content so far.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.is_early = true;
        self
    }

    /// Records that the sink's copy is damaged: the content is sent even if the sink says that it has it.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.is_replacing = true;
        self
    }

    /// Whether the content replaces a damaged copy.
    #[must_use]
    pub fn is_replacing(&self) -> bool {
        self.is_replacing
    }

    /// Whether opening the body too early is better than too late.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Sets the retry policy for breaks.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Returns the descriptor of the content.
    #[must_use]
    pub fn node(&self) -> &Descriptor {
        &self.node
    }

    /// Returns a repository on the sink's own registry that holds this content.
    #[must_use]
    pub fn mount_from(&self) -> Option<&RepositoryPath> {
        self.mount_from.as_ref()
    }

    /// Returns the meter that shows how far the body has been read.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Returns the whole content if it is in memory, unchecked: for a sink that must look into a manifest.
    #[must_use]
    pub fn at_hand(&self) -> Option<&Bytes> {
        match &self.origin {
            Origin::Bytes(bytes) => Some(bytes),
            Origin::Store(_) => None,
        }
    }

    /// Starts a pass over the content. Fetches nothing before the stream is polled.
    ///
    /// The stream fails with [`Corrupt`](Kind::Corrupt) if length or digest are wrong, and with the origin's kind of
    /// error once its tries are used up; the side is then [`Side::Source`](crate::Side::Source). It fails with
    /// [`Local`](Kind::Local), and no side, if the spool cannot be written to.
    #[must_use]
    pub fn open(&self) -> ByteStream {
        self.pass(Trace::new(self.node.digest.algorithm()), 0)
    }

    /// Starts a pass that hands out the bytes after `from`, for a sink that holds the rest from earlier passes with the
    /// same checkpoints. The pass also fails if the source does not send the same bytes as before. It reads a little
    /// before `from` again.
    pub(crate) fn open_at(&self, from: u64, trail: &Arc<Checkpoints>) -> ByteStream {
        self.pass(Trace::along(trail, from, self.node.digest.algorithm()), from)
    }

    fn pass(&self, trace: Trace, from: u64) -> ByteStream {
        self.meter.begin(trace.at());
        Pass::new(self.clone(), trace, from, self.retry.start()).stream()
    }

    /// Records that the destination holds the content: its file in the spool is removed.
    pub async fn landed(&self) {
        let Some(Spooled { spool, entry }) = &self.spool else { return };
        match entry.get() {
            Some(Some(entry)) => entry.landed().await,
            // The file belongs to another process.
            Some(None) => {}
            None => spool.forget(&self.node.digest).await,
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn is_spooled(&self) -> bool {
        self.spool.is_some()
    }

    /// Returns this content's file in the spool, if it has one.
    pub(super) async fn entry(&self) -> Result<Option<Arc<SpoolEntry>>> {
        let Some(Spooled { spool, entry }) = &self.spool else { return Ok(None) };
        entry.get_or_try_init(|| async { Ok(spool.claim(&self.node).await?.map(Arc::new)) }).await.cloned()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("node", &self.node.digest).finish_non_exhaustive()
    }
}

/// Reads all of `node` into memory, checks it, and fetches it again if it was damaged.
pub(super) async fn read_all(store: &dyn Store, node: &Descriptor) -> Result<Bytes> {
    Retry::default()
        .run(Retry::refetchable, || async {
            let mut stream = store.open(node, 0).await?;
            let first = stream.next().await.transpose()?.unwrap_or_default();
            // Content in one piece is already in memory elsewhere: use that piece and make no copy.
            let is_whole = first.len() as u64 == node.size;
            let mut rest = BytesMut::new();
            while rest.len() as u64 <= node.size
                && let Some(piece) = stream.next().await
            {
                if rest.is_empty() {
                    rest.reserve(usize::try_from(node.size).unwrap_or_default());
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&piece?);
            }
            let all = if is_whole && rest.is_empty() { first } else { rest.freeze() };
            if all.len() as u64 == node.size && node.digest.matches(&all) {
                return Ok(all);
            }
            let subject = format!("{}@{}", store.label(), node.digest);
            Err(Error::new(Kind::Corrupt, "read").on(subject))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Side;
    use crate::oci::MediaType;
    use futures_util::TryStreamExt;

    async fn drain(body: &Body) -> Result<Vec<u8>> {
        body.open()
            .try_fold(Vec::new(), |mut all, piece| async move {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn right_bytes_pass_and_are_counted() {
        let node = Descriptor::of(MediaType::OCI_LAYER, b"layer");
        let body = Body::bytes(node, &b"layer"[..]);
        assert_eq!(drain(&body).await.unwrap(), b"layer");
        assert_eq!(drain(&body).await.unwrap(), b"layer", "a body can be opened again");
        assert_eq!((body.meter().position(), body.meter().fetched()), (5, 10));
    }

    #[tokio::test]
    async fn wrong_bytes_never_reach_the_sink_whole() {
        let node = Descriptor::of(MediaType::OCI_LAYER, b"layer");
        for bytes in [&b"laye!"[..], b"laye", b"layers", b""] {
            let mut stream = Body::bytes(node.clone(), bytes).open();
            let mut handed_out = 0;
            let error = loop {
                match stream.next().await.unwrap() {
                    Ok(piece) => handed_out += piece.len(),
                    Err(error) => break error,
                }
            };
            assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(Side::Source)));
            assert!(handed_out < 5, "{handed_out} of 5 bytes were handed out");
        }
    }

    #[tokio::test]
    async fn a_pass_from_the_middle_hands_out_the_rest_and_nothing_twice() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
        let node = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let body = Body::bytes(node, bytes.clone());
        let trail = Arc::default();
        for from in [0, 1_500_000, 2_999_999, 7] {
            let rest: Vec<Bytes> = body.open_at(from, &trail).try_collect().await.unwrap();
            assert!(rest.concat() == bytes[usize::try_from(from).unwrap()..], "from {from}");
        }
    }

    #[tokio::test]
    async fn nothing_is_a_body_too() {
        let node = Descriptor::of(MediaType::OCI_LAYER, b"");
        assert_eq!(drain(&Body::bytes(node, &b""[..])).await.unwrap(), b"");
        let lie = Descriptor::new(MediaType::OCI_LAYER, crate::oci::Digest::sha256(b"x"), 0);
        assert_eq!(drain(&Body::bytes(lie, &b""[..])).await.unwrap_err().kind(), Kind::Corrupt);
    }
}
