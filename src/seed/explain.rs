//! Errors of a seed, with hints for the operator.

use crate::error::{Error, Kind, Side};
use crate::oci::Reference;

/// Adds the side at which a reference could not be resolved.
pub(super) fn unresolved(error: Error, side: Side, reference: &Reference) -> Error {
    explained(error.at(side), reference)
}

/// Adds the reference that could not be resolved, and a hint for the operator.
pub(crate) fn explained(error: Error, reference: &Reference) -> Error {
    let hint = match error.kind() {
        Kind::NotFound => Some("check the repository and the tag; a tag is case-sensitive"),
        Kind::Unavailable => Some("check the host name, the port and the network"),
        _ => None,
    };
    let error = error.during("resolve manifest digest", reference);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Marks the error as a failed verification at `side`.
pub(crate) fn failed(error: Error, side: Side, reference: &Reference) -> Error {
    error.during(format!("{side} verification failed (fail-closed)"), reference)
}
