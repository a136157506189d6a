//! One pass over a body: from its first byte to its last, hashed on the way, out of the spool as far as that goes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::ByteStream;
use super::body::{Body, Origin};
use super::trail::Trace;
use crate::error::{Error, Kind, Result, Side};
use crate::wire::{Retry, Tries};

/// Longest silence on a stream before it is opened again.
const STALL: Duration = Duration::from_secs(30);

/// The way through a body, and how far it has come.
pub(super) struct Pass {
    body: Body,
    leg: Option<Leg>,
    trace: Option<Trace>,
    seen: u64,
    /// Nothing before is handed out.
    from: u64,
    /// Whether the pass began in the middle, or with what the spool has.
    is_resumed: bool,
    tries: Tries,
}

/// Where the bytes come from at the moment.
enum Leg {
    Spool(ByteStream),
    Origin {
        stream: ByteStream,
        /// Bytes that it gives again, and that are left out.
        skip: u64,
    },
}

impl Pass {
    /// Goes on where `trace` is, and hands out what lies behind `from`.
    pub(super) fn new(body: Body, trace: Trace, from: u64, tries: Tries) -> Self {
        let seen = trace.at();
        Self { body, leg: None, trace: Some(trace), seen, from, is_resumed: seen > 0, tries }
    }

    pub(super) fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, |mut pass| async move {
            let piece = pass.next().await?;
            Ok(piece.map(|piece| (piece, pass)))
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            // The trace goes when the digest has been found right; only then has the last piece been handed out.
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
                    self.leg = None;
                    self.tries.wait(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next piece; an empty one before the end says only that it goes on.
    async fn read(&mut self) -> Result<Bytes> {
        if self.seen == self.body.node().size {
            return Ok(Bytes::new());
        }
        if self.leg.is_none() {
            self.leg = Some(self.open().await?);
        }
        match &mut self.leg {
            Some(Leg::Spool(stream)) => match stream.next().await {
                Some(Ok(piece)) => Ok(piece),
                None => {
                    self.leg = None;
                    Ok(Bytes::new())
                }
                Some(Err(why)) => {
                    // What cannot be read is fetched.
                    tracing::warn!("{}", why.chain());
                    self.distrust(self.seen).await;
                    Ok(Bytes::new())
                }
            },
            Some(Leg::Origin { stream, skip }) => match tokio::time::timeout(STALL, stream.next()).await {
                Ok(Some(Ok(mut piece))) => {
                    let known = usize::try_from(*skip).unwrap_or(usize::MAX).min(piece.len());
                    *skip -= known as u64;
                    Ok(piece.split_off(known))
                }
                Ok(Some(Err(error))) => Err(error.at(Side::Source)),
                Ok(None) => Err(self.ended()),
                Err(_) => Err(self.broken(format!("silent for {} s", STALL.as_secs()))),
            },
            None => Ok(Bytes::new()),
        }
    }

    async fn open(&mut self) -> Result<Leg> {
        if let Some(entry) = self.body.entry().await?
            && let Some(stream) = entry.read(self.seen).await?
        {
            self.is_resumed = true;
            return Ok(Leg::Spool(stream));
        }
        let origin = |stream, skip| Leg::Origin { stream, skip };
        match self.body.origin() {
            Origin::Bytes(bytes) => Ok(origin(Box::pin(stream::iter([Ok(bytes.clone())])), self.seen)),
            Origin::Store(store) => match store.open(self.body.node(), self.seen).await {
                Ok(stream) => Ok(origin(stream, 0)),
                // There are sources, and things that stand before them, that do not do ranges right. A run without a spool
                // would not begin with one, so no run with it may fail of that for ever.
                Err(error) if self.is_resumed && is_about_the_place(&error) => {
                    let whole = store.open(self.body.node(), 0).await;
                    whole.map(|stream| origin(stream, self.seen)).map_err(|_| error.at(Side::Source))
                }
                Err(error) => Err(error.at(Side::Source)),
            },
        }
    }

    /// Checks a piece, and keeps it in the spool before anybody gets it.
    async fn take(&mut self, piece: Bytes) -> Result<Bytes> {
        let at = self.seen;
        if let Err(error) = self.check(&piece) {
            // Which of the bytes are wrong, nobody knows.
            self.distrust(0).await;
            return Err(error);
        }
        match self.leg {
            Some(Leg::Spool(_)) => self.body.meter().count_spooled(piece.len()),
            _ => {
                if let Some(entry) = self.body.entry().await? {
                    entry.append(at, &piece).await?;
                    if self.seen == self.body.node().size {
                        entry.complete().await?;
                    }
                }
            }
        }
        Ok(piece)
    }

    fn check(&mut self, piece: &Bytes) -> Result<()> {
        let node = self.body.node();
        self.seen += piece.len() as u64;
        if self.seen > node.size {
            return Err(self.wrong("longer than its descriptor says"));
        }
        if self.trace.as_mut().is_some_and(|trace| !trace.update(piece)) {
            return Err(self.wrong("other bytes than the last time"));
        }
        self.tries.progress(piece.len() as u64);
        self.body.meter().count(self.seen, piece.len());
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

    /// Goes without what the spool has from byte `at` on.
    async fn distrust(&mut self, at: u64) {
        self.leg = None;
        if let Ok(Some(entry)) = self.body.entry().await {
            entry.cut(at).await;
        }
    }

    fn ended(&self) -> Error {
        match self.body.origin() {
            Origin::Bytes(_) => self.wrong("ended early"),
            Origin::Store(_) => self.broken(format!("ended after {} of {} bytes", self.seen, self.body.node().size)),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        let why = format!("{}: {why}", Kind::Corrupt);
        Error::new(Kind::Corrupt, "read").on(self.subject()).because(why).at(Side::Source)
    }

    fn broken(&self, why: String) -> Error {
        Error::new(Kind::Unavailable, "read").on(self.subject()).because(why).at(Side::Source)
    }

    fn subject(&self) -> String {
        let digest = self.body.node().digest;
        match self.body.origin() {
            Origin::Store(store) => format!("{}@{digest}", store.label()),
            Origin::Bytes(_) => digest.to_string(),
        }
    }
}

/// Whether an origin may have refused because it was asked to begin in the middle.
fn is_about_the_place(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::Invalid | Kind::Unsupported)
}
