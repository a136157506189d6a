//! The error for a destination that does not show what was put.

use std::fmt::Display;

use crate::error::{Error, Kind};
use crate::oci::Digest;

/// Whether there is a sign of another client that writes to the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rivals {
    Seen,
    NotSeen,
}

/// Returns the error that `label` does not show `what`, a digest or a tag, attached to `subject`.
pub(crate) fn lacking(label: &str, what: impl Display, subject: &Digest, rivals: Rivals) -> Error {
    let why = format!("{what}, attached to {subject}, was put and is not listed");
    let hint = match rivals {
        Rivals::Seen => "somebody else may be writing to the same repository: run the same command again",
        Rivals::NotSeen => {
            "the registry has taken it and does not show it: look at its log, and at caches in front of it"
        }
    };
    Error::new(Kind::Incomplete, "find what was attached").on(label).because(why).hint(hint)
}
