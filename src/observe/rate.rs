//! The rate of the last seconds, in bytes per second.
//!
//! Ours and not that of `indicatif`: plain and JSON lines show it too, and it follows the runtime's clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Long enough to smooth the bursts of TCP and buffers, short enough to follow a link that changes.
const WINDOW: Duration = Duration::from_secs(5);
/// Shortest time for a meaningful rate.
const SHORTEST: Duration = Duration::from_millis(500);

/// The slope of a counter over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Adds a sample: the counter is at `bytes` now.
    pub(super) fn sample(&mut self, now: Instant, bytes: u64) {
        // One sample older than the window stays, so that the samples always span the window.
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, bytes));
    }

    /// Returns the bytes per second over the window, or `None` while the samples span too short a time.
    pub(super) fn per_second(&self) -> Option<u64> {
        let (&(first, from), &(last, to)) = (self.samples.front()?, self.samples.back()?);
        let elapsed = last - first;
        if elapsed < SHORTEST {
            return None;
        }
        let per_second = u128::from(to.saturating_sub(from)) * 1_000 / elapsed.as_millis();
        Some(u64::try_from(per_second).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_last_seconds_count() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        rate.sample(at(0), 0);
        rate.sample(at(400), 400);
        assert_eq!(rate.per_second(), None, "too early to tell");
        rate.sample(at(1_000), 1_000);
        assert_eq!(rate.per_second(), Some(1_000));
        for step in 2..=20 {
            rate.sample(at(step * 1_000), 1_000);
        }
        assert_eq!(rate.per_second(), Some(0), "a standstill is seen");
        assert!(rate.samples.len() <= 7, "old samples go");
    }
}
