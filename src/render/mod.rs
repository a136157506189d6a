//! Files that other programs read: zot's configuration, a compose file, a Zarf package.
//!
//! Takes values and returns text; the caller decides where to write it. Every text is checked against the schema or the
//! source of the program that reads it, and every value in it is quoted: a path or a reference never becomes syntax.

pub(crate) mod compose;
pub(crate) mod zarf;
pub(crate) mod zot;

/// Returns `document` as YAML with every text in quotes.
///
/// Without the quotes the serializer would write block scalars, which Zarf's reader (goccy/go-yaml) does not read, and texts
/// such as `no` that YAML 1.1 readers take for booleans.
fn yaml(document: &impl serde::Serialize) -> String {
    let options = serde_saphyr::ser_options! { quote_all: true, compact_list_indent: false };
    serde_saphyr::to_string_with_options(document, options).expect("structs of texts and flags are always YAML")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::test_runner::TestCaseError;

    use super::*;

    fn read(text: &str) -> Result<serde_json::Value, TestCaseError> {
        serde_saphyr::from_str(text).map_err(|why| TestCaseError::fail(format!("{why}: {text}")))
    }

    #[test]
    fn blocks_are_indented_and_texts_are_quoted() {
        #[derive(serde::Serialize)]
        struct Inner {
            a: &'static str,
            b: Vec<&'static str>,
            c: bool,
        }
        let document = BTreeMap::from([("one", vec![Inner { a: "#1", b: vec!["no", "it's: \"b\"\n"], c: true }])]);
        let text = yaml(&document);
        assert_eq!(text, "one:\n  - a: '#1'\n    b:\n      - 'no'\n      - \"it's: \\\"b\\\"\\n\"\n    c: true\n");
        let expected = serde_json::json!({"one": [{"a": "#1", "b": ["no", "it's: \"b\"\n"], "c": true}]});
        assert_eq!(read(&text).unwrap(), expected);
    }

    proptest::proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(text in proptest::collection::vec(proptest::char::any(), 0..40)) {
            let text: String = text.into_iter().collect();
            let document = BTreeMap::from([("key", [&text, &text])]);
            proptest::prop_assert_eq!(read(&yaml(&document))?, serde_json::json!({"key": [&text, &text]}));
        }

        #[test]
        fn so_does_every_text_that_looks_like_syntax(text in "[-:#&*!|>'\"%@`{}\\[\\],?~=<\\\\ \\t\\n\r0-9a-z\u{85}\u{2028}\u{feff}]{0,20}") {
            let whole = yaml(&BTreeMap::from([("key", &text)]));
            // One line: no reader has to know block scalars.
            proptest::prop_assert!(whole.starts_with("key: ") && whole.lines().count() == 1, "{}", whole);
            proptest::prop_assert_eq!(read(&whole)?, serde_json::json!({"key": &text}));
        }
    }
}
