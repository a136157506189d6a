//! Transparency-log entries: whether a trusted log has recorded a signature. Offline: an entry contains its proof, and
//! no request is sent.
//!
//! An entry needs two checks: the log must vouch for it, by a promise (a *signed entry timestamp*) or by a place in its
//! tree; and it must be about this very signature ([`body`]). The signature does not cover the entry, so a server can
//! omit it: only [`Tlog::Required`] makes that a failure. The time of an entry is the log's claim of when it recorded
//! the signature. Reports print it, but it never replaces the signed time of signing.

mod body;
mod checkpoint;
mod merkle;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

pub(crate) use self::body::Signed;
use self::body::{Generation, format, untrusted};
use self::checkpoint::Checkpoint;
use self::merkle::{Hash, MAX_PATH};
use super::failure::{ErrorClass, Failure};
use super::key::{PublicKey, short};
use super::protojson::{self, MAX_NUMBER, bounded, list, message, number, text};
use super::simple_signing::fields;
use crate::document::json;
use crate::oci::Digest;

/// The annotation, on the layer of a legacy signature, that holds its entry.
pub(crate) const ANNOTATION: &str = "dev.sigstore.cosign/bundle";
/// Largest annotation that is read, in bytes: a body in base64, and little else.
const MAX_ANNOTATION_BYTES: usize = 2 * body::MAX_BYTES;

/// Whether a transparency log must vouch for the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tlog {
    /// A signature without an entry is accepted.
    NotAsked,
    /// There must be an entry, of a log whose key is known, and it must verify.
    Required,
}

/// The entry of a signature; nothing in it is trusted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    log: Vec<u8>,
    index: u64,
    /// Seconds since 1970, of the promise.
    time: u64,
    /// The kind and version that a bundle gives beside the body.
    kind: Option<(String, String)>,
    body: Vec<u8>,
    promise: Option<Vec<u8>>,
    inclusion: Option<Inclusion>,
}

/// The proof that an entry is in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inclusion {
    index: u64,
    size: u64,
    root: Hash,
    path: Vec<Hash>,
    checkpoint: Checkpoint,
}

/// A verified entry: a log has recorded the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    log: String,
    index: u64,
    /// The time; none if the log does not sign it.
    time: Option<Timestamp>,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log entry {} of log {}", self.index, short(&self.log))?;
        self.time.map_or(Ok(()), |time| write!(f, " at {time}"))
    }
}

/// Checks the entries of a signature, after all other checks of it. Reads them only if there is a trusted log; a
/// missing entry is a failure only if one is required.
///
/// Ignores entries of untrusted logs if there is one of a trusted log: a signature may be recorded in several. Refuses
/// an entry of a trusted log that the log does not vouch for, in any case.
pub(crate) fn check(
    log_keys: &[PublicKey],
    tlog: Tlog,
    signed: &Signed<'_>,
    entries: impl FnOnce() -> Result<Vec<Entry>, Failure>,
) -> Result<Option<Recorded>, Failure> {
    let required =
        |why| if tlog == Tlog::Required { Err(Failure::new(ErrorClass::TlogRequired, why)) } else { Ok(None) };
    if log_keys.is_empty() {
        return required("a transparency-log entry is demanded, and no log's key was given to check one with");
    }
    let (mut found, mut stranger) = (None, None);
    for entry in entries()? {
        match log_keys.iter().find(|key| entry.is_of(key)) {
            Some(key) => {
                let recorded = entry.check(key, signed)?;
                found.get_or_insert(recorded);
            }
            None => {
                let trusted: Vec<_> = log_keys.iter().map(|key| short(&key.fingerprint())).collect();
                let log = short(&hex::encode(&entry.log));
                let why = format!("is of log {log}, which is not a trusted one ({})", trusted.join(", "));
                stranger.get_or_insert_with(|| untrusted(&why));
            }
        }
    }
    match (found, stranger) {
        (Some(recorded), _) => Ok(Some(recorded)),
        (None, Some(failure)) => Err(failure),
        (None, None) => required("a transparency-log entry is demanded, and the signature carries none"),
    }
}

/// Returns the fields of an entry in a bundle.
pub(crate) fn parts(entry: &Value) -> Result<[Option<&Value>; 7], Failure> {
    let names = [
        "logIndex",
        "logId",
        "kindVersion",
        "integratedTime",
        "inclusionPromise",
        "inclusionProof",
        "canonicalizedBody",
    ];
    let parts = message(entry, names)?;
    if parts[5].is_none() {
        return Err(protojson::format("has a log entry without an inclusion proof"));
    }
    Ok(parts)
}

