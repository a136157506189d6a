//! The security page: every claim in `docs/security.md` names a test, and every test named there exists.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
}

/// The tests named on `page`: code spans such as `attack::a_name_of_a_test`, as `file::test` or `folder::file::test`.
fn cited(page: &str) -> Vec<&str> {
    let is_path = |span: &&str| {
        let is_name = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        span.contains("::") && span.split("::").all(is_name)
    };
    page.split('`').skip(1).step_by(2).filter(is_path).collect()
}

/// Whether `sources` contain the test `name`: a function in a file whose path has all the parts before it.
fn exists(name: &str, sources: &[(PathBuf, String)]) -> bool {
    let (modules, test) = name.rsplit_once("::").unwrap();
    let declaration = format!("fn {test}(");
    sources.iter().any(|(path, text)| {
        let path = path.with_extension("");
        let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        modules.split("::").all(|module| parts.contains(&module)) && text.contains(&declaration)
    })
}

fn tree() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    sources(&root().join("tests"), &mut found);
    found
}

#[test]
fn every_test_on_the_security_page_exists() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (cited, tree) = (cited(&page), tree());
    assert!(cited.len() >= 40, "the page names {} tests", cited.len());
    let missing: Vec<_> = cited.into_iter().filter(|name| !exists(name, &tree)).collect();
    assert!(missing.is_empty(), "not found:\n{}", missing.join("\n"));
}

/// The attempts on `page`: list items that begin in bold, each to its end.
fn attempts(page: &str) -> Vec<&str> {
    let ends = |item: &str| item.find("\n\n").unwrap_or(item.len());
    page.split("\n- ").skip(1).map(|item| &item[..ends(item)]).filter(|item| item.starts_with("**")).collect()
}

#[test]
fn every_attempt_on_the_security_page_names_a_test() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let attempts = attempts(&page);
    assert!(attempts.len() >= 40, "the page has {} attempts", attempts.len());
    let bare: Vec<_> = attempts.into_iter().filter(|attempt| cited(attempt).is_empty()).collect();
    assert!(bare.is_empty(), "attempts without a test:\n{}", bare.join("\n"));
    assert!(!page.lines().any(|line| line.starts_with('|')), "long names of tests make tables unreadable");
}

#[test]
fn the_check_of_the_security_page_finds_what_it_should() {
    let tree = tree();
    assert_eq!(cited("`a::b_1`, `A::b`, `plain`, ``, `Store::open`"), ["a::b_1"]);
    assert!(exists("security_page::every_test_on_the_security_page_exists", &tree));
    assert!(!exists("attack::every_test_on_the_security_page_exists", &tree));
    assert!(!exists("security_page::no_such_test", &tree));
    let page = "intro\n\n- plain\n- **one:** x.\n  `a::b`\n- **two:** y.\n\nend `c::d`\n";
    assert_eq!(attempts(page), ["**one:** x.\n  `a::b`", "**two:** y."]);
}
