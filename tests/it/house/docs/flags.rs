//! Flags that pages name exist.

use std::collections::BTreeSet;

use super::page::manual;
use crate::kit::command::commands;

/// Flags of other programs that form a whole code span.
const FOREIGN: [&str; 2] = ["--insecure-ignore-tlog", "--allow-http-registry"];

/// The flag at the start of a code span.
fn flag(span: &str) -> Option<&str> {
    let end = span.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(span.len());
    Some(&span[..end]).filter(|flag| flag.starts_with("--") && flag.len() > 3)
}

#[tokio::test]
async fn every_flag_on_a_page_is_one_of_a_command() {
    let helps: Vec<_> = commands().await.into_iter().map(|(_, help)| help).collect();
    let known: BTreeSet<_> =
        helps.iter().flat_map(|help| help.split([' ', '\n', '[', ',', '('])).filter_map(flag).collect();
    assert!(known.contains("--copy-policy") && known.len() > 50, "{known:?}");
    let mut count = 0;
    for page in manual() {
        for (line, span) in &page.spans {
            let Some(flag) = flag(span) else { continue };
            count += 1;
            assert!(known.contains(flag) || FOREIGN.contains(&flag), "{}:{line}: no command has {flag}", page.name);
        }
    }
    assert!(count > 100, "only {count} flags were found");
}

#[test]
fn a_flag_is_read_without_its_value() {
    assert_eq!(flag("--deep=bytes"), Some("--deep"));
    assert_eq!(flag("--allow-insecure-registry[=HOST,…]"), Some("--allow-insecure-registry"));
    assert_eq!(flag("seed --deep"), None);
}
