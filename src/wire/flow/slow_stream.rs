//! Decides whether a slow body is stuck, or the link is slow.
//!
//! A stream that is slow although its host can do better is worth reopening: another connection may take another path,
//! or reach another server. On a link where every stream is slow that would only cost more. The host's known speed
//! decides: a stream is given up if in half a minute of waiting it brought less than a thirty-second of what one stream
//! of this host has brought before. Its rate then becomes the host's known speed. So a slow link costs one more
//! connection per run, and so does a link that becomes slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Time spent waiting for bytes over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(30);

/// How much slower than the known speed a stream may become: more than the number of streams that share a link in a
/// run.
const SHARE: u64 = 32;

/// A stream this fast is not stuck, however fast others are. Bytes per second.
const ENOUGH: u64 = 16 << 10;

/// Expected speed of an unknown host, so that a stream of 2 KiB/s, the most that 16 kbit/s can carry, is not stuck.
/// Bytes per second.
const EXPECTED: u64 = 64 << 10;

/// Lowest accepted speed of a body, in bytes per second, after [`GRACE`] of waiting. No link that carries images is as
/// slow; a peer that sends a byte now and then to avoid silence is.
const SLOWEST: u64 = 64;

/// Time for a body to become faster than [`SLOWEST`].
pub(crate) const GRACE: Duration = Duration::from_secs(120);

/// The known speed of one stream of a host.
#[derive(Debug)]
pub(crate) struct Speed {
    bytes_per_second: AtomicU64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { bytes_per_second: AtomicU64::new(EXPECTED) }
    }
}

impl Speed {
    fn lowest(&self) -> u64 {
        (self.bytes_per_second.load(Ordering::Relaxed) / SHARE).min(ENOUGH)
    }
}

/// Why a stream is given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Other streams were faster: a reopened one may be as well.
    Stuck(String),
    /// It would never end.
    Hopeless(String),
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Flow {
    speed: Arc<Speed>,
    /// Since the window began: when that was, the time spent waiting, and the bytes received.
    begun: Instant,
    waited: Duration,
    received: u64,
    /// The same for the whole stream.
    waited_in_all: Duration,
    received_in_all: u64,
}

impl Flow {
    pub(crate) fn new(speed: &Arc<Speed>) -> Self {
        let (begun, zero) = (Instant::now(), Duration::ZERO);
        Self { speed: Arc::clone(speed), begun, waited: zero, received: 0, waited_in_all: zero, received_in_all: 0 }
    }

    /// Records `bytes` that took this long to arrive. Only waiting counts: a slow reader does not make a stream slow.
    pub(crate) fn came(&mut self, bytes: usize, took: Duration) -> Result<(), Slow> {
        self.waited += took;
        self.waited_in_all += took;
        self.received += bytes as u64;
        self.received_in_all += bytes as u64;
        let told = |bytes: u64, time: Duration| format!("{bytes} bytes in {} s", time.as_secs());
        if self.waited_in_all > GRACE && self.received_in_all < SLOWEST * self.waited_in_all.as_secs() {
            return Err(Slow::Hopeless(told(self.received_in_all, self.waited_in_all)));
        }
        if self.waited < WINDOW {
            return Ok(());
        }
        let rate = rate(self.received, self.waited);
        if rate < self.speed.lowest() {
            self.speed.bytes_per_second.store(rate, Ordering::Relaxed);
            return Err(Slow::Stuck(told(self.received, self.waited)));
        }
        self.note();
        (self.begun, self.waited, self.received) = (Instant::now(), Duration::ZERO, 0);
        Ok(())
    }

    /// Records the window's rate as a speed that the host can reach. Uses the clock: bytes that arrived while the
    /// reader was away were not faster than that.
    fn note(&self) {
        let rate = rate(self.received, self.begun.elapsed());
        self.speed.bytes_per_second.fetch_max(rate, Ordering::Relaxed);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.note();
    }
}

/// Returns bytes per second; a time below one second counts as one second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1000);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Reads a stream of `rate` bytes per second for so many seconds.
    async fn read(speed: &Arc<Speed>, rate: usize, seconds: u32) -> Result<(), Slow> {
        let mut flow = Flow::new(speed);
        for _ in 0..seconds {
            tokio::time::sleep(SECOND).await;
            flow.came(rate, SECOND)?;
        }
        Ok(())
    }

    fn is_stuck(read: Result<(), Slow>) -> bool {
        matches!(read, Err(Slow::Stuck(_)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_much_slower_than_its_host_is_stuck() {
        let speed = Arc::default();
        read(&speed, 1 << 20, 5).await.unwrap();
        assert!(is_stuck(read(&speed, ENOUGH as usize - 1, 31).await));
        // Just as slow again: now it is the link.
        read(&speed, ENOUGH as usize - 1, 600).await.unwrap();
        read(&speed, 1 << 20, 5).await.unwrap();
        assert!(is_stuck(read(&speed, 1000, 31).await), "the host has shown again what it can do");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_stream_that_turns_slow_is_given_up_within_two_windows() {
        let (speed, mut flow) = (Arc::default(), None);
        let flow = flow.get_or_insert_with(|| Flow::new(&speed));
        for _ in 0..20 {
            tokio::time::sleep(SECOND).await;
            flow.came(1 << 20, SECOND).unwrap();
        }
        let slow = (0..70).find(|_| flow.came(10, SECOND).is_err());
        assert!(slow.is_some_and(|seconds| seconds < 60), "{slow:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sixteen_kilobits_are_enough_for_one_stream_and_cost_four_of_them_one_connection() {
        let speed = Arc::default();
        read(&speed, 2 << 10, 3600).await.unwrap();

        let speed = Arc::default();
        let mut lost = 0;
        for _ in 0..4 {
            lost += usize::from(is_stuck(read(&speed, 512, 3600).await));
        }
        assert_eq!(lost, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_has_no_end_in_sight_and_the_readers_own_time_does_not_count() {
        let speed = Arc::default();
        assert!(is_stuck(read(&speed, 1, 600).await));
        assert!(matches!(read(&speed, 1, 600).await, Err(Slow::Hopeless(_))));

        let mut flow = Flow::new(&speed);
        for _ in 0..600 {
            tokio::time::sleep(60 * SECOND).await;
            flow.came(1, Duration::from_millis(1)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lay_ready_for_a_slow_reader_proves_no_speed() {
        let speed: Arc<Speed> = Arc::default();
        let before = speed.lowest();
        let mut flow = Flow::new(&speed);
        tokio::time::sleep(60 * SECOND).await;
        flow.came(1 << 20, Duration::ZERO).unwrap();
        drop(flow);
        assert_eq!(speed.lowest(), before);
    }
}
