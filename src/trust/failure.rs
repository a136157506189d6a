//! Error classes: the reason for a failed verification, in one fixed word for scripts and auditors.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Kind, find_cause, printable, shortened};

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// The reason for a failed verification. The text is fixed: reports and logs contain it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[non_exhaustive]
        pub enum ErrorClass { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl ErrorClass {
            /// Returns the class in capitals, such as `SIG_NO_MATCH`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Every class, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

classes! {
    /// No signature is attached.
    SigNotFound = "SIG_NOT_FOUND";
    /// Signatures are attached; no trusted key made one.
    SigNoMatch = "SIG_NO_MATCH";
    /// A signature object has the wrong form.
    SigFormat = "SIG_FORMAT";
    /// Signed by a trusted key, but as something other than an image signature.
    SigPayloadType = "SIG_PAYLOAD_TYPE";
    /// Signed by a trusted key, but for other content.
    SigDigestMismatch = "SIG_DIGEST_MISMATCH";
    /// Signed by a trusted key, but under the name of another repository.
    SigIdentityMismatch = "SIG_IDENTITY_MISMATCH";
    /// Too many or too large signature objects.
    SigLimit = "SIG_LIMIT";
    /// Bytes that differ from their digest even after retries.
    BlobDigest = "BLOB_DIGEST";
    /// A key file that holds no usable key.
    KeyInvalid = "KEY_INVALID";
    /// A private key that does not open with the password.
    KeyPassword = "KEY_PASSWORD";
    /// A private key whose password derivation asks for too much, or too little.
    KeyKdfParams = "KEY_KDF_PARAMS";
    /// No transparency log vouches: a required entry is missing, or an entry is not valid.
    TlogRequired = "TLOG_REQUIRED";
    /// The signed data has no time of signing.
    TimeMissing = "TIME_MISSING";
    /// The time of signing is not RFC 3339.
    TimeMalformed = "TIME_MALFORMED";
    /// Signed too long ago.
    TimeStale = "TIME_STALE";
    /// Signed in the future.
    TimeFuture = "TIME_FUTURE";
    /// Signed before the image that it would replace.
    TimeRollback = "TIME_ROLLBACK";
    /// Image, lock and policy were not signed at one time: they belong to different seals.
    TimeSet = "TIME_SET";
    /// A required lock or policy is missing.
    SidecarMissing = "SIDECAR_MISSING";
    /// Tag and referrers name different sidecars.
    SidecarAmbiguous = "SIDECAR_AMBIGUOUS";
    /// The lock is not readable.
    LockParse = "LOCK_PARSE";
    /// The lock is for another image.
    LockAgentDigest = "LOCK_AGENT_DIGEST";
    /// The lock is for another policy.
    PolicyDigest = "POLICY_DIGEST";
    /// The lock's fingerprint uses another hash function.
    FingerprintAlgo = "FINGERPRINT_ALGO";
    /// The lock's fingerprint does not match its content.
    FingerprintMismatch = "FINGERPRINT_MISMATCH";
    /// A version that does not parse.
    SemverParse = "SEMVER_PARSE";
    /// The policy's version differs from the one in the lock.
    SemverMismatch = "SEMVER_MISMATCH";
    /// The registry could not be queried. Never the same as "there is none".
    Transport = "TRANSPORT";
}

impl ErrorClass {
    /// Returns how far a signature of this class got. If several fail, the report names the one that got furthest.
    pub(crate) fn distance(self) -> u8 {
        match self {
            Self::TlogRequired => 9,
            Self::TimeMissing | Self::TimeMalformed | Self::TimeStale | Self::TimeFuture => 8,
            Self::SigIdentityMismatch => 7,
            Self::SigDigestMismatch => 6,
            Self::SigPayloadType => 5,
            Self::BlobDigest => 4,
            Self::SigLimit => 3,
            Self::SigFormat => 2,
            Self::SigNoMatch => 1,
            _ => 0,
        }
    }

    /// Returns advice for the operator.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::SigNotFound => {
                "is the image signed, and by its digest? signatures can be lost on the way: look for the tag sha256-<hex>.sig and for referrers at the source"
            }
            Self::SigNoMatch => "is --pub-key the key that signed? compare the fingerprints with the publisher",
            Self::SigFormat | Self::SigPayloadType => {
                "what is attached was not made by cosign sign, or was changed; sign the image again"
            }
            Self::SigDigestMismatch => {
                "the signature belongs to other content: was it copied from another image, or was a platform's manifest signed and not the index?"
            }
            Self::SigIdentityMismatch => {
                "leave --match-identity out for images that were mirrored from another registry, or name that with --identity"
            }
            Self::SigLimit => {
                "far more is attached than a signature needs; look at the referrers before trusting this registry"
            }
            Self::BlobDigest => "the registry holds damaged content; copy the image again from a good source",
            Self::KeyInvalid => "give the public half as PEM, such as cosign.pub",
            Self::KeyPassword => "set COSIGN_PASSWORD to the password that the key was made with",
            Self::KeyKdfParams => "make the key again with cosign or bundle keygen",
            Self::TlogRequired => {
                "is --rekor-key the key of the log that the signer used? leave --require-tlog out where signatures are made without a log"
            }
            Self::TimeMissing => "sign with -a autonomy.signed-at=<RFC 3339 time>, or set AUTONOMY_TRUST_TIME=false",
            Self::TimeMalformed => "autonomy.signed-at must look like 2026-01-15T12:00:00Z; sign again",
            Self::TimeStale => "check this machine's clock; if it is right, sign the image again or raise --max-age",
            Self::TimeFuture => "check this machine's clock",
            Self::TimeRollback => {
                "an older release is offered than the one in place: ask the publisher; to go back on purpose give --allow-rollback"
            }
            Self::TimeSet => "the sidecars are of another seal than the image: seal the bundle again",
            Self::SidecarMissing => "push the lock and policy beside the image, and copy them with --copy-policy",
            Self::SidecarAmbiguous => "remove the sidecar that is out of date, or seal the bundle again",
            Self::LockParse | Self::FingerprintAlgo | Self::FingerprintMismatch => {
                "the lock was changed after it was sealed; seal the bundle again"
            }
            Self::LockAgentDigest => "the lock was sealed for another image; seal the bundle again",
            Self::PolicyDigest => "the lock was sealed with another policy; seal the bundle again",
            Self::SemverParse | Self::SemverMismatch => {
                "policy_bundle.ref in the lock and policy_bundle_version in the policy must agree; seal the bundle again"
            }
            Self::Transport => "see whether the registry can be reached and read with these credentials",
        }
    }

    /// Returns the class of an error: see [`Failure::of`].
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        Failure::of(error).map(|failure| failure.class)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure of trust: its class, and the compared values in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{class}: {detail}")]
pub struct Failure {
    /// The reason.
    pub class: ErrorClass,
    /// The compared values in words, safe for a terminal.
    pub detail: String,
}

