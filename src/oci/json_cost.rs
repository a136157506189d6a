//! The cost of JSON: the number of its values, counted before a reader allocates each.
//!
//! A bound on bytes is not a bound on memory. `"",` is three bytes and becomes a string of twenty-four, `"a":"",` a node
//! of a tree: four mebibytes of untrusted JSON can fill hundreds. Code that parses untrusted JSON into values calls this
//! first.

/// Returns whether `json` holds more than about `limit` values.
#[must_use]
pub(crate) fn exceeds(json: &[u8], limit: usize) -> bool {
    count(json) > limit
}

/// Returns about how many values `json` holds. For text that is not JSON the number means nothing: its reader refuses it.
#[must_use]
pub(crate) fn count(json: &[u8]) -> usize {
    // Every value except the first of its list or object comes after a comma.
    let (mut commas, mut is_text, mut is_escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b',' if !is_text => commas += 1,
            _ => {}
        }
    }
    commas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_text_is_not() {
        for (json, commas) in [
            ("[]", 0),
            ("[1,2,3]", 2),
            (r#"{"a":"b,c,d","e":[{},{}]}"#, 2),
            (r#"["\",","x\\",","]"#, 2),
            (r#""a,b"#, 0),
        ] {
            assert_eq!(count(json.as_bytes()), commas, "{json}");
        }
    }
}