impl Entry {
    /// Parses the [`ANNOTATION`] of a legacy signature: a promise, and no place in a tree.
    pub(crate) fn from_annotation(text: &str) -> Result<Self, Failure> {
        if text.len() > MAX_ANNOTATION_BYTES {
            return Err(too_long(text.len(), MAX_ANNOTATION_BYTES));
        }
        let lacks = |why: String| format(&why);
        let whole = json::parse(text.as_bytes()).map_err(|why| format(&format!("is not readable: {why}")))?;
        let [promise, payload] = fields(&whole, ["SignedEntryTimestamp", "Payload"]).map_err(lacks)?;
        let names = ["body", "integratedTime", "logIndex", "logID"];
        let [body, time, index, log] = fields(payload, names).map_err(lacks)?;
        let text =
            |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format("has no text where one belongs"));
        let base64 = |value: &Value| {
            STANDARD.decode(text(value)?).map_err(|why| format(&format!("has a field that is not base64: {why}")))
        };
        let number = |value: &Value| {
            let number = value.as_u64().filter(|number| *number <= MAX_NUMBER);
            number.ok_or_else(|| format("has no count where one belongs"))
        };
        Self {
            log: hex::decode(text(log)?).map_err(|why| format(&format!("has a logID that is not hex: {why}")))?,
            index: number(index)?,
            time: number(time)?,
            kind: None,
            body: base64(body)?,
            promise: Some(base64(promise)?),
            inclusion: None,
        }
        .bounded()
    }

    /// Parses an entry of a bundle.
    pub(super) fn from_bundle(entry: &Value) -> Result<Self, Failure> {
        let [index, log, kind, time, promise, inclusion, body] = parts(entry)?;
        let [log] = message(log.unwrap_or(&Value::Null), ["keyId"])?;
        let [kind, version] = message(kind.unwrap_or(&Value::Null), ["kind", "version"])?;
        let [promise] = message(promise.unwrap_or(&Value::Null), ["signedEntryTimestamp"])?;
        Self {
            log: protojson::bytes(log)?,
            index: number(index)?,
            time: number(time)?,
            kind: Some((text(kind)?.to_owned(), text(version)?.to_owned())),
            body: protojson::bytes(body)?,
            promise: Some(protojson::bytes(promise)?).filter(|promise| !promise.is_empty()),
            inclusion: inclusion.map(Inclusion::read).transpose()?,
        }
        .bounded()
    }

    fn bounded(self) -> Result<Self, Failure> {
        if self.body.len() > body::MAX_BYTES { Err(too_long(self.body.len(), body::MAX_BYTES)) } else { Ok(self) }
    }

    /// Whether the entry claims to be of the log of `key`: by the hash of the key, or by the identity that newer logs
    /// use.
    fn is_of(&self, key: &PublicKey) -> bool {
        self.log == Digest::sha256(key.spki()).as_bytes()
            || self.inclusion.as_ref().is_some_and(|inclusion| inclusion.checkpoint.is_of(&self.log, key))
    }

    /// Checks that the log of `key` vouches for this entry, and that it is about `signed`.
    fn check(&self, key: &PublicKey, signed: &Signed<'_>) -> Result<Recorded, Failure> {
        self.vouched(key)?;
        let body = body::parse(&self.body)?;
        let said = body::kind(&body);
        if self.kind.as_ref().is_some_and(|(kind, version)| (kind.as_str(), version.as_str()) != said) {
            return Err(format("says that its body is of another kind than it is"));
        }
        match body::check(&body, signed)? {
            Generation::One if self.promise.is_none() => return Err(untrusted("bears no promise of its log")),
            // Without a promise nothing else signs the index.
            Generation::Two if self.inclusion.as_ref().is_none_or(|inclusion| inclusion.index != self.index) => {
                return Err(untrusted("stands elsewhere in its log than it says"));
            }
            Generation::One | Generation::Two => {}
        }
        let time = i64::try_from(self.time).ok().and_then(|time| Timestamp::from_second(time).ok());
        let time = time.ok_or_else(|| format("has a time that is none"))?;
        let time = Some(time).filter(|_| self.promise.is_some());
        Ok(Recorded { log: hex::encode(&self.log), index: self.index, time })
    }

    /// Checks the log's side: every proof in the entry must be valid.
    fn vouched(&self, key: &PublicKey) -> Result<(), Failure> {
        if let Some(promise) = &self.promise
            && !key.verifies(self.promised().as_bytes(), promise)
        {
            return Err(untrusted("bears a promise that the log's key did not sign"));
        }
        self.inclusion.as_ref().map_or(Ok(()), |inclusion| inclusion.check(&self.body, key))
    }

    /// Returns the text that a promise signs: these four fields as canonical JSON (RFC 8785).
    fn promised(&self) -> String {
        let (body, log) = (STANDARD.encode(&self.body), hex::encode(&self.log));
        format!(r#"{{"body":"{body}","integratedTime":{},"logID":"{log}","logIndex":{}}}"#, self.time, self.index)
    }
}

impl Inclusion {
    fn read(proof: &Value) -> Result<Self, Failure> {
        let [index, root, size, path, checkpoint] =
            message(proof, ["logIndex", "rootHash", "treeSize", "hashes", "checkpoint"])?;
        let [checkpoint] = message(checkpoint.unwrap_or(&Value::Null), ["envelope"])?;
        let hash = |value| -> Result<Hash, Failure> {
            protojson::bytes(value)?.try_into().map_err(|_| format("has a hash that is not of 32 bytes"))
        };
        let path = list(path)?;
        bounded(path.len(), MAX_PATH, "hashes in one inclusion proof")?;
        Ok(Self {
            index: number(index)?,
            size: number(size)?,
            root: hash(root)?,
            path: path.iter().map(|value| hash(Some(value))).collect::<Result<_, _>>()?,
            checkpoint: Checkpoint::parse(text(checkpoint)?)
                .map_err(|why| format(&format!("has a checkpoint that {why}")))?,
        })
    }

    /// Checks that `body` is a leaf of the tree that the log of `key` has signed.
    fn check(&self, body: &[u8], key: &PublicKey) -> Result<(), Failure> {
        let Self { index, size, root, path, checkpoint } = self;
        checkpoint.check(key).map_err(|why| untrusted(&format!("has a checkpoint that {why}")))?;
        if (checkpoint.size, &checkpoint.root) != (*size, root) {
            return Err(untrusted("has a checkpoint of another tree than its inclusion proof"));
        }
        if merkle::root(merkle::leaf(body), *index, *size, path).as_ref() != Some(root) {
            return Err(untrusted("is not in the tree that its checkpoint signs"));
        }
        Ok(())
    }
}

fn too_long(length: usize, limit: usize) -> Failure {
    Failure::new(ErrorClass::SigLimit, format!("the log entry has {length} bytes where {limit} are read"))
}
