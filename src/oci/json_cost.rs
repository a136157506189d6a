//! The weight of JSON: how many values it holds, counted before a reader makes something of each.
//!
//! A bound on bytes is not one on memory. `"",` is three bytes and becomes a string of twenty-four, `"a":"",` a tree's
//! node: four mebibytes of JSON from a stranger can fill hundreds. Whoever reads foreign JSON into values asks here first.

/// Whether `json` holds more than about `limit` values.
#[must_use]
pub(crate) fn exceeds(json: &[u8], limit: usize) -> bool {
    count(json) > limit
}

/// About how many values `json` holds. Of text that is no JSON this says nothing: its reader refuses it.
#[must_use]
pub(crate) fn count(json: &[u8]) -> usize {
    // Every value but the first of its list or object comes after a comma.
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
