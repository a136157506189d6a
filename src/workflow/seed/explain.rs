//! Errors of a seed, with what an operator can look at.

use crate::error::{Error, Kind, Side};
use crate::oci::Reference;

/// Says at which side a reference could not be resolved.
pub(super) fn unresolved(error: Error, side: Side, reference: &Reference) -> Error {
    explained(error.at(side), reference)
}

/// Says what could not be resolved, and what a person can look at.
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

/// Says that it is verification that failed, at which end.
pub(crate) fn failed(error: Error, side: Side, reference: &Reference) -> Error {
    error.during(format!("{side} verification failed (fail-closed)"), reference)
}
