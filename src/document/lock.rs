//! The lock: which image, which policy and which inputs belong together, under one behavioural fingerprint.
//!
//! Unknown keys are kept and hashed, so that locks of later versions verify today; duplicate keys are refused at any
//! depth, because two readers would see two locks. The fingerprint is BLAKE3 over the canonical bytes (contract §7).

use serde_json::{Map, Value, json};

use super::json;
use crate::oci::Digest;

/// The media type of a lock, as a layer and as an artifact.
pub const MEDIA_TYPE: &str = "application/vnd.autonomyops.lock.v1+json";
/// Largest lock that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

const FINGERPRINT: &str = "behavioral_fingerprint";
const FINGERPRINT_PREFIX: &str = "blake3:";

/// Something that a lock pins: its name and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The reference at the time of sealing. For people; only its version tag is ever used.
    pub reference: String,
    /// The digest of the content, SHA-256.
    pub digest: Digest,
}

/// Hashes of other inputs that shaped the behaviour: `sha256:` or `blake3:` and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The prompt's hash.
    pub prompt_hash: String,
    /// The hash of the tools' inputs.
    pub tool_inputs_hash: String,
}

/// A lock that was read, or is about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    agent_artifact: Pin,
    policy_bundle: Pin,
    inputs: Inputs,
    fingerprint: String,
    /// All keys, unknown ones too.
    whole: Map<String, Value>,
}

/// Why bytes are not a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Not JSON, a duplicate key, or nested too deeply.
    #[error("the lock is not readable: {0}")]
    Json(String),
    /// A field that is missing or has the wrong form.
    #[error("the lock's {field} must be {expected}")]
    Field {
        /// The path of the field, such as `agent_artifact.digest`.
        field: &'static str,
        /// The expected form.
        expected: &'static str,
    },
}

/// Why a fingerprint does not match its lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Made with another hash function, or not a hash at all.
    #[error("the lock's fingerprint {0:?} does not start with blake3: (there is no fallback to another hash)")]
    Algorithm(String),
    /// The lock was changed after it was sealed.
    #[error("the lock says {said}, its content hashes to {computed}")]
    Mismatch {
        /// The fingerprint in the lock.
        said: String,
        /// The hash of its canonical bytes.
        computed: String,
    },
}

/// How the characters that HTML treats specially are written in the canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// As Go's `encoding/json` does by default: `<`, `>`, `&`, U+2028 and U+2029 as `\uXXXX`. Used for writing.
    Go,
    /// Unchanged.
    Plain,
}

impl Lock {
    /// Seals a new lock: computes the fingerprint of its content.
    #[must_use]
    pub fn new(agent_artifact: Pin, policy_bundle: Pin, inputs: Inputs) -> Self {
        let pin = |pin: &Pin| json!({"ref": pin.reference, "digest": pin.digest.to_string()});
        let mut whole = Map::new();
        whole.insert("schema_version".into(), "v0".into());
        whole.insert("agent_artifact".into(), pin(&agent_artifact));
        whole.insert("policy_bundle".into(), pin(&policy_bundle));
        let hashes = json!({"prompt_hash": inputs.prompt_hash, "tool_inputs_hash": inputs.tool_inputs_hash});
        whole.insert("inputs".into(), hashes);
        let mut lock = Self { agent_artifact, policy_bundle, inputs, fingerprint: String::new(), whole };
        lock.fingerprint = fingerprint(&lock.canonical(Escapes::Go));
        lock.whole.insert(FINGERPRINT.into(), lock.fingerprint.clone().into());
        lock
    }

