//! Properties of locks, policy bundles and seed manifests, for any bytes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use serde_json::Value;

use super::lock::{Escapes, Lock};
use super::policy_bundle::{self, Policy};
use super::{SeedManifest, json};
use crate::oci::json_cost;

/// Checks that strict JSON means the same to every reader, and that a lock's canonical bytes are a fixed point.
pub(crate) fn lock(bytes: &[u8]) {
    strict_json(bytes);
    let Ok(lock) = Lock::parse(bytes) else { return };
    let said = lock.check_fingerprint();
    for escapes in [Escapes::Go, Escapes::Plain] {
        let canonical = lock.canonical(escapes);
        // The most that a byte becomes: six characters for `<`, and twenty-one digits for `1e20`.
        assert!(canonical.len() <= 8 * bytes.len(), "{} bytes became {}", bytes.len(), canonical.len());
        assert!(escapes == Escapes::Plain || !canonical.iter().any(|b| b"<>&".contains(b)));
        written_otherwise(&lock, &canonical, escapes);
        let again = Lock::parse(&with_fingerprint(&canonical, lock.fingerprint())).expect("canonical bytes are a lock");
        assert_eq!(again.canonical(escapes), canonical, "canonical bytes are their own");
        assert_eq!(again.check_fingerprint(), said, "and so is their fingerprint");
    }
    assert_eq!(lock.to_bytes().last(), Some(&b'\n'));
    assert_eq!(Lock::parse(&lock.to_bytes()), Ok(lock.clone()), "written and read again");
    let (agent, policy) = (lock.agent_artifact().clone(), lock.policy_bundle().clone());
    let sealed = Lock::new(agent, policy, lock.inputs().clone());
    assert_eq!(sealed.check_fingerprint(), Ok(Escapes::Go));
    assert_eq!((sealed.agent_artifact(), sealed.inputs()), (lock.agent_artifact(), lock.inputs()));
}

/// Checks the lock as another writer encodes it: the same bytes except for numbers, and the numbers are equal.
fn written_otherwise(lock: &Lock, canonical: &[u8], escapes: Escapes) {
    let mut whole = json::parse(&lock.to_bytes()).expect("what is written can be read");
    whole.as_object_mut().and_then(|map| map.remove("behavioral_fingerprint")).expect("the fingerprint");
    let theirs = whole.to_string();
    let text = std::str::from_utf8(canonical).expect("canonical bytes are text");
    if escapes == Escapes::Plain && !has_floats(&whole) {
        assert_eq!(text, theirs, "keys sorted by bytes, nothing between");
    }
    assert!(is_same(&whole, &json::parse(canonical).expect("canonical bytes are JSON")));
    // Go writes an exponent from 1e21 on and below 1e-6: twenty-five characters at most.
    let is_number = |c: char| c.is_ascii_digit() || "+-.e".contains(c);
    let outside = text.split('"').step_by(2).filter(|_| !text.contains('\\'));
    assert!(outside.flat_map(|text| text.split(|c| !is_number(c))).all(|number| number.len() <= 25), "{text}");
}

fn has_floats(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(has_floats),
        Value::Object(map) => map.values().any(has_floats),
        _ => value.is_f64(),
    }
}

/// Returns whether both are equal, whether a number is written as `1.0` or as `1`.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one): (&String, &Value)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn with_fingerprint(canonical: &[u8], fingerprint: &str) -> Vec<u8> {
    let rest = canonical.strip_prefix(b"{").expect("an object");
    let mut whole = format!(r#"{{"behavioral_fingerprint":{},"#, Value::from(fingerprint)).into_bytes();
    whole.extend_from_slice(rest);
    whole
}

fn strict_json(bytes: &[u8]) {
    match json::parse(bytes) {
        Ok(ours) => {
            assert!(json_cost::count(bytes) <= json::MAX_VALUES && values(&ours) <= bytes.len());
            assert_eq!(members(&ours), colons(bytes), "a key that was said twice is lost");
            assert!(is_private(&ours) || elsewhere(bytes) == Some(ours), "read otherwise elsewhere");
        }
        Err(why) => {
            let why = why.to_string();
            assert!(elsewhere(bytes).is_none() || why.contains("duplicate key") || why.contains("more than"), "{why}");
        }
    }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(members).sum(),
        Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
        _ => 0,
    }
}

