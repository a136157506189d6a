//! The length of a pause: it doubles with each failure, up to a longest one, with jitter over its upper half.

use std::time::Duration;

/// Returns the pause after so many failures, the first of which is followed by `first`.
pub(super) fn pause(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest).mul_f64(jitter())
}

/// Returns a random factor from a half to one: clients that failed together must not come back together.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 2];
    match getrandom::fill(&mut bytes) {
        Ok(()) => 0.5 + f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX) / 2.0,
        Err(_) => 1.0,
    }
}
