//! Protobuf's JSON, the format of sigstore bundles: names in camelCase or snake_case, `null` for absent.
//!
//! Stricter than protobuf requires: refuses an unknown name, and a name that occurs twice in either spelling.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::failure::{ErrorClass, Failure};

/// The largest number that is exact in every JSON parser, 2^53 - 1 (RFC 7493); logs sign JSON, and count to far less.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

pub(crate) fn format(why: &str) -> Failure {
    Failure::new(ErrorClass::SigFormat, format!("the bundle {why}"))
}

pub(crate) fn bounded(count: usize, limit: usize, what: &str) -> Result<(), Failure> {
    if count <= limit {
        return Ok(());
    }
    Err(Failure::new(ErrorClass::SigLimit, format!("the bundle has {count} {what}; {limit} are read")))
}

/// Returns the fields of a protobuf message, by their camelCase names.
pub(crate) fn message<'a, const N: usize>(
    value: &'a Value,
    names: [&str; N],
) -> Result<[Option<&'a Value>; N], Failure> {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Ok([None; N]),
        _ => return Err(format(&format!("has no object where one of {} belongs", names.join(", ")))),
    };
    let mut found = [None; N];
    for (key, value) in map {
        let at = names.iter().position(|name| name == key || snake_case(name) == *key);
        let at = at.ok_or_else(|| format(&format!("has an unknown field {key:?}")))?;
        if found[at].replace(value).is_some() {
            return Err(format(&format!("has the field {:?} twice", names[at])));
        }
    }
    Ok(found.map(|value| value.filter(|value| !value.is_null())))
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Returns a text. An absent one is empty, as in protobuf.
pub(crate) fn text(value: Option<&Value>) -> Result<&str, Failure> {
    match value {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format("has something else where a text belongs")),
    }
}

pub(crate) fn list(value: Option<&Value>) -> Result<&[Value], Failure> {
    match value {
        None => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format("has something else where a list belongs")),
    }
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Decodes standard or URL-safe base64, padded or not (DSSE, "Protocol").
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    let is_url_safe = text.contains(['-', '_']);
    let alphabet = if is_url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let engine = GeneralPurpose::new(alphabet, LENIENT);
    engine.decode(text).map_err(|why| format(&format!("has a field that is not base64: {why}")))
}

/// Returns a non-negative number of 64 bits, which protobuf writes as a text. An absent one is 0.
pub(crate) fn number(value: Option<&Value>) -> Result<u64, Failure> {
    let number = match value {
        None => Some(0),
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    number.filter(|number| *number <= MAX_NUMBER).ok_or_else(|| format("has something else where a count belongs"))
}

/// Returns bytes in base64; absent ones are empty.
pub(crate) fn bytes(value: Option<&Value>) -> Result<Vec<u8>, Failure> {
    decode(text(value)?)
}
