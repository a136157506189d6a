//! Sigstore bundles, version 0.3, as cosign 3 attaches them: a DSSE envelope around an in-toto statement.
//!
//! Parsed as protobuf's JSON: names in camelCase or snake_case, `null` for absent, unknown and repeated names refused.
//! One signature, made by a bare key; certificates and other content of a bundle are ignored or refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::claim::{Claim, SIGNED_AT, seconds};
use super::failure::{ErrorClass, Failure};
use super::key::PublicKey;
use super::protojson::{bounded, decode, format, list, message, text};
use super::tlog::{self, Recorded, Signed, Tlog};
use crate::document::json;
use crate::oci::Digest;

/// The media type of a bundle, as cosign writes it.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The same version in the older spelling of bundle types, which occurs inside bundles.
const OTHER_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
/// The start of the media type of a bundle of any version.
pub(crate) const MEDIA_TYPE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// Largest bundle that is read, in bytes; cosign writes 700.
pub const MAX_BYTES: u64 = 4 << 20;
/// Most subjects in a statement.
pub const MAX_SUBJECTS: usize = 1024;
/// Most digests of one subject.
pub const MAX_DIGESTS: usize = 32;
/// Most log entries, and most timestamps, in a bundle.
pub const MAX_TLOG_ENTRIES: usize = 32;
/// The predicate type of an image signature; any other statement signed by the key is an attestation.
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The envelope of a bundle; nothing in it is trusted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) payload_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) is_by_key: bool,
    /// Log entries, which are parsed only if there is a trusted log.
    pub(crate) entries: Vec<Value>,
}

/// Returns the bytes that are signed: DSSE's pre-authentication encoding of an in-toto statement.
#[must_use]
pub fn pae(statement: &[u8]) -> Vec<u8> {
    encode(PAYLOAD_TYPE, statement)
}

