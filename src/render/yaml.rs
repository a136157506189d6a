//! YAML in its plainest form: blocks for structure, and every text in double quotes.
//!
//! Double-quoted YAML is JSON's way of quoting, plus the characters that YAML does not allow in a file. Nothing that
//! stands in quotes is ever read as a number, a key, an alias or a comment.

use std::fmt::{self, Write as _};

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    /// A text, whatever is in it.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A list; never empty.
    List(Vec<Self>),
    /// Keys of our own choosing, with their values; never empty.
    Map(Vec<(&'static str, Self)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Text(text) => quote(f, text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(items) => items.iter().enumerate().try_for_each(|(number, item)| {
                new_line(f, number, indent)?;
                f.write_str("- ")?;
                item.write(f, indent + 2)
            }),
            Self::Map(entries) => entries.iter().enumerate().try_for_each(|(number, (key, value))| {
                new_line(f, number, indent)?;
                write!(f, "{key}:")?;
                match value {
                    Self::Text(_) | Self::Flag(_) => f.write_char(' ')?,
                    Self::List(_) | Self::Map(_) => write!(f, "\n{:1$}", "", indent + 2)?,
                }
                value.write(f, indent + 2)
            }),
        }
    }
}

/// Begins every line but the first, which stands where the caller has left off.
fn new_line(f: &mut fmt::Formatter<'_>, number: usize, indent: usize) -> fmt::Result {
    if number == 0 { Ok(()) } else { write!(f, "\n{:indent$}", "") }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            // What YAML 1.2 does not count as printable, and what it may take for a line's end or a mark of byte order.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                write!(f, "\\u{:04x}", u32::from(c))?;
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// The whole as a document, with a newline at the end.
impl fmt::Display for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)?;
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_indented_and_texts_are_quoted() {
        let list = Yaml::List(vec![
            Yaml::text("a"),
            Yaml::Map(vec![("x", Yaml::text("#1")), ("y", Yaml::List(vec![Yaml::Flag(true), Yaml::text("no")]))]),
        ]);
        let whole = Yaml::Map(vec![("one", Yaml::text("a: \"b\"\n")), ("two", list)]);
        let text = whole.to_string();
        assert_eq!(
            text,
            "one: \"a: \\\"b\\\"\\n\"\ntwo:\n  - \"a\"\n  - x: \"#1\"\n    y:\n      - true\n      - \"no\"\n"
        );
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, serde_json::json!({"one": "a: \"b\"\n", "two": ["a", {"x": "#1", "y": [true, "no"]}]}));
    }

    proptest::proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(text in proptest::collection::vec(proptest::char::any(), 0..40)) {
            let text: String = text.into_iter().collect();
            let whole = Yaml::Map(vec![("key", Yaml::List(vec![Yaml::text(&text), Yaml::text(&text)]))]).to_string();
            let read: serde_json::Value = serde_saphyr::from_str(&whole).map_err(|why| proptest::test_runner::TestCaseError::fail(format!("{why}: {whole}")))?;
            proptest::prop_assert_eq!(read, serde_json::json!({"key": [&text, &text]}));
        }

        #[test]
        fn so_does_every_text_that_looks_like_syntax(text in "[-:#&*!|>'\"%@`{}\\[\\],?~=<\\\\ \\t\\n\r0-9a-z\u{85}\u{2028}\u{feff}]{0,20}") {
            let whole = Yaml::Map(vec![("key", Yaml::text(&text))]).to_string();
            let read: serde_json::Value = serde_saphyr::from_str(&whole).map_err(|why| proptest::test_runner::TestCaseError::fail(format!("{why}: {whole}")))?;
            proptest::prop_assert_eq!(read, serde_json::json!({"key": &text}));
        }
    }
}
