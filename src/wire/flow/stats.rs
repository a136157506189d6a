//! Counts requests and bytes, for the report and for tests of work not done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests, retries and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, including those to token services and to redirect targets.
    pub requests: u64,
    /// Operations and streams that failed transiently and were started again.
    pub retries: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies handed to the connection.
    pub bytes_out: u64,
    /// The shortest time from a request without a stream to the head of its answer: once a connection was used twice,
    /// little more than the round trip. `None` before the first answer.
    pub fastest: Option<Duration>,
}

/// Counters from which [`Stats`] are made. Counts also in the parent, `above`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Microseconds plus one; zero means none.
    fastest: AtomicU64,
    above: Option<Arc<Self>>,
}

impl Counters {
    pub(crate) fn below(above: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { above: Some(Arc::clone(above)), ..Self::default() })
    }

    pub(crate) fn request(&self) {
        self.add(|counters| &counters.requests, 1);
    }

    pub(crate) fn retry(&self) {
        self.add(|counters| &counters.retries, 1);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.add(|counters| &counters.bytes_in, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.add(|counters| &counters.bytes_out, bytes as u64);
    }

    pub(crate) fn answered(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        let shorter = |fastest| (fastest == 0 || took < fastest).then_some(took);
        // Nothing to do if it was not shorter.
        let _ = self.fastest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
        if let Some(above) = &self.above {
            above.answered(Duration::from_micros(took - 1));
        }
    }

    pub(crate) fn tally(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: read(&self.requests),
            retries: read(&self.retries),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            fastest: read(&self.fastest).checked_sub(1).map(Duration::from_micros),
        }
    }

    fn add(&self, which: fn(&Self) -> &AtomicU64, count: u64) {
        which(self).fetch_add(count, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.add(which, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_below_is_counted_above() {
        let above = Arc::new(Counters::default());
        let (one, other) = (Counters::below(&above), Counters::below(&above));
        one.request();
        one.sent(7);
        other.request();
        assert_eq!(one.tally(), Stats { requests: 1, bytes_out: 7, ..Stats::default() });
        assert_eq!(above.tally(), Stats { requests: 2, bytes_out: 7, ..Stats::default() });
        for micros in [70, 0, 90] {
            one.answered(Duration::from_micros(micros));
            other.answered(Duration::from_micros(micros + 5));
        }
        assert_eq!([one, other, above].map(|counters| counters.tally().fastest.unwrap().as_micros()), [0, 5, 0]);
    }
}
