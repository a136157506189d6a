//! Checkpoints: the hash states of the passes over one body, so that a later pass can begin in the middle.
//!
//! A sink whose upload broke may hold the beginning of a body and need the rest. The beginning came from the pass that
//! broke, and was hashed there; the rest comes from another pass, and the source may not send the same bytes twice.
//! Checkpoints therefore keep intermediate hash states, from which the next pass continues, and the state in which each
//! pass broke off. Each later pass must reach that offset with the same hash; otherwise it fails. So the digest that is
//! checked at the end covers the bytes that the sink received, whichever pass sent them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::oci::{Algorithm, Digest, Hasher};

/// Bytes between two kept states: at most this many are read a second time.
const SPACING: u64 = 1 << 20;

/// States kept, the newest ones: no sink asks for an offset further back than sockets and a registry's buffers hold.
const MAX_MARKS: usize = 64;

/// The checkpoints of all passes over one body.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    state: Mutex<CheckpointState>,
}

#[derive(Debug, Default)]
struct CheckpointState {
    /// Offsets, ascending, and the hash of everything before them.
    marks: VecDeque<(u64, Hasher)>,
    /// How far the newest pass has come, with its hash.
    last: Option<(u64, Hasher)>,
    /// Offsets at which passes broke off, with the digest of everything before.
    ends: BTreeMap<u64, Digest>,
    /// The furthest offset that any pass has reached.
    reach: u64,
}

impl Checkpoints {
    /// Returns the furthest offset that any pass has reached: no sink can hold more.
    pub(crate) fn reach(&self) -> u64 {
        self.lock().reach
    }

    fn lock(&self) -> MutexGuard<'_, CheckpointState> {
        // After a panic elsewhere the state is still usable: a missing mark only means more to read.
        crate::sync::lock(&self.state)
    }
}

/// The hash of one pass.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: Hasher,
    at: u64,
    trail: Option<Arc<Checkpoints>>,
    /// Later offsets at which earlier passes broke off, the nearest last.
    ends: Vec<(u64, Digest)>,
}

impl Trace {
    /// Starts with no bytes and keeps no checkpoints.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self { hasher: Hasher::new(algorithm), at: 0, trail: None, ends: Vec::new() }
    }

    /// Starts at the last state at or before `from`. All earlier passes have broken off.
    pub(crate) fn along(trail: &Arc<Checkpoints>, from: u64, algorithm: Algorithm) -> Self {
        let mut state = trail.lock();
        if let Some((at, hasher)) = state.last.take() {
            state.ends.insert(at, hasher.finish());
        }
        let mark = state.marks.iter().rfind(|(at, _)| *at <= from).cloned();
        let (at, hasher) = mark.unwrap_or_else(|| (0, Hasher::new(algorithm)));
        let ends = state.ends.range(at + 1..).rev().map(|(end, digest)| (*end, *digest)).collect();
        Self { hasher, at, trail: Some(Arc::clone(trail)), ends }
    }

    /// Returns how many bytes have been hashed.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Hashes the next bytes; returns `false` if an earlier pass read different ones.
    #[must_use]
    pub(crate) fn update(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((end, digest)) = self.ends.last().copied()
            && let Some((before, after)) = usize::try_from(end - self.at).ok().and_then(|n| bytes.split_at_checked(n))
        {
            self.hasher.update(before);
            if self.hasher.clone().finish() != digest {
                return false;
            }
            (self.at, bytes) = (end, after);
            self.ends.pop();
        }
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.mark();
        true
    }

    fn mark(&self) {
        let Some(trail) = &self.trail else { return };
        let mut state = trail.lock();
        if state.marks.back().map_or(SPACING, |(at, _)| at + SPACING) <= self.at {
            state.marks.push_back((self.at, self.hasher.clone()));
            if state.marks.len() > MAX_MARKS {
                state.marks.pop_front();
            }
        }
        state.last = Some((self.at, self.hasher.clone()));
        state.reach = state.reach.max(self.at);
    }

    /// Returns the digest of everything so far.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 5 << 20;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|n| (n * 31 % 251) as u8).collect()
    }

    /// Runs a pass from `from` to `to` in pieces of an odd length; returns None if it disagrees with an earlier pass.
    fn pass(trail: &Arc<Checkpoints>, bytes: &[u8], from: usize, to: usize) -> Option<Trace> {
        let mut trace = Trace::along(trail, from as u64, Algorithm::Sha256);
        let start = usize::try_from(trace.at()).unwrap();
        assert!(start <= from);
        bytes[start..to].chunks(60_007).all(|piece| trace.update(piece)).then_some(trace)
    }

    #[test]
    fn a_later_pass_goes_on_from_the_nearest_state_and_comes_to_the_same_digest() {
        let (trail, bytes) = (Arc::new(Checkpoints::default()), content());
        assert!(pass(&trail, &bytes, 0, 3_300_000).is_some());
        assert!(pass(&trail, &bytes, 3_200_000, 3_250_000).is_some(), "broken off before the first was");
        let last = pass(&trail, &bytes, 3_240_000, SIZE).unwrap();
        assert_eq!(last.finish(), Digest::sha256(&bytes));
        assert_eq!(trail.reach(), SIZE as u64);
        let again = Trace::along(&trail, 3_240_000, Algorithm::Sha256);
        assert!(again.at() > 3_240_000 - SPACING - 60_007, "{} is read again", again.at());
    }

    #[test]
    fn a_source_that_gives_other_bytes_the_second_time_is_found_out() {
        let (bytes, at) = (content(), 3_280_000);
        let mut other = bytes.clone();
        other[at] ^= 1;
        // The sink holds the bytes of the first pass, beyond the changed byte.
        for (first, second) in [(&bytes, &other), (&other, &bytes)] {
            let trail = Arc::new(Checkpoints::default());
            assert!(pass(&trail, first, 0, 3_300_000).is_some());
            assert!(pass(&trail, second, 3_290_000, SIZE).is_none());
        }
        // The same if the pass that would have noticed broke off before it could.
        let trail = Arc::new(Checkpoints::default());
        assert!(pass(&trail, &other, 0, 3_300_000).is_some());
        assert!(pass(&trail, &bytes, 3_290_000, 3_295_000).is_some());
        assert!(pass(&trail, &bytes, 3_295_000, SIZE).is_none());
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_body() {
        let trail = Arc::new(Checkpoints::default());
        let mut trace = Trace::along(&trail, 0, Algorithm::Sha256);
        for _ in 0..3 * MAX_MARKS {
            assert!(trace.update(&[0; SPACING as usize]));
        }
        assert_eq!(trail.lock().marks.len(), MAX_MARKS);
        assert_eq!(Trace::along(&trail, SPACING, Algorithm::Sha256).at(), 0, "too far back: from the beginning");
    }
}
