//! A shell script in place of skopeo, which records how it was called.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::copy::{self, Target, Watch};
use crate::oci::{Descriptor, MediaType};
use crate::store::{Body, Memory, Store as _};
use crate::transport::{Job, Location, LocationScheme, Transport as _};
use crate::verify::Approved;

/// Returns a folder with a `skopeo` that runs `script`. `$HOME` is the folder.
fn fake(script: &str) -> (TempDir, Skopeo) {
    let folder = tempfile::tempdir().unwrap();
    // Written by another process: while this process had it open for writing, a test that starts a program at that moment
    // would inherit it, and the script could not run ("text file busy").
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "cat > skopeo && chmod +x skopeo"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    let variables = [
        ("HOME", folder.path().to_str().unwrap()),
        ("PATH", "/usr/bin:/bin"),
        ("HTTPS_PROXY", "http://proxy.example:3128"),
        ("COSIGN_PASSWORD", "secret"),
    ];
    let options = Options {
        environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        retry: Retry { first_pause: Duration::from_millis(1), ..Retry::default() },
        ..Options::default()
    };
    let program = Skopeo::find(Some(folder.path().as_os_str()), options).unwrap();
    (folder, program)
}

fn ends() -> (End, End) {
    let end = |text: &str, scheme| End { reference: text.parse().unwrap(), scheme };
    (end("src.example/acme/app:v1", LocationScheme::Https), end("localhost:5000/acme/app:v1", LocationScheme::Http))
}

async fn copy(program: &Skopeo) -> Result<()> {
    let (from, to) = ends();
    program.copy(&from, &to).await
}

fn lines(folder: &TempDir, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn it_is_called_with_references_and_with_no_more_environment_than_it_needs() {
    let (folder, program) = fake(r#"echo "$@" >> "$HOME/calls"; env > "$HOME/env"; cat > "$HOME/stdin""#);
    copy(&program).await.unwrap();
    let calls = lines(&folder, "calls");
    assert_eq!(calls.len(), 1);
    assert!(calls[0].ends_with("-- docker://src.example/acme/app:v1 docker://localhost:5000/acme/app:v1"));
    let environment = lines(&folder, "env");
    assert!(environment.contains(&"HTTPS_PROXY=http://proxy.example:3128".to_owned()));
    assert!(environment.iter().all(|line| !line.contains("COSIGN") && !line.starts_with("CARGO")), "{environment:?}");
    assert!(lines(&folder, "stdin").is_empty(), "there is nothing to read, and nobody to ask");
}

#[tokio::test]
async fn only_the_end_of_its_words_is_kept_and_makes_the_error() {
    let (folder, program) = fake(
        r#"echo call >> "$HOME/calls"
        i=0; while [ $i -lt 2000 ]; do echo "level=warning msg=\"line $i of many, long enough to fill a pipe\"" >&2; i=$((i+1)); done
        echo 'time="t" level=fatal msg="initializing source docker://src.example/acme/app:v1: reading manifest v1 in x: denied"' >&2
        exit 1"#,
    );
    let error = copy(&program).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::Denied, Some(Side::Source)));
    assert!(error.chain().starts_with("source: copy with skopeo src.example/acme/app:v1: initializing source"));
    assert_eq!(lines(&folder, "calls").len(), 1, "a refusal is not tried again");
    let (_, last_words) = program.run(&[]).await.unwrap();
    assert_eq!(last_words.len(), KEPT);
    assert!(last_words.ends_with("denied\"\n"));
}

#[tokio::test]
async fn what_is_transient_is_tried_again() {
    let (folder, program) = fake(
        r#"echo call >> "$HOME/calls"
        [ "$(wc -l < "$HOME/calls")" -ge 3 ] && exit 0
        echo 'level=fatal msg="initializing source docker://x: dial tcp: connect: connection refused"' >&2; exit 1"#,
    );
    copy(&program).await.unwrap();
    assert_eq!(lines(&folder, "calls").len(), 3);
}

