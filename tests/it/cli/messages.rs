//! Results and messages for people and for machines: how long, in which colours, in which form; and how signals end a run.

use std::process::Output;
use std::time::Duration;

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use serde_json::Value;
use testkit::images;

use crate::kit::command::{assert_code, program, publisher, seed, seeding, text};
use crate::kit::sealed_bed::Sealed;
use crate::kit::site_bed::Bed;

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn stdout(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The lines on stderr, each of which must be JSON.
fn objects(done: &Output) -> Vec<Value> {
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    stderr(done).lines().map(parsed).collect()
}

fn named<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_seed_is_told_in_five_lines_of_a_hundred_columns_and_whole_with_a_flag() {
    let sealed = Sealed::hours_ago(1).await;
    let done = sealed.seed(&["--copy-policy", "--progress", "none"]).await;
    assert_code(&done, 0);
    let said = stdout(&done);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() <= 5 && lines.iter().all(|line| line.len() <= 100), "{said}");
    assert_eq!(lines[0], format!("seeded {}", sealed.to()));
    assert!(lines[1].starts_with("  digest     sha256:"), "{said}");
    assert!(lines[2].starts_with("  verified   both ends: key ") && lines[2].ends_with("Z; lock, policy"), "{said}");
    assert!(lines[3].starts_with("  moved      "), "{said}");
    assert!(lines[4].ends_with("/out/seed-manifest.json, seed.lock"), "{said}");
    assert_eq!(stderr(&done), "");

    let done = sealed.seed(&["--copy-policy", "--progress", "none", "-v"]).await;
    assert_code(&done, 0);
    let said = stdout(&done);
    assert!(said.contains("\n  both ends  signatures   ok       key "), "{said}");
    for step in ["signatures", "digests", "fingerprint", "semver"] {
        assert_eq!(said.matches(&format!("{step:<12} ok")).count(), 1, "{step} once: {said}");
    }
    assert!(said.contains("\n  requests   ") && said.contains(" repeated; "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reference_stands_twice_in_an_error() {
    let sealed = Sealed::hours_ago(1).await;
    let missing = format!("{}/robot:v9", sealed.source.bed.host());
    let out = sealed.source.file("out");
    let done = seed(&missing, &sealed.to(), &out, &["--skip-verify", "--progress", "none"]).await;
    assert_code(&done, 4);
    let said = stderr(&done);
    assert!(said.contains(&format!("error: source: resolve manifest digest {missing}: get manifest: 404 ")), "{said}");
    sealed.source.bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at(".sig"));
    let done = sealed.seed(&["--progress", "none"]).await;
    assert_code(&done, 3);
    assert_eq!(stderr(&done).matches(&sealed.source.reference()).count(), 1, "{}", stderr(&done));
}

#[tokio::test]
async fn labels_are_coloured_where_colours_are_wanted_in_messages_of_ours_and_of_the_parser() {
    let ours = ["registry", "gc", "--data-dir", "/nonexistent"];
    let of_the_parser = ["registry", "gc"];
    for (variables, is_coloured) in [
        (&[][..], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], true),
        (&[("CLICOLOR", "1")], false),
        (&[("TERM", "xterm-256color")], false),
    ] {
        for arguments in [&ours[..], &of_the_parser] {
            let mut command = program(arguments);
            for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"] {
                command.env_remove(name);
            }
            let done = command.envs(variables.iter().copied()).output().await.unwrap();
            let said = stderr(&done);
            assert_eq!(said.contains("\u{1b}["), is_coloured, "{variables:?} {arguments:?}: {said:?}");
            assert!(said.contains("error:"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_if_progress_is_with_warnings_retries_and_the_error_by_image() {
    let (source, sink) = (Testbed::start().await, Testbed::start().await);
    let store = publisher(&source, "app");
    let root = images::two_platforms(&store, 5, &[2 << 20]).await;
    images::tag(&store, &root, "v1").await;
    source.fault(Fault::next(Kind::BlobGet, What::Status(503)));
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
    let json = ["--skip-verify", "--progress", "json", "-v"];
    let done = seed(&from, &to, home.path(), &json).await;
    assert_code(&done, 0);
    let lines = objects(&done);
    assert!(lines.iter().all(|line| line["image"] == to.as_str()), "{lines:#?}");
    assert!(named(&lines, "warning")[0]["text"].as_str().unwrap().contains("NOTHING is verified"), "{lines:#?}");
    let is_retry = |line: &&Value| line["text"].as_str().unwrap_or_default().contains("503");
    assert!(lines.iter().any(|line| is_retry(&line)), "{lines:#?}");
    let layers = named(&lines, "started");
    assert!(layers.iter().any(|line| line["platform"] == "linux/amd64" && line["layers"] == 1), "{layers:#?}");

    let done = seed(&format!("{from}9"), &to, home.path(), &json[..3]).await;
    assert_code(&done, 4);
    let lines = objects(&done);
    let error = lines.last().unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &4.into()), "{lines:#?}");
    assert_eq!((&error["kind"], &error["side"], &error["image"]), (&"not found".into(), &"source".into(), &to.into()));
    assert!(error["hint"].as_str().unwrap().contains("did you mean v1?"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_lines_of_a_catalog_name_the_image_that_each_is_about() {
    let bed = Bed::new(Profile::default()).await;
    for (name, number) in [("a", 1), ("b", 2)] {
        bed.publish(name, number).await;
    }
    let json = |more: &[&str]| {
        let words = bed.catalog(&["a", "b", "c"], &[&["--progress", "json"], more].concat());
        words.into_iter().filter(|word| word != "-q").collect::<Vec<_>>()
    };
    let run = async |words: Vec<String>| program(&words.iter().map(String::as_str).collect::<Vec<_>>()).output().await;
    let image = |name: &str| Value::from(format!("{}/site/{name}:v1", bed.sink.host()));

    let done = run(json(&["--keep-going"])).await.unwrap();
    assert_code(&done, 5);
    let lines = objects(&done);
    assert_eq!(named(&lines, "images")[0]["images"], 3);
    let failed = named(&lines, "image").into_iter().find(|line| line["outcome"] == "failed").unwrap();
    assert_eq!((&failed["image"], &failed["to"]), (&image("c"), &image("c")));
    assert!(failed["error"].as_str().unwrap().contains("not found"), "{failed:#}");
    assert!(named(&lines, "started").iter().all(|line| line["image"].is_string()), "{lines:#?}");
    assert!(named(&lines, "warning").iter().any(|line| line["image"] == image("a")), "no sidecar: {lines:#?}");
    assert_eq!(lines.last().unwrap()["text"], "1 of 3 images failed");

    let done = run(json(&[])).await.unwrap();
    assert_code(&done, 4);
    let lines = objects(&done);
    let error = lines.last().unwrap();
    assert_eq!((&error["event"], &error["image"]), (&"error".into(), &image("c")), "{error:#}");
}

/// A seed whose first blob takes a minute, once it has begun.
async fn slow(wrapper: &str) -> (Testbed, Testbed, tempfile::TempDir, tokio::process::Child) {
    let (source, sink) = (Testbed::start().await, Testbed::start().await);
    let store = publisher(&source, "app");
    let root = images::two_platforms(&store, 5, &[500]).await;
    images::tag(&store, &root, "v1").await;
    source.clear_log();
    source.fault(Fault::always(Kind::BlobGet, What::Delay(Duration::from_secs(60))));
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
    let command = seeding(&from, &to, home.path(), &["--skip-verify"]);
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", wrapper, "sh"]).arg(command.as_std().get_program()).args(command.as_std().get_args());
    let streams = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let child = shell.stdout(streams.0).stderr(streams.1).kill_on_drop(true).spawn().unwrap();
    while source.count(Kind::BlobGet) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (source, sink, home, child)
}

fn send(child: &tokio::process::Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_terminal_ends_a_run_as_an_interrupt_does_unless_it_is_to_be_ignored() {
    let (_source, sink, _home, child) = slow("exec \"$@\"").await;
    send(&child, "-HUP");
    let done = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert_code(&done, 130);
    assert!(text(&done).contains("the destination tag was not moved"), "{}", text(&done));
    assert_eq!(sink.count(Kind::UploadDelete), sink.count(Kind::UploadPost), "every session is closed");

    // As nohup does.
    let (_source, _sink, _home, mut child) = slow("trap '' HUP; exec \"$@\"").await;
    send(&child, "-HUP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    send(&child, "-TERM");
    let done = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert_code(&done, 130);
}
