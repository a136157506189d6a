//! Environment variables in the place of flags, in the whole program.

use std::process::Output;

use crate::kit::command::{assert_code, program, text};

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    program(arguments).envs(variables.iter().copied()).output().await.unwrap()
}

/// A seed whose error shows how its flags were read: nothing listens at these ports.
fn seed<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let fixed =
        ["registry", "seed", "--from", "127.0.0.1:1/a:v1", "--to", "127.0.0.1:1/b:v1", "--out", "/nonexistent/out"];
    [&fixed, more].concat()
}

#[tokio::test]
async fn a_variable_stands_in_for_its_flag_and_the_flag_wins() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let done = run(&["registry", "gc"], &[("AUTONOMY_DATA_DIR", data)]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains(data), "{}", text(&done));
    let done = run(&["registry", "gc", "--data-dir", "/nonexistent"], &[("AUTONOMY_DATA_DIR", data)]).await;
    assert!(text(&done).contains("/nonexistent") && !text(&done).contains(data), "{}", text(&done));
    let done = run(&seed(&[]), &[("AUTONOMY_PUB_KEY", "/nonexistent/key")]).await;
    assert!(text(&done).contains("use the key of --pub-key /nonexistent/key"), "{}", text(&done));
    assert!(text(&done).contains("note: --pub-key is that of the variable AUTONOMY_PUB_KEY"), "{}", text(&done));
    let done = run(&seed(&["--pub-key", "/nonexistent/k"]), &[("AUTONOMY_PUB_KEY", "/nonexistent/key")]).await;
    assert!(!text(&done).contains("AUTONOMY_PUB_KEY"), "the flag was typed: {}", text(&done));
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let empty = [("AUTONOMY_PUB_KEY", ""), ("AUTONOMY_JOBS", ""), ("AUTONOMY_SPOOL", ""), ("AUTONOMY_CA_FILE", "")];
    let done = run(&seed(&[]), &empty).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("registry seed requires --pub-key or --skip-verify"), "{}", text(&done));
}

#[tokio::test]
async fn a_wrong_value_names_the_variable_and_a_typed_one_does_not() {
    for (name, value) in [("AUTONOMY_JOBS", "0"), ("AUTONOMY_PROGRESS", "loud")] {
        let done = run(&seed(&["--skip-verify"]), &[(name, value)]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(&format!("the value is that of the variable {name}")), "{}", text(&done));
    }
    let done = run(&seed(&["--skip-verify", "--jobs", "0"]), &[("AUTONOMY_JOBS", "3")]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("1 is the least") && !text(&done).contains("AUTONOMY_JOBS"), "{}", text(&done));
}

#[tokio::test]
async fn a_flag_that_excludes_another_one_excludes_its_variable_and_that_is_said() {
    let key = [("AUTONOMY_PUB_KEY", "/nonexistent/key")];
    let done = run(&seed(&["--skip-verify"]), &key).await;
    let told = text(&done);
    assert!(told.contains("warning: --skip-verify is given: AUTONOMY_PUB_KEY is NOT used"), "{told}");
    assert!(!told.contains("/nonexistent/key"), "{told}");
    let done = run(&seed(&["--skip-verify", "--pub-key", "k"]), &key).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("cannot be used with"), "both on the command line stay an error: {}", text(&done));
    let done = run(&seed(&["--skip-verify=false"]), &key).await;
    assert!(text(&done).contains("use the key of --pub-key /nonexistent/key"), "{}", text(&done));
}

#[tokio::test]
async fn help_names_the_variables_and_not_their_values() {
    let done = run(&["registry", "seed", "--help"], &[("AUTONOMY_PUB_KEY", "/secret/place")]).await;
    assert!(
        text(&done).contains("[env: AUTONOMY_PUB_KEY]") && !text(&done).contains("/secret/place"),
        "{}",
        text(&done)
    );
}
