//! Bodies: content that can be opened, checked in passing, and opened again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::trail::{Trace, Trail};
use super::{ByteStream, Store};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, RepositoryPath};
use crate::wire::{Retry, Tries};

/// Longest silence on a stream before it is opened again.
const STALL: Duration = Duration::from_secs(30);

/// How far a body has been read, for whoever watches.
#[derive(Debug, Default)]
pub struct Meter {
    position: AtomicU64,
    fetched: AtomicU64,
}

impl Meter {
    /// Bytes of the current pass; falls back to zero when the body is opened again.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Bytes read in all passes together.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }
}

/// The content of one node, not yet opened.
///
/// A sink opens it when it needs bytes, and again if its own side failed; a sink that holds the content already, or can
/// mount it, never opens it. Every pass counts, hashes and ends at the declared size; bytes that turn out wrong are an
/// error *before* their last piece is handed out, so that no sink can commit them.
///
/// A break in the middle is mended inside the pass: the origin is opened again where it stopped.
#[derive(Clone)]
pub struct Body {
    node: Descriptor,
    origin: Origin,
    mount_from: Option<RepositoryPath>,
    meter: Arc<Meter>,
    retry: Retry,
}

#[derive(Clone)]
enum Origin {
    Bytes(Bytes),
    Store(Arc<dyn Store>),
}

impl Body {
    /// Content at hand. What does not match `node` fails as soon as it is opened.
    #[must_use]
    pub fn bytes(node: Descriptor, bytes: impl Into<Bytes>) -> Self {
        Self::new(node, Origin::Bytes(bytes.into()))
    }

    /// Content that `store` holds. What needs no fetching ([`Descriptor::inline`]) is not fetched.
    #[must_use]
    pub fn stored(node: Descriptor, store: Arc<dyn Store>) -> Self {
        let origin = match node.inline() {
            Some(bytes) => Origin::Bytes(bytes.into()),
            None => Origin::Store(store),
        };
        Self::new(node, origin)
    }

    fn new(node: Descriptor, origin: Origin) -> Self {
        Self { node, origin, mount_from: None, meter: Arc::default(), retry: Retry::default() }
    }

    /// Says that the sink's registry holds this content in the repository `from` already.
    #[must_use]
    pub fn mountable(mut self, from: RepositoryPath) -> Self {
        self.mount_from = Some(from);
        self
    }

    /// Sets how breaks are mended.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What the content is.
    #[must_use]
    pub fn node(&self) -> &Descriptor {
        &self.node
    }

    /// A repository on the sink's own registry that holds this content.
    #[must_use]
    pub fn mount_from(&self) -> Option<&RepositoryPath> {
        self.mount_from.as_ref()
    }

    /// How far it has been read.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// The whole content where it is at hand, unchecked: for a manifest that a sink has to look into.
    #[must_use]
    pub fn at_hand(&self) -> Option<&Bytes> {
        match &self.origin {
            Origin::Bytes(bytes) => Some(bytes),
            Origin::Store(_) => None,
        }
    }

    /// Starts a pass over the content. Nothing is fetched before the stream is polled.
    ///
    /// The stream fails with [`Corrupt`](Kind::Corrupt) if length or digest are wrong, and with whatever kind the
    /// origin fails with once its tries are used up; the side is always [`Side::Source`].
    #[must_use]
    pub fn open(&self) -> ByteStream {
        self.pass(Trace::new(self.node.digest.algorithm()), 0)
    }

    /// Starts a pass that hands out what lies behind `from`, for a sink that holds the rest of earlier passes along the
    /// same trail: it fails, too, if the source does not give what it gave them. A little before `from` is read again.
    pub(crate) fn open_at(&self, from: u64, trail: &Arc<Trail>) -> ByteStream {
        self.pass(Trace::along(trail, from, self.node.digest.algorithm()), from)
    }

    fn pass(&self, trace: Trace, from: u64) -> ByteStream {
        self.meter.position.store(trace.at(), Ordering::Relaxed);
        let seen = trace.at();
        let pass = Pass { body: self.clone(), stream: None, trace: Some(trace), seen, from, tries: self.retry.start() };
        Box::pin(stream::try_unfold(pass, |mut pass| async move {
            let piece = pass.next().await.map_err(|error| error.at(Side::Source))?;
            Ok(piece.map(|piece| (piece, pass)))
        }))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("node", &self.node.digest).finish_non_exhaustive()
    }
}