/// Counts the colons outside strings: one per member.
fn colons(json: &[u8]) -> usize {
    let mut bytes = json.iter();
    let (mut count, mut is_text) = (0, false);
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if is_text => drop(bytes.next()),
            b'"' => is_text = !is_text,
            b':' if !is_text => count += 1,
            _ => {}
        }
    }
    count
}

/// Returns the value as another reader sees it; none if that reader fails.
pub(crate) fn elsewhere(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// Returns whether a key in it means something else to serde_json's own reader than to all others.
pub(crate) fn is_private(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(is_private),
        Value::Object(map) => {
            map.iter().any(|(key, value)| key.starts_with("$serde_json::private") || is_private(value))
        }
        _ => false,
    }
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    }
}

/// Checks that an accepted archive holds the files that it reports, once each, in its own folder and within its bounds.
///
/// Bytes that are not gzip are treated as the tar inside, with the right checksums in its headers: a mutation of
/// compressed bytes would never pass them.
pub(crate) fn policy(bytes: &[u8]) {
    let archive = if bytes.starts_with(&[0x1f, 0x8b]) { bytes.to_vec() } else { stored(&mended(bytes)) };
    let Ok(policy) = Policy::read(&archive) else { return };
    assert!(policy.files.len() <= policy_bundle::MAX_ENTRIES);
    let once: BTreeSet<_> = policy.files.iter().collect();
    assert!(once.len() == policy.files.len() && once.contains(&"manifest.json".to_owned()));
    for name in &policy.files {
        assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."), "{name:?}");
        assert!(name.len() as u64 <= policy_bundle::MAX_NAME_BYTES * 3);
    }
    let version = policy.version.to_string();
    assert_eq!(policy_bundle::parse_version(&version).ok().as_ref(), Some(&policy.version));
    assert_eq!(policy_bundle::parse_version(&format!("v{version}")).ok(), Some(policy.version.clone()));
    packed_again(&policy, files(&archive));
}

/// Returns the files in an archive, read with the crates alone.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(archive));
    let (mut found, mut total) = (Vec::new(), 0);
    for entry in tar.entries().expect("it was read before") {
        let mut entry = entry.expect("it was read before");
        if !entry.header().entry_type().is_file() {
            continue;
        }
        total += entry.size();
        assert!(total <= policy_bundle::MAX_INFLATED_BYTES);
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("it was read before");
        found.push((name.strip_prefix("./").unwrap_or(&name).to_owned(), content));
    }
    found
}

fn packed_again(policy: &Policy, files: Vec<(String, Vec<u8>)>) {
    assert_eq!(policy.files, files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let Ok(packed) = policy_bundle::pack(files.clone()) else { return };
    assert_eq!(
        Ok(&packed),
        policy_bundle::pack(files.into_iter().rev().collect()).as_ref().map_err(ToString::to_string)
    );
    let again = Policy::read(&packed).expect("what is packed can be read");
    assert_eq!((again.version, again.name), (policy.version.clone(), policy.name.clone()));
    assert!(again.files.is_sorted() && again.files.len() == policy.files.len());
}

fn stored(tar: &[u8]) -> Vec<u8> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::none());
    gzip.write_all(tar).expect("memory takes everything");
    gzip.finish().expect("memory takes everything")
}

/// Sets the checksum of every block that looks like a header (POSIX ustar: the sum of its bytes, the field as spaces).
fn mended(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    tar
}

/// Checks that an accepted document is the same after writing and reading.
pub(crate) fn seed_manifest(bytes: &[u8]) {
    let Ok(manifest) = SeedManifest::parse(bytes) else { return };
    assert_eq!(manifest.schema_version, SeedManifest::version());
    let written = manifest.to_json().expect("every field can be written");
    assert_eq!(SeedManifest::parse(&written).ok(), Some(manifest.clone()));
    let repository = &manifest.dest_ref.repository;
    let line = super::seed_lock(repository, manifest.dest_digest);
    let pinned = line.strip_suffix('\n').and_then(|line| line.parse().ok());
    assert_eq!(pinned, Some(repository.pinned(manifest.dest_digest)));
}
