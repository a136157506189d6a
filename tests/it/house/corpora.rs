//! The corpora of the fuzz targets, run again on a stable compiler: fixed failures stay fixed.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use autonomy_registry::fuzzing::TARGETS;
use proptest::arbitrary::any;
use proptest::sample::Index;

use crate::kit::files::files_below;

/// Most files in the corpus of one target, and most bytes: small enough to run all in seconds.
const MAX_FILES: usize = 60;
const MAX_CORPUS_BYTES: usize = 150 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    names(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// The inputs of `target` on which `properties` fails.
fn broken(target: &str, properties: fn(&[u8])) -> Vec<String> {
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| properties(bytes))).is_err();
    corpus(target).iter().filter(|(_, bytes)| fails(bytes)).map(|(name, _)| format!("{target}/{name}")).collect()
}

#[test]
fn every_input_of_every_corpus_holds_its_properties() {
    let found: Vec<_> = TARGETS.iter().flat_map(|(target, properties)| broken(target, *properties)).collect();
    assert!(found.is_empty(), "cargo fuzz run TARGET fuzz/corpus/TARGET/FILE shows why: {}", found.join(", "));
}

#[test]
fn every_target_has_its_corpus_its_binary_and_its_entry() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets, "folders of fuzz/corpus");
    let files: BTreeSet<_> = targets.iter().map(|target| format!("{target}.rs")).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), files, "files of fuzz/fuzz_targets");
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "fuzz/Cargo.toml has no binary {target}");
        let text = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(text.contains(&format!("fuzzing::{target}(bytes)")), "{target}.rs runs another target");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets.len(), "a binary without a target");
}

#[test]
fn corpora_are_small_and_say_different_things() {
    for (target, _) in TARGETS {
        let inputs = corpus(target);
        let bytes: usize = inputs.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((5..=MAX_FILES).contains(&inputs.len()), "{target} has {} inputs", inputs.len());
        assert!(bytes <= MAX_CORPUS_BYTES, "{target} has {bytes} bytes");
        let different: BTreeSet<_> = inputs.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(different.len(), inputs.len(), "{target} holds an input twice");
    }
}

/// The files of proptest's past failures without a test that reads them: proptest takes the path of the test's source
/// below the folder of `main.rs`.
fn unread(regressions: &Path, tests: &Path) -> Vec<PathBuf> {
    let is_read = |path: &PathBuf| {
        let source = tests.join(path.strip_prefix(regressions).unwrap()).with_extension("rs");
        fs::read_to_string(source).is_ok_and(|text| text.contains("proptest!"))
    };
    files_below(regressions, "").into_iter().filter(|path| !is_read(path)).collect()
}

#[test]
fn every_failure_that_proptest_once_found_is_tried_again() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let regressions = tests.join("proptest-regressions");
    assert!(!files_below(&regressions, ".txt").is_empty());
    assert_eq!(unread(&regressions, &tests.join("it")), Vec::<PathBuf>::new());
    assert!(!unread(&regressions, &tests.join("interop")).is_empty(), "a file that moved alone is noticed");
}

/// The packages that a lock file names, as `name version`.
fn packages(lock: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(lock)).unwrap();
    let packages = text.split("[[package]]").skip(1).map(|package| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_matches([' ', '=', '"']).to_owned()
        };
        format!("{} {}", field("name"), field("version"))
    });
    packages.collect()
}

#[test]
fn the_fuzz_lock_file_has_the_shipped_versions() {
    let own = ["arbitrary", "autonomy-registry-fuzz", "libfuzzer-sys"];
    let (shipped, fuzzed) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
    let others: Vec<_> = fuzzed.difference(&shipped).filter(|p| !own.iter().any(|own| p.starts_with(own))).collect();
    assert!(fuzzed.len() > 100, "{} packages", fuzzed.len());
    assert!(others.is_empty(), "cp Cargo.lock fuzz/ and cargo +nightly fuzz build bring them in step: {others:?}");
}

#[test]
fn a_property_that_does_not_hold_is_noticed() {
    let refuses_braces = |bytes: &[u8]| assert!(!bytes.starts_with(b"{"));
    assert!(!broken("lock", refuses_braces).is_empty());
    assert!(broken("lock", |_| ()).is_empty());
}

proptest::proptest! {
    /// The same properties one step away from the corpora: a piece of another input inserted, some bytes changed.
    #[test]
    fn changed_inputs_hold_their_properties_too(
        (target, input, other) in any::<(Index, Index, Index)>(),
        (start, length, at) in any::<(Index, Index, Index)>(),
        changes in proptest::collection::vec(any::<(Index, u8)>(), 0..4),
    ) {
        let (target, properties) = TARGETS[target.index(TARGETS.len())];
        let inputs = corpus(target);
        let [mut bytes, other] = [input, other].map(|which| inputs[which.index(inputs.len())].1.clone());
        let from = start.index(other.len() + 1);
        let piece = other[from..].iter().take(length.index(100)).copied();
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..bytes.len().min(at + piece.len() / 2), piece);
        for (place, byte) in changes {
            let length = bytes.len();
            if length > 0 {
                bytes[place.index(length)] = byte;
            }
        }
        properties(&bytes);
    }
}
