//! Catalogs that run every night: unchanged images, the result in few lines, and the question whether anything would move.

use std::path::Path;
use std::process::Output;

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use serde_json::Value;

use crate::kit::command::{assert_code, autonomy, seed, text};
use crate::kit::sealed_bed::Sealed;
use crate::kit::site_bed::Bed;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The file of the record of `name`.
fn record(bed: &Bed, name: &str) -> std::path::PathBuf {
    let folder = format!("{}+site+{name}@v1", bed.sink.host().replace(':', "_"));
    bed.out().join(folder).join("seed-manifest.json")
}

/// Makes the record of `name` one of long ago.
fn age(bed: &Bed, name: &str) -> Value {
    let file = record(bed, name);
    let mut old = json(&file);
    old["seeded_at"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(&file, serde_json::to_vec_pretty(&old).unwrap()).unwrap();
    old
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_keeps_its_record_and_is_counted_by_itself() {
    let bed = Bed::new(Profile::default()).await;
    bed.publish("a", 1).await;
    bed.publish("b", 2).await;
    assert_code(&bed.seed_catalog(&["a", "b"], &[]).await, 0);
    let (first, old) = (json(&bed.roll_up()), age(&bed, "a"));
    assert_eq!((&first["totals"]["seeded"], &first["totals"]["unchanged"]), (&2.into(), &0.into()));
    assert!(old["transfer"]["bytes_moved"].as_u64().unwrap() > 0 && old["checked_at"].is_null());

    bed.publish("b", 3).await;
    assert_code(&bed.seed_catalog(&["a", "b"], &[]).await, 0);
    let (second, now) = (json(&bed.roll_up()), json(&record(&bed, "a")));
    let status: Vec<_> = second["entries"].as_array().unwrap().iter().map(|entry| &entry["status"]).collect();
    assert_eq!(status, ["unchanged", "seeded"]);
    assert_eq!((&second["totals"]["seeded"], &second["totals"]["unchanged"]), (&1.into(), &1.into()));
    assert_eq!((&now["seeded_at"], &now["transfer"]), (&old["seeded_at"], &old["transfer"]));
    assert_eq!(now["checked_at"].as_str().unwrap()[..4], second["seeded_at"].as_str().unwrap()[..4]);
    assert_eq!(second["entries"][0]["seed"], now);
    let moved = |value: &Value| value["transfer"]["bytes_moved"].as_u64().unwrap();
    assert_eq!(second["totals"]["bytes_moved"], moved(&second["entries"][1]["seed"]), "the sums are of this run alone");

    // A lock that is new beside an unchanged image is a change.
    bed.publish_lock("a", "1").await;
    assert_code(&bed.seed_catalog(&["a", "b"], &[]).await, 0);
    let third = json(&bed.roll_up());
    assert_eq!(
        (&third["entries"][0]["status"], &third["entries"][1]["status"]),
        (&"seeded".into(), &"unchanged".into())
    );
    assert!(json(&record(&bed, "a"))["checked_at"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_without_a_record_of_its_own_gets_a_new_one() {
    let bed = Bed::new(Profile::default()).await;
    bed.publish("a", 1).await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    for another in [None, Some("localhost:1/site/a:v1")] {
        let mut old = age(&bed, "a");
        match another {
            None => std::fs::remove_file(record(&bed, "a")).unwrap(),
            Some(to) => {
                old["dest_ref"] = to.into();
                std::fs::write(record(&bed, "a"), old.to_string()).unwrap();
            }
        }
        assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
        let (roll_up, now) = (json(&bed.roll_up()), json(&record(&bed, "a")));
        assert_eq!(roll_up["entries"][0]["status"], "unchanged");
        assert!(now["checked_at"].is_null() && now["seeded_at"] != old["seeded_at"], "{now:#}");
        assert_eq!(now["transfer"]["bytes_moved"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_counts_and_failures_come_last_and_whole() {
    let bed = Bed::new(Profile::default()).await;
    bed.publish("a", 1).await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    bed.publish("b", 2).await;
    let images = ["a", "nowhere", "b"];
    let arguments = bed.catalog(&images, &["--keep-going", "--progress", "none"]);
    let loud: Vec<_> = arguments.iter().map(String::as_str).filter(|&argument| argument != "-q").collect();
    let done = autonomy(&loud).await;
    assert_code(&done, 5);
    let (said, errors) = (stdout(&done), stderr(&done));
    assert!(said.contains("\n1 changed, 1 unchanged, 1 failed\n"), "{said}");
    assert_eq!((said.matches("seeded ").count(), said.matches("site/a:v1").count()), (1, 0), "{said}");
    let last: Vec<_> = errors.lines().rev().take(3).collect();
    assert_eq!(last[0], "error: 1 of 3 images failed");
    assert!(last[1].starts_with("  hint: check the repository and the tag"), "{errors}");
    assert!(last[2].starts_with("error: source: seed") && last[2].contains("/nowhere:v1"), "{errors}");

    let quiet = bed.seed_catalog(&images, &["--keep-going"]).await;
    assert_code(&quiet, 5);
    assert!(quiet.stdout.is_empty(), "{}", text(&quiet));
    assert!(stderr(&quiet).contains("error: source: seed") && stderr(&quiet).contains("  hint: "), "{}", text(&quiet));
    let json = bed.seed_catalog(&images, &["--keep-going", "--output", "json"]).await;
    let roll_up: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&roll_up["totals"]["unchanged"], &roll_up["totals"]["failed"]), (&2.into(), &1.into()));
    assert!(stderr(&json).contains("  hint: "), "{}", text(&json));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_q_a_run_that_succeeds_prints_nothing() {
    let sealed = Sealed::hours_ago(1).await;
    let silent = |done: Output| {
        assert_code(&done, 0);
        assert_eq!(text(&done), "", "-q prints nothing");
    };
    silent(sealed.seed(&["-q", "--dry-run"]).await);
    silent(sealed.seed(&["-q"]).await);
    silent(sealed.seed(&["-q"]).await);
    let (from, to, key) = (sealed.source.reference(), sealed.to(), sealed.source.public_key());
    let (catalog, out) = (sealed.source.file("catalog.yaml"), sealed.source.file("fleet"));
    std::fs::write(&catalog, format!("version: 1\nentries:\n  - from: {from}\n    to: {to}-2\n    pub_key: {key}\n"))
        .unwrap();
    let (catalog, out) = (catalog.to_str().unwrap(), out.to_str().unwrap());
    let run = ["registry", "seed-catalog", "--allow-insecure-registry", "--catalog", catalog, "--out", out];
    silent(autonomy(&[&run[..], &["-q"]].concat()).await);
    let repeated = autonomy(&[&run[..], &["-q", "--output", "json"]].concat()).await;
    let roll_up: Value = serde_json::from_slice(&repeated.stdout).unwrap();
    assert_eq!((&roll_up["totals"]["unchanged"], stderr(&repeated)), (&1.into(), String::new()));
    silent(autonomy(&["registry", "rollback", "-q", "--list", "--out", out]).await);
    let failed = seed(&from, &to, &sealed.source.file("x"), &["-q", "--pub-key", "/nonexistent.pub"]).await;
    assert_code(&failed, 2);
    assert!(failed.stdout.is_empty() && stderr(&failed).starts_with("error: "), "{}", text(&failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_with_its_exit_code_whether_something_would_move() {
    let bed = Bed::new(Profile::default()).await;
    let first = bed.publish("a", 1).await;
    let ask = ["--dry-run", "--exit-code"];
    let asked = bed.seed_catalog(&["a"], &[&ask[..], &["--output", "json"]].concat()).await;
    assert_code(&asked, 6);
    let plan: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert!(plan["totals"]["bytes_to_move"].as_u64().unwrap() > 0 && !text(&asked).contains("error"), "{plan:#}");
    assert_code(&bed.seed_catalog(&["a"], &["--dry-run"]).await, 0);
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    assert_code(&bed.seed_catalog(&["a"], &ask).await, 0);
    let wrong = bed.seed_catalog(&["a"], &["--exit-code"]).await;
    assert_code(&wrong, 2);
    assert!(text(&wrong).contains("--dry-run"), "{}", text(&wrong));

    let (source, sink) = (bed.source.host(), bed.sink.host());
    let sync = ["registry", "sync", "--allow-insecure-registry", "--skip-verify", "--from-registry", source];
    let sync = [&sync[..], &["--to-registry", sink, "--repos", "a:v1", "--accessories", "none"], &ask].concat();
    assert_code(&autonomy(&sync).await, 6);
    let (from, to) = (format!("{source}/a:v1"), format!("{sink}/site/a:v1"));
    let flags = [&["--skip-verify", "--accessories", "none"], &ask[..]].concat();
    let one = async || seed(&from, &to, &bed.out(), &flags).await;
    assert_code(&one().await, 0);

    // All content is there, and the tag alone would move back.
    let second = bed.publish("a", 2).await;
    assert_code(&bed.seed_catalog(&["a"], &["--keep-previous"]).await, 0);
    assert_eq!(bed.names("a", "v1").await, Some(second));
    assert_eq!(bed.publish("a", 1).await, first);
    assert_code(&one().await, 6);
    // A failure is not an answer.
    bed.source.fault(Fault::always(Kind::ManifestGet, What::Status(404)));
    assert_code(&one().await, 4);
}

/// The runs that `rollback --list` names.
async fn listed(bed: &Bed) -> Vec<Value> {
    let out = bed.out();
    let done = autonomy(&["registry", "rollback", "--list", "--out", out.to_str().unwrap(), "--output", "json"]).await;
    assert_code(&done, 0);
    let listed: Value = serde_json::from_slice(&done.stdout).unwrap();
    listed["runs"].as_array().unwrap().clone()
}

async fn undo(run: &Value) -> Output {
    let fixed = ["registry", "rollback", "--allow-insecure-registry", "--yes", "--manifest"];
    autonomy(&[&fixed[..], &[run["manifest"].as_str().unwrap()]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_is_kept_and_each_can_be_undone() {
    let bed = Bed::new(Profile::default()).await;
    let mut roots = Vec::new();
    for generation in 1..=3 {
        roots.push(bed.publish("a", generation).await);
        assert_code(&bed.seed_catalog(&["a"], &["--keep-previous"]).await, 0);
    }
    assert_code(&bed.seed_catalog(&["a"], &["--keep-previous"]).await, 0);
    let runs = listed(&bed).await;
    let counts: Vec<_> = runs.iter().map(|run| (run["seeded"].as_u64(), run["unchanged"].as_u64())).collect();
    assert_eq!(counts, [(Some(0), Some(1)), (Some(1), Some(0)), (Some(1), Some(0)), (Some(1), Some(0))]);
    let names: Vec<_> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted_by(|later, earlier| later > earlier), "each has its name: {names:?}");
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')), "{names:?}");
    for (name, run) in names.iter().zip(&runs) {
        let folder = bed.out().join("history").join(name);
        assert_eq!(Path::new(run["manifest"].as_str().unwrap()).parent(), Some(folder.as_path()));
    }
    // The last run that changed something, then the one before it.
    assert_code(&undo(&runs[1]).await, 0);
    assert_eq!(bed.names("a", "v1").await, Some(roots[1]));
    assert_code(&undo(&runs[2]).await, 0);
    assert_eq!(bed.names("a", "v1").await, Some(roots[0]));
    // A run before the current state is not undone over a later one.
    assert_code(&undo(&runs[1]).await, 5);
    assert_eq!(bed.names("a", "v1").await, Some(roots[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_and_a_folder_of_a_former_version_keeps_its_run() {
    let bed = Bed::new(Profile::default()).await;
    let history = bed.out().join("history");
    bed.publish("a", 1).await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    // A former version wrote no history, and counted every image as seeded.
    std::fs::remove_dir_all(&history).unwrap();
    let former = std::fs::read_to_string(bed.roll_up()).unwrap().replacen("    \"unchanged\": 0,\n", "", 1);
    std::fs::write(bed.roll_up(), &former).unwrap();
    let runs = listed(&bed).await;
    assert_eq!((runs.len(), &runs[0]["name"], &runs[0]["seeded"]), (1, &Value::Null, &1.into()));
    bed.publish("a", 2).await;
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    let runs = listed(&bed).await;
    assert_eq!(runs.len(), 2);
    assert_eq!(std::fs::read_to_string(runs[1]["manifest"].as_str().unwrap()).unwrap(), former);

    // An old run goes with the next one, what is no run stays.
    std::fs::rename(history.join(runs[1]["name"].as_str().unwrap()), history.join("20200101T000000Z")).unwrap();
    std::fs::create_dir(history.join("notes")).unwrap();
    assert_code(&bed.seed_catalog(&["a"], &["--history", "9999d"]).await, 0);
    assert!(history.join("20200101T000000Z").exists());
    assert_code(&bed.seed_catalog(&["a"], &[]).await, 0);
    assert_eq!((listed(&bed).await.len(), history.join("20200101T000000Z").exists()), (3, false));
    assert_code(&bed.seed_catalog(&["a"], &["--history", "0"]).await, 0);
    let runs = listed(&bed).await;
    assert_eq!((runs.len(), &runs[0]["name"]), (1, &Value::Null), "the last run is still in its own file");
    assert!(history.join("notes").exists());

    for (flags, says) in [
        (&["--list", "--yes"][..], "cannot be used with"),
        (&["--list", "--manifest", "x"], "cannot be used with"),
        (&["--out", "x"], "--list"),
        (&[], "--manifest"),
        (&["--list", "--out", "/nonexistent"], "no run is recorded there"),
    ] {
        let done = autonomy(&[&["registry", "rollback"], flags].concat()).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{flags:?}: {}", text(&done));
    }
    std::fs::remove_dir_all(&history).unwrap();
    std::fs::write(&history, "").unwrap();
    bed.sink.clear_log();
    let refused = bed.seed_catalog(&["a"], &[]).await;
    assert_code(&refused, 2);
    assert!(text(&refused).contains("--history 0") && bed.sink.requests() == 0, "{}", text(&refused));
    assert_code(&bed.seed_catalog(&["a"], &["--history", "0"]).await, 0);
}
