//! Measures of the source: sizes, names, sentences and imports, as one table, with ceilings for what must not grow.
//!
//! `cargo test --test it measures -- --nocapture` prints the table. `AUTONOMY_MEASURE=<folder>` names the root of another
//! checkout, whose numbers then fill a column of their own:
//!
//! ```text
//! git archive v0.1.0 --prefix=old/ | tar x -C /tmp
//! AUTONOMY_MEASURE=/tmp/old cargo test --test it measures::the_table -- --nocapture
//! ```

mod ceilings;
mod checks;
mod code;
mod floors;
mod imports;
mod prose;
mod source;
mod table;

use std::path::Path;
use std::sync::OnceLock;

use ceilings::CEILINGS;
use code::Code;
use imports::Structure;
use prose::Prose;
use source::{File, Tests};

use crate::kit::files::files_below;

/// All measures of one checkout.
struct Measured {
    /// Lines before tests and name of every file.
    files: Vec<(usize, String)>,
    code: Code,
    structure: Structure,
    /// Imports that do not run to a lower floor, and rooms without a floor.
    not_downward: Vec<String>,
    comments: Prose,
    test_comments: Prose,
    pages: Prose,
}

fn measure(root: &Path) -> Measured {
    let files = source::read(&root.join("src"), Tests::SetAside);
    let mut comments = Prose::default();
    for file in &files {
        comments.read_comments(&format!("src/{}", file.name), &file.text, |line| !file.is_test(line));
    }
    Measured {
        code: code::read(&files),
        structure: imports::read(&files),
        not_downward: floors::violations(&source::read(&root.join("src"), Tests::Included)),
        comments,
        test_comments: test_comments(root, &files),
        pages: pages(root),
        files: files.iter().map(|file| (file.lines(), format!("src/{}", file.name))).collect(),
    }
}

/// Comments of tests, benches, examples and fuzz targets.
fn test_comments(root: &Path, files: &[File]) -> Prose {
    let mut prose = Prose::default();
    for path in files_below(&root.join("src"), ".rs") {
        let name = relative(&root.join("src"), &path);
        let file = files.iter().find(|file| file.name == name);
        let is_test = |line: usize| file.is_none_or(|file| file.is_test(line));
        prose.read_comments(&format!("src/{name}"), &std::fs::read_to_string(&path).unwrap(), is_test);
    }
    for folder in ["tests", "benches", "examples", "fuzz/fuzz_targets", "testkit"] {
        for path in files_below(&root.join(folder), ".rs") {
            prose.read_comments(&relative(root, &path), &std::fs::read_to_string(&path).unwrap(), |_| true);
        }
    }
    prose
}

/// Pages in Markdown.
fn pages(root: &Path) -> Prose {
    let mut prose = Prose::default();
    let top = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = top.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    for folder in ["docs", "benches", "fuzz", "tests"] {
        found.extend(files_below(&root.join(folder), ".md"));
    }
    found.sort();
    for path in found {
        prose.read_markdown(&relative(root, &path), &std::fs::read_to_string(&path).unwrap());
    }
    prose
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().display().to_string()
}

/// This checkout. It is measured once for all tests: reading everything takes seconds.
fn here() -> &'static Measured {
    static HERE: OnceLock<Measured> = OnceLock::new();
    HERE.get_or_init(|| measure(Path::new(env!("CARGO_MANIFEST_DIR"))))
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
fn the_table_of_measures_is_printed() {
    let there = std::env::var_os("AUTONOMY_MEASURE").map(|root| measure(Path::new(&root)));
    let columns: Vec<_> = there.iter().map(|there| ("there", there)).chain([("here", here())]).collect();
    println!("{}", table::render(&columns));
}

#[test]
fn no_measure_is_above_its_ceiling() {
    let broken: Vec<_> = CEILINGS.iter().filter_map(|ceiling| ceiling.broken_by(here(), ceiling.most)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