fn encode(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns the statement that `digest` is signed, at `signed_at`. Identical byte for byte to the statement that cosign
/// writes.
#[must_use]
pub fn statement(digest: &Digest, signed_at: Option<Timestamp>) -> Vec<u8> {
    let annotations = match signed_at {
        Some(time) => format!(r#","annotations":{{"{SIGNED_AT}":"{}"}}"#, seconds(time)),
        None => String::new(),
    };
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    let text = format!(
        r#"{{"_type":"{STATEMENT_TYPE}","subject":[{{"digest":{{"{algorithm}":"{hex}"}}{annotations}}}],"predicateType":"{PREDICATE_TYPE}","predicate":{{}}}}"#
    );
    text.into_bytes()
}

/// Returns the bundle of `statement` and the `signature` that `key` made over its [`pae`].
#[must_use]
pub fn build(key: &PublicKey, statement: &[u8], signature: &[u8]) -> Vec<u8> {
    let (hint, payload, signature) = (hint(key), STANDARD.encode(statement), STANDARD.encode(signature));
    let text = format!(
        r#"{{"mediaType":"{MEDIA_TYPE}","verificationMaterial":{{"publicKey":{{"hint":"{hint}"}}}},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":"{signature}"}}]}}}}"#
    );
    text.into_bytes()
}

/// Returns the name of a key in a bundle.
pub(super) fn hint(key: &PublicKey) -> String {
    STANDARD.encode(Digest::sha256(key.spki()).as_bytes())
}

/// Returns the parts of a bundle of version 0.3: its verification material, the signature of a blob, the envelope.
pub(super) fn parts(whole: &Value) -> Result<[Option<&Value>; 3], Failure> {
    let [media_type, material, blob_signature, envelope] =
        message(whole, ["mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope"])?;
    if ![MEDIA_TYPE, OTHER_MEDIA_TYPE].contains(&text(media_type)?) {
        return Err(format(&format!("is of type {:?}; version 0.3 is read", text(media_type)?)));
    }
    Ok([material, blob_signature, envelope])
}

impl Envelope {
    /// Parses the envelope of a bundle.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let whole = json::parse(bytes).map_err(|why| format(&format!("is not readable: {why}")))?;
        let [material, blob_signature, envelope] = parts(&whole)?;
        if blob_signature.is_some() || envelope.is_none() {
            return Err(format("holds no DSSE envelope alone, which an image signature is"));
        }
        let envelope = envelope.unwrap_or(&Value::Null);
        let [payload, payload_type, signatures] = message(envelope, ["payload", "payloadType", "signatures"])?;
        let [signature] = list(signatures)? else {
            return Err(format(&format!("holds {} signatures; one is allowed", list(signatures)?.len())));
        };
        // keyid is a hint that nothing authenticates: parsed, and ignored.
        let [sig, _keyid] = message(signature, ["sig", "keyid"])?;
        let (is_by_key, entries) = check_material(material)?;
        Ok(Self {
            payload_type: text(payload_type)?.to_owned(),
            payload: decode(text(payload)?)?,
            signature: decode(text(sig)?)?,
            is_by_key,
            entries: entries.to_vec(),
        })
    }

    /// Returns the key among `keys` that signed, if there is one.
    pub(crate) fn signer<'a>(&self, keys: &'a [PublicKey]) -> Option<&'a PublicKey> {
        // With a certificate, or with no key at all, the signature needs another check than a key, even if a key would
        // fit.
        let signed = self.message();
        keys.iter().filter(|_| self.is_by_key).find(|key| key.verifies(&signed, &self.signature))
    }

    /// Returns the bytes that the signature covers.
    fn message(&self) -> Vec<u8> {
        encode(&self.payload_type, &self.payload)
    }

    /// Checks the log entries of a signature that `key` made.
    pub(crate) fn check_log(
        &self,
        log_keys: &[PublicKey],
        tlog: Tlog,
        key: &PublicKey,
    ) -> Result<Option<Recorded>, Failure> {
        let message = self.message();
        let signed = Signed { key, signature: &self.signature, message: &message, enveloped: Some(&self.payload) };
        tlog::check(log_keys, tlog, &signed, || self.entries.iter().map(tlog::Entry::from_bundle).collect())
    }

    /// Parses the statement after its signature is verified, and checks that it is about `digest`.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Claim, Failure> {
        let other = |what: &str, said: &str| {
            Err(Failure::new(
                ErrorClass::SigPayloadType,
                format!("signed with {what} {said:?}, not as an image signature"),
            ))
        };
        if self.payload_type != PAYLOAD_TYPE {
            return other("payloadType", &self.payload_type);
        }
        let statement = json::parse(&self.payload).map_err(|why| format(&format!("signs no statement: {why}")))?;
        let field = |name: &str| statement.get(name).and_then(Value::as_str).unwrap_or_default();
        if field("_type") != STATEMENT_TYPE {
            return other("_type", field("_type"));
        }
        if field("predicateType") != PREDICATE_TYPE {
            return other("predicateType", field("predicateType"));
        }
        let subjects = list(statement.get("subject"))?;
        bounded(subjects.len(), MAX_SUBJECTS, "subjects")?;
        for subject in subjects {
            let digests = subject.get("digest").and_then(Value::as_object);
            bounded(digests.map_or(0, serde_json::Map::len), MAX_DIGESTS, "digests of one subject")?;
            let named = digests.and_then(|digests| digests.get(digest.algorithm().as_str())).and_then(Value::as_str);
            if named == Some(&digest.hex()) {
                let signed_at = subject.get("annotations").and_then(|annotations| annotations.get(SIGNED_AT)).cloned();
                return Ok(Claim { identity: None, signed_at });
            }
        }
        let why = format!("none of the statement's {} subjects is {digest}", subjects.len());
        Err(Failure::new(ErrorClass::SigDigestMismatch, why))
    }
}

/// Checks the form of the verification material: whether a bare key made the signature, and the log entries.
pub(super) fn check_material(material: Option<&Value>) -> Result<(bool, &[Value]), Failure> {
    let names = ["publicKey", "certificate", "x509CertificateChain", "tlogEntries", "timestampVerificationData"];
    let [key, certificate, chain, entries, stamps] = message(material.unwrap_or(&Value::Null), names)?;
    if [key, certificate, chain].iter().flatten().count() > 1 {
        return Err(format("names more than one kind of key"));
    }
    if let Some(key) = key {
        message(key, ["hint"])?;
    }
    let entries = list(entries)?;
    bounded(entries.len(), MAX_TLOG_ENTRIES, "log entries")?;
    for entry in entries {
        tlog::parts(entry)?;
    }
    if let Some(stamps) = stamps {
        let [stamps] = message(stamps, ["rfc3161Timestamps"])?;
        bounded(list(stamps)?.len(), MAX_TLOG_ENTRIES, "time stamps")?;
    }
    Ok((key.is_some(), entries))
}

#[cfg(test)]
mod tests;
