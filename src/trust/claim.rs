//! The claims of a verified signature: the name that it was signed for, and the time of signing.

use jiff::Timestamp;
use serde_json::Value;

/// The annotation of the signed data that holds the time of signing.
pub const SIGNED_AT: &str = "autonomy.signed-at";

/// The claims of a verified signature beyond its type and digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The repository's name, where the format has room for one.
    pub(crate) identity: Option<String>,
    /// The time of signing as it was written.
    pub(crate) signed_at: Option<Value>,
}

/// Returns `time` without its fraction, as signatures and messages hold it.
pub(crate) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
