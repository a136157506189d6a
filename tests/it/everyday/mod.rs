//! The commands that show what a registry holds, and remove from it.

mod inspect;
mod ls;
mod other_words;
mod rm;

use std::process::Output;

use autonomy_registry::serve::testkit::Testbed;

use crate::kit::command::{autonomy, text};

/// A command of `registry` that may speak plain HTTP.
async fn registry(words: &[&str]) -> Output {
    autonomy(&[&["registry"], words, &["--allow-insecure-registry"]].concat()).await
}

/// Asserts that stdout is `expected`, in lines of at most 80 columns. `…` stands for any text.
#[track_caller]
fn assert_screen(done: &Output, host: &str, expected: &str) {
    let printed = String::from_utf8(done.stdout.clone()).unwrap().replace(host, "localhost:5000");
    let expected = expected.replace('…', "[..]");
    let same = snapbox::Assert::new().try_eq(None, snapbox::Data::text(&printed), snapbox::Data::text(expected));
    assert!(same.is_ok(), "{}\nprinted:\n{printed}\n{}", same.unwrap_err(), text(done));
    let wide: Vec<_> = printed.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

/// The methods and paths of the requests that reached a registry.
fn requests(bed: &Testbed) -> Vec<String> {
    bed.log().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
}
