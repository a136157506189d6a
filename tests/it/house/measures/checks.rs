//! The measures themselves, on input with known numbers.

use std::collections::BTreeSet;

use super::ceilings::CEILINGS;
use super::code;
use super::imports::{self, circles};
use super::prose::{Prose, Sentence};
use super::source::{File, Tests, parse};

/// A file of a crate that is made up, without its tests.
pub(super) fn file(name: &str, text: &str) -> File {
    read(name, text, Tests::SetAside)
}

pub(super) fn read(name: &str, text: &str, tests: Tests) -> File {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<_> = path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
    parse(name, &module, text.to_owned(), tests)
}

fn sentences(source: &str) -> Vec<String> {
    let mut prose = Prose::default();
    prose.read_comments("x.rs", source, |_| true);
    prose.sentences.into_iter().map(|sentence| format!("{} {}", sentence.place, sentence.text)).collect()
}

#[test]
fn comments_are_found_and_strings_are_not_taken_for_them() {
    let source = "//! One. Two\n//! more.\n\n/// Three.\n///\n/// Four `a. B` five.\nfn f() { // Six.\n    let a = \"// no\"; /* Seven. */\n}\n";
    let found = sentences(source);
    assert_eq!(found[..3], ["x.rs:1 One.", "x.rs:1 Two more.", "x.rs:4 Three."]);
    assert_eq!(found[3..], ["x.rs:6 Four `a. B` five.", "x.rs:7 Six.", "x.rs:8 Seven."]);
}

#[test]
fn code_tables_and_headings_are_no_sentences() {
    let source = "/// # Errors\n///\n/// ```\n/// What is code\n/// ```\n/// | What | Who |\n/// - Of a list, e.g. this.\nfn f() {}\n";
    assert_eq!(sentences(source), ["x.rs:7 Of a list, e.g. this."]);
}

#[test]
fn openers_are_whole_words_at_the_beginning() {
    let opens_wrong = |text: &str| Sentence { place: String::new(), text: text.to_owned() }.opens_wrong();
    assert!(opens_wrong("What is missing.") && opens_wrong("*Of* these.") && opens_wrong("Who's there?"));
    assert!(!opens_wrong("Whatever.") && !opens_wrong("Says what is missing.") && !opens_wrong("Often so."));
}

#[test]
fn markdown_is_read_without_its_code() {
    let mut prose = Prose::default();
    prose.read_markdown("a.md", "# What\n\nOne.\nWho comes?\n\n```\nOf code.\n```\n\n1. Those.\n");
    let wrong: Vec<_> = prose.wrong().iter().map(|sentence| sentence.place.as_str()).collect();
    assert_eq!((wrong, prose.sentences.len()), (vec!["a.md:4", "a.md:10"], 3));
}

#[test]
fn tests_are_no_part_of_the_measures() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(any(test, unix))]\nfn c() {}\n";
    let file = file("a.rs", text);
    let code = code::read(std::slice::from_ref(&file));
    let names: Vec<_> = code.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!((names, file.lines()), (vec!["a", "c"], 3));
}

#[test]
fn functions_types_and_their_documentation_are_measured() {
    let text = "/// Says a.\n///\n/// # Errors\n///\n/// Never.\npub fn a(x: u8, y: u8) -> Result<()> {\n    if x > y {\n        loop {}\n    } else if y > x {\n    }\n}\npub fn b() -> Result<()> { Ok(()) }\npub struct S { pub(crate) x: u8 }\nmod inner { struct S; enum E {} }\n";
    let code = code::read(&[file("a.rs", text)]);
    let a = &code.functions[0];
    assert_eq!((a.lines, a.parameters, a.nesting, a.place.as_str()), (6, 2, 2, "a.rs:6"));
    let shared = code.types_with_a_shared_name();
    assert_eq!((shared.part, shared.whole, code.shared_names()["S"].len()), (2, 3, 2));
    assert_eq!((code.without_errors, code.public_results), (vec!["a.rs:12: b".to_owned()], 2));
    assert_eq!((code.undocumented, code.public_items), (vec!["a.rs:12: b".to_owned(), "a.rs:13: S".to_owned()], 3));
}

#[test]
fn imports_are_followed_through_reexports_groups_and_macros() {
    let files = [
        file("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        file("a/mod.rs", "mod x;\nmod y;\npub use x::X;\npub struct Own;\n"),
        file("a/x.rs", "use super::y::Y;\npub struct X;\nfn f() { super::y::g(); }\n"),
        file("a/y.rs", "pub struct Y;\nfn g() { vec![super::x::X] }\n"),
        file("b.rs", "use crate::{a::X, c};\n"),
        file("c.rs", "use std::fmt;\nuse crate::a::Own as Renamed;\n"),
    ];
    let arrows: Vec<_> = imports::arrows(&files).into_iter().map(|arrow| (arrow.from, arrow.to)).collect();
    assert_eq!(arrows, [(2, 3), (3, 2), (4, 2), (4, 5), (5, 1)]);
    let structure = imports::read(&files);
    assert_eq!(structure.circles_inside, [["a/x", "a/y"]]);
    assert_eq!(structure.between.len(), 3);
    assert!(structure.circles_between.is_empty() && structure.circles_with_mod.is_empty());
    assert_eq!(structure.rooms["a"], (3, 9));
}

#[test]
fn circles_of_folders_and_with_a_mod_are_seen() {
    let files = [
        file("lib.rs", "mod a;\n"),
        file("a/mod.rs", "mod p;\nmod q;\nmod r;\nuse p::P;\nuse r::R;\npub struct Own;\n"),
        file("a/p/mod.rs", "mod one;\nmod two;\nuse super::Own;\npub struct P;\n"),
        file("a/p/one.rs", "use crate::a::q::Q;\n"),
        file("a/p/two.rs", "pub struct T;\n"),
        file("a/q.rs", "use super::p::two::T;\npub struct Q;\n"),
        file("a/r.rs", "pub(in crate::a) struct R;\n"),
    ];
    let structure = imports::read(&files);
    assert_eq!(structure.circles_inside, [["a/p", "a/q"]]);
    assert_eq!(structure.circles_with_mod, ["a/p"]);
}

#[test]
fn a_circle_holds_all_that_lead_to_each_other() {
    let arrows = BTreeSet::from([(1, 2), (2, 3), (3, 1), (3, 4), (5, 6), (6, 5), (7, 7)]);
    assert_eq!(circles(&arrows), [vec![1, 2, 3], vec![5, 6]]);
}

#[test]
fn every_ceiling_can_be_broken_and_names_the_places() {
    let measured = super::here();
    for ceiling in &CEILINGS {
        let broken = ceiling.broken_by(measured, -1.0);
        assert!(broken.is_some_and(|text| text.contains(ceiling.what)), "{}", ceiling.what);
    }
    let openers = CEILINGS[0].broken_by(measured, 0.0);
    let wrong = measured.comments.wrong();
    assert_eq!(openers.is_some(), !wrong.is_empty());
    assert!(wrong.first().is_none_or(|first| openers.unwrap().contains(&first.place)));
}