#[tokio::test]
async fn it_dies_with_the_copy() {
    let (folder, program) = fake(r#"echo $$ > "$HOME/pid"; exec sleep 60"#);
    assert!(tokio::time::timeout(Duration::from_millis(500), copy(&program)).await.is_err());
    let pid = lines(&folder, "pid")[0].clone();
    let is_running = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    for _ in 0..100 {
        if !is_running() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{pid} still runs");
}

#[tokio::test]
async fn a_helper_that_stays_behind_keeps_nobody_waiting() {
    let (_folder, program) = fake("sleep 20 & exit 0");
    let start = Instant::now();
    copy(&program).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn certificates_are_there_while_it_runs_and_gone_after() {
    let (folder, program) = fake(
        r#"for a; do [ "$d" = 1 ] && { echo "$a"; ls "$a"; } > "$HOME/certs"; d=0; [ "$a" = --src-cert-dir ] && d=1; done; exit 0"#,
    );
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, "certificate").unwrap();
    let program = Skopeo { options: Options { ca_file: Some(ca_file), ..program.options }, ..program };
    copy(&program).await.unwrap();
    let seen = lines(&folder, "certs");
    assert_eq!(seen[1..], ["autonomy-ca-file.crt"]);
    assert!(!Path::new(&seen[0]).exists());
}

#[test]
fn without_the_program_the_error_says_how_to_get_it() {
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("skopeo"), "not executable").unwrap();
    for path in [None, Some(empty.path().as_os_str()), Some(OsStr::new(".")), Some(OsStr::new(""))] {
        let error = Skopeo::find(path, Options::default()).unwrap_err();
        assert_eq!((error.kind(), error.kind().exit_code()), (Kind::Usage, 2));
        assert!(error.chain().contains("skopeo binary not found in PATH"));
        assert!(error.hint_text().unwrap().contains("apt install skopeo"));
    }
}

#[test]
fn a_relative_folder_in_the_path_is_passed_over() {
    let (folder, _) = fake("exit 0");
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    let relative = PathBuf::from("../".repeat(depth)).join(folder.path().strip_prefix("/").unwrap());
    assert!(relative.join("skopeo").is_file());
    assert!(Skopeo::find(Some(relative.as_os_str()), Options::default()).is_err());
}

#[test]
fn an_authfile_that_is_not_there_is_no_anonymous_access() {
    let (folder, program) = fake("exit 0");
    let options = Options { authfile: Some(folder.path().join("none.json")), ..program.options };
    let error = Skopeo::find(Some(folder.path().as_os_str()), options).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.chain().contains("none.json"));
}

/// Returns a job that moves `v1` from its former image to another, with a sidecar under its own tag.
async fn moving_job() -> (Job, Descriptor, Descriptor) {
    let (source, sink) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let hold = async |store: &Memory, text: &str, tags: &[&str]| {
        let json = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"name":"{text}"}}}}"#);
        let node = Descriptor::of(MediaType::OCI_INDEX, json.as_bytes());
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        store.put(&node, &Body::bytes(node.clone(), json), &tags).await.unwrap();
        node
    };
    let (former, rival) = (hold(&sink, "former", &[]).await, hold(&sink, "rival", &["v1"]).await);
    let (image, lock) = (hold(&source, "image", &[]).await, hold(&source, "lock", &[]).await);
    let target = |node: &Descriptor, tag: &str, former| Target {
        node: node.clone(),
        bytes: None,
        tags: vec![tag.parse().unwrap()],
        former,
    };
    let targets = vec![target(&image, "v1", Some(former)), target(&lock, "v1-lock", Some(rival.clone()))];
    let (from, to) = ends();
    let place = |end: End| Location { repository: end.reference.repository, scheme: end.scheme };
    let approved = Approved::unchecked("a test");
    let job = Job::new(&approved, place(from), place(to), copy::Job::new(source, sink, targets)).unwrap();
    (job, image, rival)
}

#[tokio::test]
async fn a_tag_that_somebody_else_has_moved_is_not_moved_by_it() {
    let (folder, program) = fake(r#"echo "$@" >> "$HOME/calls""#);
    let (job, ..) = moving_job().await;
    let error = program.carry(&job, &copy::Options::default(), &copy::Events::none()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{}", error.chain());
    let calls = lines(&folder, "calls");
    assert!(calls.len() == 1 && calls[0].contains("@sha256:"), "put by digest alone: {calls:?}");
    assert!(!job.copy.commit.has_begun());
}

#[tokio::test]
async fn what_is_looked_at_is_the_images_tag_and_not_that_of_what_goes_by_the_engine() {
    let (folder, program) = fake(r#"echo "$@" >> "$HOME/calls""#);
    let (mut job, image, rival) = moving_job().await;
    // The image's tag was not moved; the lock's tag names nothing at the sink, although its target has a former image.
    job.copy.targets[0].former = Some(rival.clone());
    job.copy = copy::Job::new(job.copy.source, job.copy.sink, job.copy.targets);
    let carried = program.carry(&job, &copy::Options::default(), &copy::Events::none()).await.unwrap();
    assert_eq!(lines(&folder, "calls").len(), 2, "by digest, and under its tag");
    let lock = job.copy.targets[1].node.size;
    assert_eq!(carried.report.bytes_moved, image.size + lock, "what skopeo moves counts too");
    let watched = [Watch { tag: "v1".parse().unwrap(), node: image.digest, former: Some(rival.digest) }];
    assert_eq!((job.copy.tagged, &job.copy.watched[..]), (Some(image.digest), &watched[..]));
}
