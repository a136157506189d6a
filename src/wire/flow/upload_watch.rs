//! Watches uploads: a sink that takes nothing for a while has failed, a slow source has not.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::stats::Counters;
use crate::error::{Error, Result};
use crate::stream::ByteStream;

/// Longest time that a peer may take nothing of the data offered. On Linux TCP notices after 30 s that nothing is
/// acknowledged; the socket takes the next bytes only when a third of its buffer is free again, so that time says less
/// here. It allows for a [`SLICE`] on a link of 16 kbit/s that four streams share.
const SILENCE: Duration = Duration::from_secs(120);

/// Most bytes offered at once. The peer would take larger pieces too seldom to show that it is alive.
const SLICE: usize = 32 << 10;

/// The progress of an upload.
#[derive(Debug)]
pub(crate) struct UploadWatch {
    state: Mutex<WatchState>,
    /// Longest time from the last byte sent to the answer.
    answer: Duration,
}

#[derive(Debug)]
struct WatchState {
    /// The side that must act, and since when.
    turn: WatchTurn,
    since: Instant,
    failure: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchTurn {
    /// The source must give the next piece. Its own time limits apply.
    Source,
    /// The sink must take a piece.
    Sink,
    /// The sink has everything and must answer.
    Answer,
}

/// An upload's body that reports its progress to an [`UploadWatch`].
pub(crate) struct WatchedBody {
    stream: ByteStream,
    /// The rest of the piece that the source has given.
    rest: Bytes,
    watch: Arc<UploadWatch>,
    counters: Arc<Counters>,
}

impl UploadWatch {
    pub(crate) fn watch(stream: ByteStream, counters: &Arc<Counters>, answer: Duration) -> (WatchedBody, Arc<Self>) {
        let state = WatchState { turn: WatchTurn::Sink, since: Instant::now(), failure: None };
        let watch = Arc::new(Self { state: Mutex::new(state), answer });
        (WatchedBody { stream, rest: Bytes::new(), watch: Arc::clone(&watch), counters: Arc::clone(counters) }, watch)
    }

    /// Waits until the sink has been silent for too long. Returns for how long.
    pub(crate) async fn silence(&self) -> Duration {
        loop {
            let (limit, since) = {
                let state = self.lock();
                match state.turn {
                    WatchTurn::Source => (SILENCE, Instant::now()),
                    WatchTurn::Sink => (SILENCE, state.since),
                    WatchTurn::Answer => (self.answer, state.since),
                }
            };
            let deadline = since + limit;
            if deadline <= Instant::now() {
                return limit;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Returns the source's error, if that ended the upload.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    fn turn(&self, turn: WatchTurn) {
        let mut state = self.lock();
        state.turn = turn;
        state.since = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        // A panic elsewhere leaves the state consistent: every change is an assignment.
        crate::sync::lock(&self.state)
    }
}

impl futures_util::Stream for WatchedBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut polled = Poll::Ready(Some(Ok(std::mem::take(&mut this.rest))));
        if matches!(&polled, Poll::Ready(Some(Ok(rest))) if rest.is_empty()) {
            polled = Pin::new(&mut this.stream).poll_next(context);
        }
        match &mut polled {
            Poll::Pending => this.watch.turn(WatchTurn::Source),
            Poll::Ready(Some(Ok(piece))) => {
                this.rest = piece.split_off(piece.len().min(SLICE));
                this.counters.sent(piece.len());
                this.watch.turn(WatchTurn::Sink);
            }
            Poll::Ready(Some(Err(error))) => this.watch.lock().failure = Some(error.clone()),
            Poll::Ready(None) => this.watch.turn(WatchTurn::Answer),
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use futures_util::{StreamExt, stream};

    const ANSWER: Duration = Duration::from_secs(300);

    fn watched(stream: ByteStream) -> (WatchedBody, Arc<UploadWatch>) {
        UploadWatch::watch(stream, &Arc::default(), ANSWER)
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_takes_nothing_is_given_up_and_a_slow_source_is_not() {
        let (mut body, watch) =
            watched(Box::pin(stream::iter([Ok(Bytes::from_static(b"a"))]).chain(stream::pending())));
        assert!(body.next().await.is_some());
        assert_eq!(watch.silence().await, SILENCE);

        // The source's turn: no time limit applies here.
        assert!(tokio::time::timeout(Duration::from_secs(1), body.next()).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(3600), watch.silence()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_may_take_longer_than_a_piece() {
        let (mut body, watch) = watched(Box::pin(stream::empty()));
        assert!(body.next().await.is_none());
        assert!(tokio::time::timeout(ANSWER - Duration::from_secs(1), watch.silence()).await.is_err());
        assert_eq!(watch.silence().await, ANSWER);
    }

    #[tokio::test]
    async fn large_pieces_are_offered_in_slices_and_none_is_lost() {
        let piece: Vec<u8> = (0..SLICE * 5 / 2).map(|n| n as u8).collect();
        let pieces = [piece.clone(), b"end".to_vec()].map(|piece| Ok(Bytes::from(piece)));
        let offered: Vec<Bytes> = watched(Box::pin(stream::iter(pieces))).0.map(|piece| piece.unwrap()).collect().await;
        assert_eq!(offered.iter().map(Bytes::len).collect::<Vec<_>>(), [SLICE, SLICE, SLICE / 2, 3]);
        assert_eq!(offered.concat(), [piece, b"end".to_vec()].concat());
    }

    #[tokio::test]
    async fn the_sources_failure_is_kept() {
        let (mut body, watch) = watched(Box::pin(stream::iter([Err(Error::new(Kind::Corrupt, "read"))])));
        assert!(body.next().await.unwrap().is_err());
        assert_eq!(watch.failure().map(|error| error.kind()), Some(Kind::Corrupt));
    }
}
