//! The architecture page has a row for each module at the top of the crate.

use super::page::{CODE, Page, root};

/// The modules that a source declares, without modules for tests and fuzzing.
fn modules(source: &str) -> Vec<String> {
    let file = syn::parse_file(source).unwrap();
    let names = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    });
    names.filter(|name| name != "fuzzing").collect()
}

#[test]
fn every_room_has_a_row_on_the_architecture_page() {
    let rooms = modules(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap());
    assert!(rooms.len() > 10 && rooms.contains(&"wire".to_owned()), "{rooms:?}");
    let page = Page::read("docs/architecture.md");
    let rows: Vec<_> = page.rows.iter().map(|(_, cells)| cells[0].trim_matches(CODE)).collect();
    let missing: Vec<_> = rooms.iter().filter(|room| !rows.contains(&room.as_str())).collect();
    assert!(missing.is_empty(), "docs/architecture.md has no row for {missing:?}");
}

#[test]
fn rooms_that_are_gone_have_no_row() {
    let rooms = modules(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let page = Page::read("docs/architecture.md");
    let rows = page.rows.iter().filter(|(_, cells)| cells.len() == 3 && cells[0].starts_with(CODE));
    for (line, cells) in rows {
        let room = cells[0].trim_matches(CODE).to_owned();
        assert!(rooms.contains(&room), "docs/architecture.md:{line}: there is no module {room}");
    }
}
