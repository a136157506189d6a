//! The contract's sections can be cited: the code cites them, and each citation leads to a section.

use std::collections::BTreeSet;

use super::page::{Page, root};
use crate::kit::files::files_below;

/// The numbers after `contract §` in a text, commas and "and" between them.
fn cited(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for rest in text.split(CITATION).skip(1) {
        let list =
            rest.split(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' ' || c == '§')).next().unwrap_or_default();
        numbers.extend(list.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u32>().ok()));
    }
    numbers
}

/// Split in two, so that this file cites nothing.
const CITATION: &str = concat!("contract ", "§");

/// The numbers of the headings.
fn sections(page: &Page) -> BTreeSet<u32> {
    page.anchors.iter().filter_map(|heading| heading.split_once(". ")?.0.parse().ok()).collect()
}

#[test]
fn every_section_of_the_contract_that_the_code_cites_exists() {
    let sections = sections(&Page::read("docs/contract.md"));
    let sources = ["src", "tests", "benches", "fuzz/fuzz_targets", "testkit"];
    let mut count = 0;
    for path in sources.iter().flat_map(|folder| files_below(&root().join(folder), ".rs")) {
        for number in cited(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            assert!(sections.contains(&number), "{}: there is no section {number}", path.display());
        }
    }
    assert!(count >= 10, "only {count} citations were found");
}

#[test]
fn citations_are_read_with_all_their_numbers() {
    let text = format!("({CITATION}8). And {CITATION}1, 2 or {CITATION}10:");
    assert_eq!(cited(&text), [8, 1, 2, 10]);
    let page = Page::parse("p.md", "## 1. A\n\n### b\n\n## 10. C\n".to_owned());
    assert_eq!(sections(&page), BTreeSet::from([1, 10]));
}