    /// Reads a lock. Does not check its fingerprint: see [`Lock::check_fingerprint`].
    ///
    /// # Errors
    ///
    /// See [`LockError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        let Value::Object(whole) = json::parse(bytes).map_err(|why| LockError::Json(why.to_string()))? else {
            return Err(LockError::Json("not an object".into()));
        };
        let agent = ["agent_artifact", "agent_artifact.ref", "agent_artifact.digest"];
        let policy = ["policy_bundle", "policy_bundle.ref", "policy_bundle.digest"];
        let inputs = Inputs {
            prompt_hash: input(&whole, "prompt_hash", "inputs.prompt_hash")?,
            tool_inputs_hash: input(&whole, "tool_inputs_hash", "inputs.tool_inputs_hash")?,
        };
        let fingerprint = match whole.get(FINGERPRINT) {
            Some(Value::String(text)) => text.clone(),
            _ => return Err(LockError::Field { field: FINGERPRINT, expected: "a text" }),
        };
        Ok(Self {
            agent_artifact: pin(&whole, agent)?,
            policy_bundle: pin(&whole, policy)?,
            inputs,
            fingerprint,
            whole,
        })
    }

    /// Returns the image that the lock is for.
    #[must_use]
    pub fn agent_artifact(&self) -> &Pin {
        &self.agent_artifact
    }

    /// Returns the policy bundle that the lock is for: the digest is that of the `.tar.gz`.
    #[must_use]
    pub fn policy_bundle(&self) -> &Pin {
        &self.policy_bundle
    }

    /// Returns the hashes of the inputs.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Returns the fingerprint in the lock.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Compares the fingerprint with the content, with either form of escapes.
    ///
    /// # Errors
    ///
    /// See [`FingerprintError`].
    pub fn check_fingerprint(&self) -> Result<Escapes, FingerprintError> {
        if !self.fingerprint.starts_with(FINGERPRINT_PREFIX) {
            return Err(FingerprintError::Algorithm(self.fingerprint.clone()));
        }
        let go = fingerprint(&self.canonical(Escapes::Go));
        if self.fingerprint == go {
            return Ok(Escapes::Go);
        }
        if self.fingerprint == fingerprint(&self.canonical(Escapes::Plain)) {
            return Ok(Escapes::Plain);
        }
        Err(FingerprintError::Mismatch { said: self.fingerprint.clone(), computed: go })
    }

    /// Returns the bytes that are hashed: compact, keys sorted by their bytes at every level, without the fingerprint.
    #[must_use]
    pub fn canonical(&self, escapes: Escapes) -> Vec<u8> {
        let mut out = String::new();
        write_map(self.whole.iter().filter(|(key, _)| *key != FINGERPRINT), escapes, &mut out);
        out.into_bytes()
    }

    /// Returns the lock as a file: indented, with a newline at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{:#}\n", Value::Object(self.whole.clone())).into_bytes()
    }
}

fn fingerprint(canonical: &[u8]) -> String {
    format!("{FINGERPRINT_PREFIX}{}", blake3::hash(canonical).to_hex())
}

fn pin(whole: &Map<String, Value>, [key, reference, digest]: [&'static str; 3]) -> Result<Pin, LockError> {
    let text = |name| whole.get(key).and_then(|pin| pin.get(name)).and_then(Value::as_str);
    let expected = "sha256: and 64 lower-case hex digits";
    match text("digest").map(str::parse) {
        Some(Ok(parsed @ Digest::Sha256(_))) => Ok(Pin {
            reference: text("ref").ok_or(LockError::Field { field: reference, expected: "a text" })?.to_owned(),
            digest: parsed,
        }),
        _ => Err(LockError::Field { field: digest, expected }),
    }
}

fn input(whole: &Map<String, Value>, name: &str, field: &'static str) -> Result<String, LockError> {
    let text = whole.get("inputs").and_then(|inputs| inputs.get(name)).and_then(Value::as_str);
    let is_hash = |text: &&str| {
        let hex = text.strip_prefix("sha256:").or_else(|| text.strip_prefix(FINGERPRINT_PREFIX)).unwrap_or_default();
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let expected = "sha256: or blake3: and 64 lower-case hex digits";
    text.filter(is_hash).map(str::to_owned).ok_or(LockError::Field { field, expected })
}

/// Recursive: the reader bounds the nesting to 128 levels.
fn write(value: &Value, escapes: Escapes, out: &mut String) {
    match value {
        Value::Object(map) => write_map(map.iter(), escapes, out),
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, escapes, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, escapes, out),
        Value::Number(number) if number.is_f64() => out.push_str(&go_float(number.as_f64().unwrap_or_default())),
        Value::Number(_) | Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn write_map<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>, escapes: Escapes, out: &mut String) {
    let mut entries: Vec<_> = entries.collect();
    // Sorted here, not by the map: if any crate enables a certain feature of serde_json, the order of its map changes.
    entries.sort_by_key(|(key, _)| key.as_bytes());
    out.push('{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(key, escapes, out);
        out.push(':');
        write(value, escapes, out);
    }
    out.push('}');
}

fn write_text(text: &str, escapes: Escapes, out: &mut String) {
    let quoted = Value::from(text).to_string();
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if escapes == Escapes::Go => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
}

/// Writes a number with a fraction or an exponent as Go writes a `float64`: shortest, with an exponent below 1e-6 and
/// from 1e21 on.
fn go_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        };
    }
    value.to_string()
}

#[cfg(test)]
mod tests;
