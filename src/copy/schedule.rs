//! Decides the order of work: large blobs on a few lanes, largest first; everything small on separate lanes.
//!
//! There are two kinds of lane because their work waits for different things: a layer for bandwidth, a small request for
//! a round trip. So a layer never delays a manifest, and the largest blob, which decides how long the copy takes, never
//! starts last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Blobs of at least this size are large: at this size a stream over a 100 ms, 100 Mbit/s path is limited by its rate.
pub(super) const LARGE: u64 = 1 << 20;

/// Round trip up to which the small lanes keep their number. On this machine and in a local network fewer would do; a
/// request to a distant peer only waits and uses no processor, so more of them run at once.
const NEAR: Duration = Duration::from_micros(12_500);

/// Most times that the small lanes are multiplied, reached at a round trip of four times [`NEAR`].
const WIDEST: usize = 4;

/// How much may be in flight at once. Clones share the same lanes, so that several copies share one limit.
#[derive(Debug, Clone)]
pub struct Lanes {
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
    width: Arc<Width>,
}

/// Returns how many requests keep a peer busy at `round_trip`, if `near` are enough for a nearby one: in proportion to
/// the round trip, up to four times as many.
#[must_use]
pub fn at_a_distance(near: usize, round_trip: Duration) -> usize {
    let times = (round_trip.as_secs_f64() / NEAR.as_secs_f64()).clamp(1.0, WIDEST as f64);
    (near as f64 * times) as usize
}

/// The number of small lanes.
#[derive(Debug)]
struct Width {
    first: usize,
    now: AtomicUsize,
}

impl Lanes {
    /// Creates `large` lanes for large blobs, and `small` lanes for everything that waits for round trips and not for
    /// bytes.
    #[must_use]
    pub fn new(large: NonZeroUsize, small: NonZeroUsize) -> Self {
        let count = |count: NonZeroUsize| count.get().min(Semaphore::MAX_PERMITS / WIDEST);
        let lanes = |count| Arc::new(Semaphore::new(count));
        let width = Width { first: count(small), now: AtomicUsize::new(count(small)) };
        Self { large: lanes(count(large)), small: lanes(count(small)), width: Arc::new(width) }
    }

    /// Adds small lanes for a peer at `round_trip`, as [`at_a_distance`] computes. Added lanes stay.
    pub fn widen(&self, round_trip: Duration) {
        let Width { first, now } = self.width.as_ref();
        let wanted = at_a_distance(*first, round_trip);
        let before = now.fetch_max(wanted, Ordering::AcqRel);
        self.small.add_permits(wanted.saturating_sub(before));
    }

    /// Returns the number of small lanes for distant peers; none if all peers are near.
    pub(super) fn far(&self) -> Option<usize> {
        let now = self.width.now.load(Ordering::Acquire);
        (now > self.width.first).then_some(now)
    }
}

impl Default for Lanes {
    /// 4 large: between two networks, more streams only divide the same bandwidth. 16 small.
    fn default() -> Self {
        let at_least_one = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Self::new(at_least_one(4), at_least_one(16))
    }
}

/// A lane, held until dropped.
pub(super) type LanePermit = OwnedSemaphorePermit;

/// Steps of one copy that may begin.
#[derive(Debug)]
pub(super) struct Schedule {
    lanes: Lanes,
    /// The largest in front; among equals, the earliest.
    large: BinaryHeap<(u64, Reverse<usize>)>,
    small: BinaryHeap<(u64, Reverse<usize>)>,
}

impl Schedule {
    pub(super) fn new(lanes: &Lanes) -> Self {
        Self { lanes: lanes.clone(), large: BinaryHeap::new(), small: BinaryHeap::new() }
    }

    /// Marks `step`, which will move about `size` bytes, as ready to begin.
    pub(super) fn ready(&mut self, step: usize, size: u64) {
        let queue = if size >= LARGE { &mut self.large } else { &mut self.small };
        queue.push((size, Reverse(step)));
    }

    /// Returns whether no step is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.large.is_empty() && self.small.is_empty()
    }

    /// Returns the next step, once a lane for it is free. Never resolves while no step is ready.
    ///
    /// Cancel safe: if dropped while it waits, it has taken nothing.
    pub(super) async fn next(&mut self) -> (usize, LanePermit) {
        let (large, small) = (Arc::clone(&self.lanes.large), Arc::clone(&self.lanes.small));
        let (queue, lane) = tokio::select! {
            biased;
            lane = small.acquire_owned(), if !self.small.is_empty() => (&mut self.small, lane),
            lane = large.acquire_owned(), if !self.large.is_empty() => (&mut self.large, lane),
            else => std::future::pending().await,
        };
        match (queue.pop(), lane) {
            (Some((_, Reverse(step))), Ok(lane)) => (step, lane),
            // Neither happens: the queue was checked above, and the semaphores are never closed.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_largest_goes_first_and_the_small_never_wait_for_it() {
        let mut schedule = Schedule::new(&Lanes::new(NonZeroUsize::MIN, NonZeroUsize::new(9).unwrap()));
        for (step, size) in [(0, 5 << 20), (1, 9 << 20), (2, 100), (3, 200)] {
            schedule.ready(step, size);
        }
        let mut held: Vec<_> = std::iter::from_fn(|| schedule.next().now_or_never()).collect();
        assert_eq!(held.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 2, 1]);
        held.clear();
        assert_eq!(schedule.next().now_or_never().unwrap().0, 0);
        assert!(schedule.is_empty());
    }

    #[test]
    fn the_further_away_the_peer_the_more_lanes_for_what_is_small() {
        let lanes = Lanes::default();
        let mut widths = Vec::new();
        for millis in [0, 3, 12, 25, 5, 300, 1, 50] {
            lanes.widen(Duration::from_millis(millis));
            widths.push(lanes.small.available_permits());
        }
        assert_eq!(widths, [16, 16, 16, 32, 32, 64, 64, 64]);
        assert_eq!(lanes.large.available_permits(), 4);
    }

    #[test]
    fn two_copies_share_the_lanes() {
        let lanes = Lanes::new(NonZeroUsize::MIN, NonZeroUsize::MIN);
        let (mut one, mut other) = (Schedule::new(&lanes), Schedule::new(&lanes));
        one.ready(0, 1);
        other.ready(0, 1);
        let held = one.next().now_or_never().unwrap();
        assert!(other.next().now_or_never().is_none());
        drop(held);
        assert!(other.next().now_or_never().is_some());
    }
}
