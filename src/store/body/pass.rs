//! One pass over a body: from its first byte to its last, hashed while it is read, through the spool if there is one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::checkpoints::Trace;
use super::{Body, Origin};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::Descriptor;
use crate::retry::{Retry, Tries};
use crate::spool::Next;
use crate::store::{ByteStream, Store};

/// Longest silence on a stream before it is opened again. A registry's own limit is 30 s, and its error names the host:
/// this one is for stores without a limit.
const STALL: Duration = Duration::from_secs(45);

/// A pass over a body, and how far it has come.
pub(crate) struct Pass {
    body: Body,
    /// The stream from the origin, if it does not go through the spool.
    stream: Option<ByteStream>,
    trace: Option<Trace>,
    seen: u64,
    /// Bytes before this offset are not handed out.
    from: u64,
    /// Bytes that the spool held when this pass started.
    kept: Option<u64>,
    /// Bytes that the spool held when the origin last failed.
    reached: u64,
    tries: Tries,
}

impl Pass {
    /// Continues where `trace` is, and hands out the bytes after `from`.
    pub(crate) fn new(body: Body, trace: Trace, from: u64, tries: Tries) -> Self {
        let seen = trace.at();
        Self { body, stream: None, trace: Some(trace), seen, from, kept: None, reached: 0, tries }
    }

