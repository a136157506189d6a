//! What goes next: large blobs on a few lanes, largest first; everything small on lanes of its own.
//!
//! Two kinds of lane, because the two wait for different things: a layer for the link's rate, a small request for its
//! round trip. A layer can therefore never keep a manifest waiting, and the largest blob, which decides how long the
//! whole takes, never starts last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Options;

/// From here on a blob counts as large: at this size a stream over a 100 ms, 100 Mbit/s path is limited by its rate.
const LARGE: u64 = 1 << 20;

/// Which kind of lane a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Large,
    Small,
}

impl Lane {
    fn of(size: u64) -> Self {
        if size >= LARGE { Self::Large } else { Self::Small }
    }
}

/// Steps that may begin, and how many of each kind may run.
#[derive(Debug)]
pub(super) struct Schedule {
    large: Queue,
    small: Queue,
}

/// A queue with the largest in front; of equals, the earliest.
#[derive(Debug)]
struct Queue {
    ready: BinaryHeap<(u64, Reverse<usize>)>,
    free: usize,
}

impl Queue {
    fn new(free: usize) -> Self {
        Self { ready: BinaryHeap::new(), free }
    }

    fn take(&mut self) -> Option<usize> {
        if self.free == 0 {
            return None;
        }
        let (_, Reverse(step)) = self.ready.pop()?;
        self.free -= 1;
        Some(step)
    }
}

impl Schedule {
    pub(super) fn new(options: &Options) -> Self {
        Self { large: Queue::new(options.jobs.get()), small: Queue::new(options.small_jobs.get()) }
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Large => &mut self.large,
            Lane::Small => &mut self.small,
        }
    }

    /// Says that `step`, of `size` bytes, may begin.
    pub(super) fn ready(&mut self, step: usize, size: u64) {
        self.queue(Lane::of(size)).ready.push((size, Reverse(step)));
    }

    /// The next step to begin and the lane that it holds until [`Schedule::done`], if a lane is free.
    pub(super) fn take(&mut self) -> Option<(usize, Lane)> {
        let small = self.small.take().map(|step| (step, Lane::Small));
        small.or_else(|| self.large.take().map(|step| (step, Lane::Large)))
    }

    /// Gives a lane back.
    pub(super) fn done(&mut self, lane: Lane) {
        self.queue(lane).free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_goes_first_and_the_small_never_wait_for_it() {
        let mut schedule = Schedule::new(&Options { jobs: super::super::at_least_one(1), ..Options::default() });
        for (step, size) in [(0, 5 << 20), (1, 9 << 20), (2, 100), (3, 200)] {
            schedule.ready(step, size);
        }
        let order: Vec<_> = std::iter::from_fn(|| schedule.take()).collect();
        assert_eq!(order, [(3, Lane::Small), (2, Lane::Small), (1, Lane::Large)]);
        schedule.done(Lane::Large);
        assert_eq!(schedule.take(), Some((0, Lane::Large)));
    }
}
