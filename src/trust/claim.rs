//! The claims of a verified signature: who was named, and when it was signed.

use jiff::Timestamp;
use serde_json::Value;

/// The annotation, in the signed data, of the time of signing.
pub const SIGNED_AT: &str = "autonomy.signed-at";

/// The claims of a verified signature beyond its type and digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The repository's name, where the format has room for one.
    pub(crate) identity: Option<String>,
    /// The time of signing as it stands there.
    pub(crate) signed_at: Option<Value>,
}

/// Returns `time` without its fraction, as signatures and messages hold it.
pub(crate) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