    pub(crate) fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, |mut pass| async move {
            let piece = pass.next().await?;
            Ok(piece.map(|piece| (piece, pass)))
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            // The trace is dropped once the digest has been checked; only then has the last piece been handed out.
            if self.trace.is_none() {
                return Ok(None);
            }
            match self.read().await {
                Ok(piece) if piece.is_empty() && self.seen < self.body.node().size => {}
                Ok(piece) => {
                    let before = self.from.saturating_sub(self.seen);
                    let mut piece = self.take(piece).await?;
                    let piece = piece.split_off(usize::try_from(before).unwrap_or(usize::MAX).min(piece.len()));
                    if !piece.is_empty() || self.trace.is_none() {
                        return Ok(Some(piece));
                    }
                }
                Err(error) if Retry::transient(&error) => {
                    self.stream = None;
                    self.look_for_progress().await?;
                    self.tries.wait(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the next piece; an empty one before the end only means that the caller must call again.
    async fn read(&mut self) -> Result<Bytes> {
        if self.seen == self.body.node().size {
            return Ok(Bytes::new());
        }
        if self.stream.is_none()
            && let Some(entry) = self.body.entry().await?
        {
            if self.kept.is_none() {
                self.reached = entry.length().await;
                self.kept = Some(self.reached);
            }
            let source = Source::of(&self.body);
            entry.fill(|at| source.stream(at)).await;
            match entry.next(self.seen).await? {
                Next::Piece(piece) => return Ok(piece),
                Next::Unfilled => return Ok(Bytes::new()),
                Next::Nothing => {}
            }
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Source::of(&self.body).stream(self.seen).await?),
        };
        let piece = stream.next().await.unwrap_or_else(|| Err(wrong(&self.body, "ended early")))?;
        self.tries.progress(piece.len() as u64);
        Ok(piece)
    }

    /// Starts the count of tries again if the spool has grown since the last failure, however far behind this pass is.
    async fn look_for_progress(&mut self) -> Result<()> {
        if let Some(entry) = self.body.entry().await? {
            let length = entry.length().await;
            self.tries.progress(length.saturating_sub(self.reached));
            self.reached = length;
        }
        Ok(())
    }

    /// Checks a piece; with the last piece, checks the whole content.
    async fn take(&mut self, piece: Bytes) -> Result<Bytes> {
        let kept = self.kept.unwrap_or_default().saturating_sub(self.seen).min(piece.len() as u64);
        self.body.meter().count_spooled(kept);
        let checked = self.check(&piece);
        if checked.is_err()
            && let Some(entry) = self.body.entry().await?
        {
            // We cannot tell which bytes are wrong, so drop them all.
            entry.cut(0).await;
        }
        checked.map(|()| piece)
    }

    fn check(&mut self, piece: &Bytes) -> Result<()> {
        let node = self.body.node();
        self.seen += piece.len() as u64;
        if self.seen > node.size {
            return Err(wrong(&self.body, "longer than its descriptor says"));
        }
        if self.trace.as_mut().is_some_and(|trace| !trace.update(piece)) {
            return Err(wrong(&self.body, "other bytes than the last time"));
        }
        self.body.meter().count(self.seen, piece.len());
        if self.seen == node.size
            && let Some(trace) = self.trace.take()
        {
            let found = trace.finish();
            if found != node.digest {
                return Err(wrong(&self.body, &format!("its bytes hash to {found}")));
            }
        }
        Ok(())
    }
}

/// The parts of a body that a stream from the origin needs.
///
/// It does not own the body's file in the spool: the task that fills the file holds one, and that task must end when
/// the file has no owner any more.
#[derive(Clone)]
struct Source {
    node: Descriptor,
    origin: Origin,
    is_spooled: bool,
}

impl Source {
    fn of(body: &Body) -> Self {
        Self { node: body.node().clone(), origin: body.origin().clone(), is_spooled: body.is_spooled() }
    }

    /// Streams the origin's bytes from `at` on; fails if the stream ends early or stalls.
    async fn stream(self, at: u64) -> Result<ByteStream> {
        let store = match &self.origin {
            Origin::Bytes(bytes) => {
                let rest = bytes.slice(usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len())..);
                return Ok(Box::pin(stream::iter([Ok(rest)])));
            }
            Origin::Store(store) => Arc::clone(store),
        };
        let stream = self.open(store.as_ref(), at).await.map_err(|error| error.at(Side::Source))?;
        Ok(Box::pin(stream::try_unfold((self, stream, at), |(source, mut stream, at)| async move {
            let size = source.node.size;
            let piece = match tokio::time::timeout(STALL, stream.next()).await {
                Ok(Some(piece)) => piece.map_err(|error| error.at(Side::Source))?,
                Ok(None) if at < size => return Err(source.broken(format!("ended after {at} of {size} bytes"))),
                Ok(None) => return Ok(None),
                Err(_) => return Err(source.broken(format!("silent for {} s", STALL.as_secs()))),
            };
            let at = at + piece.len() as u64;
            Ok(Some((piece, (source, stream, at))))
        })))
    }

    async fn open(&self, store: &dyn Store, at: u64) -> Result<ByteStream> {
        match store.open(&self.node, at).await {
            // Some sources, and proxies in front of them, handle ranges wrongly. A run without a spool would not start
            // with a range request, so a run with a spool must not fail on one for ever.
            Err(error) if at > 0 && self.is_spooled && is_about_the_place(&error) => {
                let whole = store.open(&self.node, 0).await.map_err(|_| error)?;
                Ok(without(whole, at))
            }
            opened => opened,
        }
    }

    fn broken(&self, why: String) -> Error {
        let subject = subject(&self.origin, &self.node);
        Error::new(Kind::Unavailable, "read").on(subject).because(why).at(Side::Source)
    }
}

/// Skips the first `count` bytes.
fn without(stream: ByteStream, count: u64) -> ByteStream {
    Box::pin(stream.scan(count, |left, piece| {
        std::future::ready(Some(piece.map(|mut piece| {
            let known = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
            *left -= known as u64;
            piece.split_off(known)
        })))
    }))
}

/// Whether an origin may have refused because the request starts in the middle.
fn is_about_the_place(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::Invalid | Kind::Unsupported)
}

fn wrong(body: &Body, why: &str) -> Error {
    let why = format!("{}: {why}", Kind::Corrupt);
    Error::new(Kind::Corrupt, "read").on(subject(body.origin(), body.node())).because(why).at(Side::Source)
}

fn subject(origin: &Origin, node: &Descriptor) -> String {
    match origin {
        Origin::Store(store) => format!("{}@{}", store.label(), node.digest),
        Origin::Bytes(_) => node.digest.to_string(),
    }
}
