//! Bodies with a time limit: one that falls silent or is too slow counts as cut.
//!
//! A peer that sends a byte a minute would hold a connection, a session and a file for as long as it likes. The bounds
//! are far below the speed of a bad link ([`Limits`]), and the received bytes stay: the upload continues in another
//! request.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::limits::Limits;

/// A request's body with time limits.
#[derive(Debug)]
pub(crate) struct PacedBody {
    stream: BodyDataStream,
    silence: Duration,
    window: Duration,
    floor: u64,
    /// When the current window began, and how many bytes it has brought.
    since: Instant,
    came: u64,
}

/// The next step of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyStep {
    Piece(Bytes),
    End,
    /// The connection broke, fell silent or is too slow.
    Cut,
}

impl PacedBody {
    pub(crate) fn new(body: Body, limits: &Limits) -> Self {
        let Limits { silence, window, floor, .. } = *limits;
        Self { stream: body.into_data_stream(), silence, window, floor, since: Instant::now(), came: 0 }
    }

    pub(crate) async fn next(&mut self) -> BodyStep {
        let piece = match timeout(self.silence, self.stream.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => return BodyStep::End,
            Ok(Some(Err(_))) | Err(_) => return BodyStep::Cut,
        };
        self.came += piece.len() as u64;
        if self.since.elapsed() >= self.window {
            if self.came < self.floor {
                return BodyStep::Cut;
            }
            (self.since, self.came) = (Instant::now(), 0);
        }
        BodyStep::Piece(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body of so many pieces with a pause before each, to its end; returns how many pieces arrived.
    async fn read(pieces: usize, size: usize, pause: Duration) -> (usize, BodyStep) {
        let stream = futures_util::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![7; size]))
        });
        let mut body = PacedBody::new(Body::from_stream(stream), &Limits::default());
        let mut came = 0;
        loop {
            match body.next().await {
                BodyStep::Piece(_) => came += 1,
                end => return (came, end),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_is_waited_for_and_silence_and_a_trickle_are_not() {
        let Limits { silence, window, floor, .. } = Limits::default();
        let second = Duration::from_secs(1);
        assert_eq!(read(3_000, 1_000, second).await, (3_000, BodyStep::End), "a kilobyte a second for fifty minutes");
        assert_eq!(read(3, 1_000, silence - second).await, (3, BodyStep::End), "pauses");
        assert_eq!(read(3, 1_000, silence + second).await, (0, BodyStep::Cut), "silence");
        let (came, end) = read(100_000, 1, second).await;
        assert_eq!(end, BodyStep::Cut, "a byte a second");
        assert!(came as u64 <= window.as_secs() && (came as u64) < floor, "{came}");
    }
}