struct Pass {
    body: Body,
    stream: Option<ByteStream>,
    trace: Option<Trace>,
    seen: u64,
    /// Nothing before is handed out.
    from: u64,
    tries: Tries,
}

impl Pass {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            // The trace goes when the digest has been found right; only then has the last piece been handed out.
            if self.trace.is_none() {
                return Ok(None);
            }
            match self.read().await {
                Ok(piece) if piece.is_empty() && self.seen < self.body.node.size => {}
                Ok(mut piece) => {
                    let before = self.from.saturating_sub(self.seen);
                    self.check(&piece)?;
                    let piece = piece.split_off(usize::try_from(before).unwrap_or(usize::MAX).min(piece.len()));
                    if !piece.is_empty() || self.trace.is_none() {
                        return Ok(Some(piece));
                    }
                }
                Err(error) if Retry::transient(&error) => {
                    self.stream = None;
                    self.tries.wait(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&mut self) -> Result<Bytes> {
        if self.seen == self.body.node.size {
            return Ok(Bytes::new());
        }
        let stream = match (&mut self.stream, &self.body.origin) {
            (Some(stream), _) => stream,
            (none, Origin::Store(store)) => none.insert(store.open(&self.body.node, self.seen).await?),
            (none, Origin::Bytes(bytes)) => {
                let rest = bytes.slice(usize::try_from(self.seen).unwrap_or(usize::MAX).min(bytes.len())..);
                none.insert(Box::pin(stream::iter([Ok(rest)])))
            }
        };
        match tokio::time::timeout(STALL, stream.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) if matches!(self.body.origin, Origin::Bytes(_)) => Err(self.wrong("ended early")),
            Ok(None) => Err(self.broken(format!("ended after {} of {} bytes", self.seen, self.body.node.size))),
            Err(_) => Err(self.broken(format!("silent for {} s", STALL.as_secs()))),
        }
    }

    fn check(&mut self, piece: &Bytes) -> Result<()> {
        let node = &self.body.node;
        self.seen += piece.len() as u64;
        if self.seen > node.size {
            return Err(self.wrong("longer than its descriptor says"));
        }
        if self.trace.as_mut().is_some_and(|trace| !trace.update(piece)) {
            return Err(self.wrong("other bytes than the last time"));
        }
        self.tries.progress(piece.len() as u64);
        self.body.meter.position.store(self.seen, Ordering::Relaxed);
        self.body.meter.fetched.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if self.seen == node.size
            && let Some(trace) = self.trace.take()
        {
            let found = trace.finish();
            if found != node.digest {
                return Err(self.wrong(&format!("its bytes hash to {found}")));
            }
        }
        Ok(())
    }

    fn wrong(&self, why: &str) -> Error {
        Error::new(Kind::Corrupt, "read").on(self.subject()).because(format!("{}: {why}", Kind::Corrupt))
    }

    fn broken(&self, why: String) -> Error {
        Error::new(Kind::Unavailable, "read").on(self.subject()).because(why)
    }

    fn subject(&self) -> String {
        match &self.body.origin {
            Origin::Store(store) => format!("{}@{}", store.label(), self.body.node.digest),
            Origin::Bytes(_) => self.body.node.digest.to_string(),
        }
    }
}

/// Reads all of `node` into memory, checked, and again if it came damaged.
pub(super) async fn read_all(store: &dyn Store, node: &Descriptor) -> Result<Bytes> {
    Retry::default()
        .run(Retry::refetchable, || async {
            let mut stream = store.open(node, 0).await?;
            let mut bytes = BytesMut::with_capacity(usize::try_from(node.size).unwrap_or_default());
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece?);
                if bytes.len() as u64 > node.size {
                    break;
                }
            }
            if bytes.len() as u64 == node.size && node.digest.matches(&bytes) {
                return Ok(bytes.freeze());
            }
            let subject = format!("{}@{}", store.label(), node.digest);
            Err(Error::new(Kind::Corrupt, "read").on(subject))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
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
