//! The direction of dependencies: every file's `use` lines against the floors that `lib.rs` prints.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Reads the table of `lib.rs`: module to floor.
fn table() -> HashMap<String, u32> {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! floor "));
    lines
        .flat_map(|line| {
            let (floor, modules) = line.split_once(' ').unwrap();
            let floor: u32 = floor.parse().unwrap();
            modules.split_whitespace().map(move |module| (module.to_owned(), floor)).collect::<Vec<_>>()
        })
        .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The modules that `text` names with `crate::`, in `use` lines (groups of several lines too) and in paths.
fn named(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.match_indices("crate::")
        .flat_map(|(at, prefix)| {
            let rest = &code[at + prefix.len()..];
            let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let first =
                |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            match group {
                Some(group) => group.split(',').map(first).collect::<Vec<_>>(),
                None => vec![first(rest)],
            }
        })
        .filter(|name| name.chars().next().is_some_and(char::is_lowercase))
        .collect()
}

/// The violations in a file of `module` that reads `text`.
fn violations(module: &str, text: &str, table: &HashMap<String, u32>) -> Vec<String> {
    let Some(&own) = table.get(module) else { return vec![format!("{module} has no floor")] };
    named(text)
        .into_iter()
        .filter(|other| other != module)
        .filter_map(|other| match table.get(&other) {
            None => Some(format!("{module} imports {other}, which has no floor")),
            Some(&floor) if floor < own || (floor == 0 && own == 0) => None,
            Some(&floor) => Some(format!("{module} (floor {own}) imports {other} (floor {floor})")),
        })
        .collect()
}

#[test]
fn every_module_imports_from_lower_floors_only() {
    let (root, table) = (root(), table());
    assert!(table.len() >= 10, "the table in lib.rs was not found");
    let mut all = Vec::new();
    files(&root, &mut all);
    let broken: Vec<_> = all
        .iter()
        .filter(|path| !["lib.rs", "main.rs"].contains(&path.file_name().unwrap().to_str().unwrap()))
        .flat_map(|path| {
            let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let module = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let found = violations(&module, &fs::read_to_string(path).unwrap(), &table);
            found.into_iter().map(|why| format!("{}: {why}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let table = table();
    let found = |module, text| violations(module, text, &table);
    assert!(found("copy", "use crate::store::Store;\nuse crate::{oci::Digest, error::Result};").is_empty());
    assert_eq!(found("store", "use crate::copy::Plan;").len(), 1);
    assert_eq!(found("copy", "use crate::verify::Approved;").len(), 1);
    assert_eq!(found("copy", "use crate::{\n    store::Store,\n    cli::Flag,\n};").len(), 1);
    assert_eq!(found("oci", "use crate::nowhere::X;").len(), 1);
    assert_eq!(found("unlisted", "").len(), 1);
}
