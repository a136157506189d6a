//! Every link leads to a file of the repository and to a heading in it.

use std::path::Path;

use super::page::{Page, root, slugs};

/// The pages whose links are followed: the manual, and pages beside it.
fn linked() -> Vec<Page> {
    let mut pages = super::page::manual();
    let others = ["benches/README.md", "fuzz/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    pages.extend(others.iter().filter(|name| root().join(name).exists()).map(|name| Page::read(name)));
    pages
}

/// Why `target` leads nowhere from `page`.
fn broken(page: &Page, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() {
        page.name.clone()
    } else {
        let folder = Path::new(&page.name).parent().unwrap();
        folder.join(path).to_str().unwrap().to_owned()
    };
    let full = root().join(&file);
    if !full.exists() {
        return Some(format!("there is no {file}"));
    }
    if anchor.is_empty() {
        return None;
    }
    let headings = Page::parse(&file, std::fs::read_to_string(full).unwrap()).anchors;
    (!slugs(&headings).contains(&anchor.to_owned())).then(|| format!("{file} has no heading #{anchor}"))
}

fn is_elsewhere(target: &str) -> bool {
    target.starts_with("https://") || target.starts_with("http://")
}

#[test]
#[expect(clippy::print_stdout, reason = "lists the links that are not fetched")]
fn every_link_resolves() {
    let (mut failures, mut followed) = (Vec::new(), 0);
    for page in linked() {
        for (line, target) in &page.links {
            if is_elsewhere(target) {
                println!("not fetched: {}:{line}: {target}", page.name);
                continue;
            }
            followed += 1;
            failures.extend(broken(&page, target).map(|why| format!("{}:{line}: {target}: {why}", page.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(followed >= 30, "only {followed} links were found");
}

#[test]
fn every_page_of_the_manual_is_reached_from_the_readme() {
    let readme = Page::read("README.md");
    let target = |page: &Page| readme.links.iter().any(|(_, target)| target.split('#').next() == Some(&page.name));
    let missing: Vec<_> = super::page::manual()
        .into_iter()
        .filter(|page| page.name != "README.md" && !target(page))
        .map(|p| p.name)
        .collect();
    assert!(missing.is_empty(), "README.md does not link to {missing:?}");
}

#[test]
fn a_link_to_no_file_and_to_no_heading_is_found() {
    let page = Page::parse("docs/x.md", "# One\n".to_owned());
    assert_eq!(broken(&page, "security.md"), None);
    assert_eq!(broken(&page, "security.md#trust"), None);
    assert!(broken(&page, "nowhere.md").is_some());
    assert!(broken(&page, "security.md#nowhere").is_some());
}

/// Paths of the repository in code spans, such as `src/lib.rs`.
#[test]
fn every_path_that_a_page_names_exists() {
    let mut named = 0;
    let folders = ["src", "tests", "docs", "benches", "fuzz", "examples", "packaging"];
    for page in linked() {
        for (line, span) in &page.spans {
            let is_path = folders.iter().any(|folder| span.starts_with(&format!("{folder}/")))
                && span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && !page.name.starts_with("benches") {
                named += 1;
                assert!(root().join(span).exists(), "{}:{line}: there is no {span}", page.name);
            }
        }
    }
    assert!(named > 5, "only {named} paths were found");
}
