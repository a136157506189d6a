//! The time, from this machine or fixed.

use jiff::Timestamp;

/// The source of the present time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// This machine's clock, read at each call.
    System,
    /// Always the same time: for tests, and for judging by an audit's date.
    Fixed(Timestamp),
}

impl Clock {
    /// Returns the time.
    #[must_use]
    pub fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Fixed(time) => time,
        }
    }
}
