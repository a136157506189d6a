//! The direction of imports, in the program and in its unit tests, against the floors that `lib.rs` prints.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::read;
use super::imports;
use super::source::{File, Tests};

/// The table of `lib.rs`: room to floor.
fn floors(text: &str) -> BTreeMap<&str, u32> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! floor ")?.split_once(' '));
    lines
        .flat_map(|(floor, rooms)| {
            let floor: u32 = floor.parse().unwrap();
            rooms.split_whitespace().map(move |room| (room.trim_end_matches('/'), floor))
        })
        .collect()
}

/// Every import of another room that does not run to a lower floor, and every room without a floor. The rooms of floor 0
/// may import each other.
pub(super) fn violations(files: &[File]) -> Vec<String> {
    let floors = floors(&files[0].text);
    let rooms: BTreeSet<_> = files.iter().filter(|file| file.is_in_room()).map(File::room).collect();
    let unknown = rooms.iter().filter(|room| !floors.contains_key(*room)).map(|room| format!("{room} has no floor"));
    let arrows = imports::arrows(files).into_iter().map(|arrow| (&files[arrow.from], &files[arrow.to]));
    let between = arrows.filter(|(from, to)| from.is_in_room() && to.is_in_room() && from.room() != to.room());
    let upward = between.filter_map(|(from, to)| {
        let (own, other) = (floors.get(from.room())?, floors.get(to.room())?);
        let runs_down = other < own || (*other == 0 && *own == 0);
        (!runs_down).then(|| format!("src/{} (floor {own}) imports src/{} (floor {other})", from.name, to.name))
    });
    unknown.chain(upward).collect()
}

#[test]
fn every_room_imports_from_lower_floors_only() {
    let here = super::here();
    assert!(here.structure.rooms.len() >= 10 && here.structure.between.len() >= 50, "the rooms were not found");
    assert!(here.not_downward.is_empty(), "{}", here.not_downward.join("\n"));
}

/// A crate on three floors: `engine` over `shelf` and `socket`, over `digest` and `error`.
const LIB: &str = "//! floor 2  engine\n//! floor 1  shelf   socket\n//! floor 0  digest  error\n";

/// The crate with more `text` at the end of one file.
fn with(changed: &str, text: &str) -> Vec<File> {
    let honest = [
        ("lib.rs", LIB),
        ("engine.rs", "use crate::shelf::Shelf;\nuse crate::{digest::Digest, error};\n"),
        ("shelf/mod.rs", "mod list;\nmod page;\npub use page::Page;\npub struct Shelf;\n"),
        ("shelf/list.rs", "use super::page::Page;\npub struct List;\n"),
        ("shelf/page.rs", "use crate::digest::Digest;\npub struct Page;\n"),
        ("socket.rs", "use crate::error::Failure;\npub struct Socket;\n"),
        ("digest.rs", "use crate::error::Failure;\npub struct Digest;\n"),
        ("error.rs", "use crate::digest::Digest;\npub struct Failure;\n"),
    ];
    let more = |name| if name == changed { text } else { "" };
    honest.into_iter().map(|(name, text)| read(name, &format!("{text}{}", more(name)), Tests::Included)).collect()
}

fn found(file: &str, text: &str) -> Vec<String> {
    violations(&with(file, text))
}

fn circles(file: &str, text: &str) -> Vec<Vec<String>> {
    imports::read(&with(file, text)).circles_inside
}

#[test]
fn imports_that_run_down_are_allowed_and_those_between_rooms_of_floor_0() {
    assert!(found("lib.rs", "").is_empty());
    assert!(found("engine.rs", "use crate::socket::Socket;\n").is_empty());
}

#[test]
fn an_upward_import_is_found_with_its_file() {
    let expected = ["src/shelf/page.rs (floor 1) imports src/engine.rs (floor 2)"];
    let ways = [
        "use crate::engine;\n",
        "use crate::{\n    error::Failure,\n    engine,\n};\n",
        "fn f() { super::super::engine::copy(); }\n",
        "fn f() { vec![crate::engine::copy()]; }\n",
        "#[cfg(test)]\nmod tests {\n    use crate::engine;\n}\n",
        "#[derive(Parser)]\nstruct S {\n    #[arg(value_parser = crate::engine::parse)]\n    s: u8,\n}\n",
    ];
    for way in ways {
        assert_eq!(found("shelf/page.rs", way), expected, "{way}");
    }
}

#[test]
fn an_upward_import_from_floor_0_is_found() {
    let expected = ["src/digest.rs (floor 0) imports src/shelf/mod.rs (floor 1)"];
    assert_eq!(found("digest.rs", "use crate::shelf::Shelf;\n"), expected);
}

#[test]
fn a_sideways_import_is_found_also_through_a_reexport() {
    let expected = ["src/socket.rs (floor 1) imports src/shelf/page.rs (floor 1)"];
    assert_eq!(found("socket.rs", "use crate::shelf::Page;\n"), expected);
}

#[test]
fn a_room_that_is_not_in_the_table_is_found() {
    let mut files = with("", "");
    files.push(read("cellar.rs", "", Tests::Included));
    assert_eq!(violations(&files), ["cellar has no floor"]);
}

#[test]
fn a_circle_in_a_room_is_found() {
    assert!(circles("shelf/page.rs", "").is_empty());
    assert_eq!(circles("shelf/page.rs", "use super::list::List;\n"), [["shelf/list", "shelf/page"]]);
}