impl Failure {
    /// Escapes control characters in text of a registry or a signature, here and only here, and cuts long text.
    #[must_use]
    pub fn new(class: ErrorClass, detail: impl AsRef<str>) -> Self {
        Self { class, detail: printable(&shortened(detail.as_ref())) }
    }

    /// Returns the failure that an error carries, else one of [`ErrorClass::Transport`], because a registry that could
    /// not be queried must never look like an unsigned image. None for errors that have nothing to do with trust.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        if let Some(Self { class, detail }) = find_cause(error) {
            return Some(Self::new(*class, format!("{error}: {detail}")));
        }
        let is_transport = error.kind().exit_code() == Kind::Unavailable.exit_code();
        is_transport.then(|| Self::new(ErrorClass::Transport, error.chain()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_could_not_be_asked_is_transport_and_nothing_else() {
        for kind in [Kind::Denied, Kind::Unavailable, Kind::Invalid, Kind::Limit] {
            assert_eq!(ErrorClass::of(&Error::new(kind, "get")), Some(ErrorClass::Transport));
        }
        let carried = Error::new(Kind::Usage, "read key").because(Failure::new(ErrorClass::KeyInvalid, "x"));
        assert_eq!(ErrorClass::of(&carried), Some(ErrorClass::KeyInvalid));
        assert_eq!(ErrorClass::of(&Error::new(Kind::Local, "write")), None);
    }

    #[test]
    fn classes_are_written_once_and_every_one_has_a_hint() {
        let mut texts: Vec<_> = ErrorClass::ALL.iter().map(|class| class.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 28, "the classes of the format's description");
        assert!(ErrorClass::ALL.iter().all(|class| class.hint().len() > 15));
    }
}
