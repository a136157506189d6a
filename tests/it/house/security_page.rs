//! The security page: every claim in `docs/security.md` names a test, and every test named there exists.

use std::fs;
use std::path::Path;

use crate::kit::files::files_below;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every source file below `folder`, with the path of its module. Unit tests are named without the module
/// `tests` that holds them.
fn sources(folder: &str) -> impl Iterator<Item = (String, String)> {
    let folder = root().join(folder);
    files_below(&folder, ".rs").into_iter().map(move |path| {
        let below = path.strip_prefix(&folder).unwrap().with_extension("");
        let parts = below.iter().map(|part| part.to_str().unwrap()).filter(|part| !["mod", "tests"].contains(part));
        (parts.collect::<Vec<_>>().join("::"), fs::read_to_string(&path).unwrap())
    })
}

/// The tests named on `page`: code spans such as `hostile::words::a_name_of_a_test`.
fn cited(page: &str) -> Vec<&str> {
    let is_path = |span: &&str| {
        let is_name = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        span.contains("::") && span.split("::").all(is_name)
    };
    page.split('`').skip(1).step_by(2).filter(is_path).collect()
}

/// Whether `sources` contain the test `name`: a function in the file of exactly the module before it.
fn exists(name: &str, sources: &[(String, String)]) -> bool {
    let (module, test) = name.rsplit_once("::").unwrap();
    let declaration = format!("fn {test}(");
    sources.iter().any(|(path, text)| path == module && text.contains(&declaration))
}

/// The unit tests of the program and the tests in `tests/it`.
fn tree() -> Vec<(String, String)> {
    sources("src").chain(sources("tests/it")).collect()
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
    let named = |module: &str| exists(&format!("{module}::every_test_on_the_security_page_exists"), &tree);
    assert!(named("house::security_page"));
    assert!(!named("security_page") && !named("security_page::house") && !named("it::house::security_page"));
    assert!(!named("house::examples") && !named("house"));
    assert!(exists("store::layout::a_list_that_is_too_long_is_neither_read_nor_written", &tree));
    assert!(!exists("house::security_page::no_such_test", &tree));
    let page = "intro\n\n- plain\n- **one:** x.\n  `a::b`\n- **two:** y.\n\nend `c::d`\n";
    assert_eq!(attempts(page), ["**one:** x.\n  `a::b`", "**two:** y."]);
}
