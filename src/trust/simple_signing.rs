//! Legacy payloads ("simple signing"): cosign signs them under the tag `sha256-<hex>.sig`.
//!
//! The parser is stricter than cosign's own, like the one of the containers tools: exact sets of fields, exact letters,
//! no key twice, nothing after the end. Refuses a payload that two parsers could understand differently.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::claim::{Claim, SIGNED_AT, seconds};
use super::failure::{ErrorClass, Failure};
use crate::document::json;
use crate::oci::{Digest, Repository};

/// The media type of a payload.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation, on the layer, that holds the signature in base64.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Largest payload that is read, in bytes; cosign writes 300.
pub const MAX_BYTES: u64 = 1 << 20;

const TYPE: &str = "cosign container image signature";

/// Returns the payload that `digest` is signed, under the name `repository`, at `signed_at`. Identical byte for byte to
/// the payload that cosign writes.
#[must_use]
pub fn legacy(repository: &Repository, digest: &Digest, signed_at: Option<Timestamp>) -> Vec<u8> {
    let optional = match signed_at {
        Some(time) => format!(r#"{{"{SIGNED_AT}":"{}"}}"#, seconds(time)),
        None => "null".to_owned(),
    };
    // Neither a repository nor a digest contains a character that JSON escapes.
    let text = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{TYPE}"}},"optional":{optional}}}"#
    );
    text.into_bytes()
}

/// Parses a payload whose signature has been verified, and checks that it is about `digest`.
pub(crate) fn read(bytes: &[u8], digest: &Digest) -> Result<Claim, Failure> {
    let format = |why: String| Failure::new(ErrorClass::SigFormat, format!("the signed payload {why}"));
    let whole = json::parse(bytes).map_err(|why| format(format!("is not readable: {why}")))?;
    let [critical, optional] = fields(&whole, ["critical", "optional"]).map_err(format)?;
    let [identity, image, kind] = fields(critical, ["identity", "image", "type"]).map_err(format)?;
    let [reference] = fields(identity, ["docker-reference"]).map_err(format)?;
    let [signed] = fields(image, ["docker-manifest-digest"]).map_err(format)?;
    let text = |value: &Value, what: &str| {
        value.as_str().map(str::to_owned).ok_or_else(|| format(format!("has a {what} that is no text")))
    };
    let (kind, signed, reference) =
        (text(kind, "type")?, text(signed, "docker-manifest-digest")?, text(reference, "docker-reference")?);
    let signed_at = match optional {
        Value::Null => None,
        Value::Object(optional) => optional.get(SIGNED_AT).cloned(),
        _ => return Err(format("has an `optional` that is neither null nor an object".into())),
    };
    if kind != TYPE {
        return Err(Failure::new(ErrorClass::SigPayloadType, format!("signed as {kind:?}, not as {TYPE:?}")));
    }
    if signed != digest.to_string() {
        return Err(Failure::new(ErrorClass::SigDigestMismatch, format!("signed is {signed}, verified is {digest}")));
    }
    Ok(Claim { identity: Some(reference), signed_at })
}

/// Returns the values of exactly the fields `names`.
pub(crate) fn fields<'a, const N: usize>(value: &'a Value, names: [&str; N]) -> Result<[&'a Value; N], String> {
    let map: &Map<_, _> = value.as_object().ok_or("has something else where an object belongs")?;
    if let Some(other) = map.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(format!("has a field {other:?} that does not belong there"));
    }
    let mut found = [value; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = map.get(name).ok_or_else(|| format!("has no field {name:?}"))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"critical":{"identity":{"docker-reference":"127.0.0.1:5599/robot-behavior"},"image":{"docker-manifest-digest":"sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de"},"type":"cosign container image signature"},"optional":{"autonomy.signed-at":"2026-01-15T12:00:00Z"}}"#;

    fn digest() -> Digest {
        "sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_what_cosign_writes() {
        let repository = "127.0.0.1:5599/robot-behavior".parse::<crate::oci::Reference>().unwrap().repository;
        let time = "2026-01-15T12:00:00.9Z".parse().unwrap();
        let bytes = legacy(&repository, &digest(), Some(time));
        assert_eq!(bytes, GOLDEN.as_bytes());
        let claim = read(&bytes, &digest()).unwrap();
        assert_eq!(claim.identity.as_deref(), Some("127.0.0.1:5599/robot-behavior"));
        assert_eq!(claim.signed_at, Some("2026-01-15T12:00:00Z".into()));
        assert_eq!(read(&legacy(&repository, &digest(), None), &digest()).unwrap().signed_at, None);
    }

    #[test]
    fn a_payload_that_two_readers_could_read_differently_is_refused() {
        for (old, new) in [
            (r#""critical""#, r#""Critical""#),
            (r#""type""#, r#""x":1,"type""#),
            (r#""optional":{"#, r#""optional":{"a":{"b":1,"b":2},"#),
            (r#","optional":{"autonomy.signed-at":"2026-01-15T12:00:00Z"}"#, ""),
            (r#"{"autonomy.signed-at":"2026-01-15T12:00:00Z"}"#, "[]"),
            (r#""docker-reference":"#, r#""docker-reference":1,"docker-reference":"#),
            (r#""127.0.0.1:5599/robot-behavior""#, "null"),
            ("}}", "}}x"),
        ] {
            assert!(GOLDEN.contains(old), "{old}");
            let failure = read(GOLDEN.replacen(old, new, 1).as_bytes(), &digest()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::SigFormat, "{new}: {failure}");
        }
        let deep = GOLDEN.replace(r#""2026-01-15T12:00:00Z""#, &format!("{}{}", "[".repeat(1000), "]".repeat(1000)));
        assert_eq!(read(deep.as_bytes(), &digest()).unwrap_err().class, ErrorClass::SigFormat);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_none_pass_by_chance(at in 0usize..286, byte in proptest::num::u8::ANY) {
            let mut bytes = GOLDEN.as_bytes().to_vec();
            bytes[at] = byte;
            if read(&bytes, &digest()).is_ok() {
                // Only the parts that the payload does not fix may differ: the name and the value of `optional`.
                let (reference, optional) = ((45..74), (GOLDEN.len() - 45)..GOLDEN.len());
                proptest::prop_assert!(GOLDEN.as_bytes()[at] == byte || reference.contains(&at) || optional.contains(&at));
            }
        }
    }
}
