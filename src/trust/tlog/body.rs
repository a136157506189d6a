//! Bodies of log entries: the signature, key and content that a log has recorded.
//!
//! An entry about anything else proves nothing about the signature that it is attached to, even if the log vouches for
//! it (CVE-2022-23649, CVE-2022-36056, CVE-2026-22703): signature, key and content must all be the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::super::failure::{ErrorClass, Failure};
use super::super::key::PublicKey;
use super::super::pem;
use crate::document::json;

/// Largest body that is read, in bytes. One with a key takes 600.
pub(super) const MAX_BYTES: usize = 128 << 10;

/// A verified signature by a trusted key, which an entry must be about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The key that signed.
    pub(crate) key: &'a PublicKey,
    /// The signature itself.
    pub(crate) signature: &'a [u8],
    /// The bytes that it covers.
    pub(crate) message: &'a [u8],
    /// The payload inside the message, if the signature is an envelope's; the message of a legacy signature is its
    /// payload.
    pub(crate) enveloped: Option<&'a [u8]>,
}

/// The version of Rekor that wrote an entry, which decides how the log vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// With a promise, which signs the time and the index.
    One,
    /// With a place in a tree, and no time.
    Two,
}

/// The signature, key and content that an entry is about.
#[derive(Debug)]
struct EntrySubject {
    signature: Vec<u8>,
    key: Vec<u8>,
    is_content: bool,
    generation: Generation,
}

/// Returns the kind and version that a body claims.
pub(super) fn kind(body: &Value) -> (&str, &str) {
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    (field("kind"), field("apiVersion"))
}

/// Parses a body.
pub(super) fn parse(body: &[u8]) -> Result<Value, Failure> {
    json::parse(body).map_err(|why| format(&format!("has a body that is not readable: {why}")))
}

/// Checks that `body` is about `signed`.
pub(super) fn check(body: &Value, signed: &Signed<'_>) -> Result<Generation, Failure> {
    let EntrySubject { signature, key, is_content, generation } = subject(body, signed)?;
    if signature != signed.signature {
        return Err(untrusted("is about another signature"));
    }
    if key != signed.key.spki() {
        return Err(untrusted("is about a signature by another key"));
    }
    if !is_content {
        return Err(untrusted("is about other content"));
    }
    Ok(generation)
}

/// Reads the fields of a body, by its kind. Rekor records legacy signatures and envelopes as different kinds.
fn subject(body: &Value, signed: &Signed<'_>) -> Result<EntrySubject, Failure> {
    let spec = Spec(body.get("spec").unwrap_or(&Value::Null));
    match (kind(body), signed.enveloped) {
        (("hashedrekord" | "rekord", "0.0.1"), None) => Ok(EntrySubject {
            signature: spec.bytes("/signature/content")?,
            key: spec.pem("/signature/publicKey/content")?,
            is_content: spec.is_sha256("/data/hash", signed.message)?,
            generation: Generation::One,
        }),
        (("dsse", "0.0.1"), Some(payload)) => {
            spec.check_single("/signatures")?;
            Ok(EntrySubject {
                signature: spec.bytes("/signatures/0/signature")?,
                key: spec.pem("/signatures/0/verifier")?,
                is_content: spec.is_sha256("/payloadHash", payload)?,
                generation: Generation::One,
            })
        }
        (("intoto", "0.0.2"), Some(payload)) => {
            spec.check_single("/content/envelope/signatures")?;
            // Encoded twice: Rekor takes the envelope's base64 for the bytes.
            let signature = spec.bytes("/content/envelope/signatures/0/sig")?;
            Ok(EntrySubject {
                signature: STANDARD.decode(signature).map_err(|_| format("has a signature that is not base64"))?,
                key: spec.pem("/content/envelope/signatures/0/publicKey")?,
                is_content: spec.is_sha256("/content/payloadHash", payload)?,
                generation: Generation::One,
            })
        }
        (("hashedrekord", "0.0.2"), Some(_)) => Ok(EntrySubject {
            signature: spec.bytes("/hashedRekordV002/signature/content")?,
            // An entry with a certificate has no key here, so no trusted key matches.
            key: spec.bytes("/hashedRekordV002/signature/verifier/publicKey/rawBytes").unwrap_or_default(),
            is_content: spec.is_hash("/hashedRekordV002/data", signed.message)?,
            generation: Generation::Two,
        }),
        ((kind, version), enveloped) => {
            let form = if enveloped.is_some() { "an envelope" } else { "a legacy signature" };
            Err(untrusted(&format!("is of kind {kind:?} {version:?}, as which {form} is not recorded")))
        }
    }
}

/// The part of a body whose fields depend on the kind.
struct Spec<'a>(&'a Value);

impl Spec<'_> {
    fn text(&self, path: &str) -> Result<&str, Failure> {
        let text = self.0.pointer(path).and_then(Value::as_str);
        text.ok_or_else(|| format(&format!("has no {path} in its body")))
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let bytes = STANDARD.decode(self.text(path)?);
        bytes.map_err(|why| format(&format!("has a {path} in its body that is not base64: {why}")))
    }

    /// Returns a key in base64 of PEM, as DER; or any other PEM content, such as a certificate, which is no trusted
    /// key.
    fn pem(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let text = self.bytes(path)?;
        let (_, der) = pem::decode(&text).map_err(|why| format(&format!("has no key at {path} in its body: {why}")))?;
        Ok(der)
    }

    /// Checks that the body has one signature. An envelope may have several; we verify one, so the entry must be about
    /// one.
    fn check_single(&self, path: &str) -> Result<(), Failure> {
        let signatures = self.0.pointer(path).and_then(Value::as_array);
        if signatures.is_some_and(|signatures| signatures.len() == 1) {
            return Ok(());
        }
        Err(format("has not exactly one signature in its body"))
    }

    fn is_sha256(&self, path: &str, content: &[u8]) -> Result<bool, Failure> {
        let (algorithm, value) = (self.text(&format!("{path}/algorithm"))?, self.text(&format!("{path}/value"))?);
        Ok(algorithm == "sha256" && value == hex::encode(Sha256::digest(content)))
    }

    /// Compares with the hash that belongs to the key's curve, which Rekor's second version requires.
    fn is_hash(&self, path: &str, content: &[u8]) -> Result<bool, Failure> {
        let hash = self.bytes(&format!("{path}/digest"))?;
        Ok(match self.text(&format!("{path}/algorithm"))? {
            "SHA2_256" => hash == Sha256::digest(content)[..],
            "SHA2_384" => hash == Sha384::digest(content)[..],
            "SHA2_512" => hash == Sha512::digest(content)[..],
            _ => false,
        })
    }
}

/// Returns the failure that the entry has the wrong form.
pub(super) fn format(why: &str) -> Failure {
    Failure::new(ErrorClass::SigFormat, format!("the log entry {why}"))
}

/// Returns the failure that no trusted log vouches for the signature by this entry.
pub(super) fn untrusted(why: &str) -> Failure {
    Failure::new(ErrorClass::TlogRequired, format!("the log entry {why}"))
}
