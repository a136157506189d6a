//! Whole catalogs: shared layers move once, a failure stops the rest, and records are written.

use std::collections::HashSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use autonomy_registry::oci::{Name, Tag};
use autonomy_registry::serve::testkit::{Fault, Kind, Seen, Testbed, What};
use autonomy_registry::store::Store;
use serde_json::Value;
use testkit::images::shape;

use crate::kit::command::{assert_code, autonomy, program, publisher, text};

/// Two registries; in the first, images `team/0:v1`, `team/1:v1` and so on, of three shared layers and one of their own.
struct Team {
    source: Testbed,
    sink: Testbed,
    home: tempfile::TempDir,
}

const SHARED: [u64; 3] = [1000, 2000, 3000];

impl Team {
    async fn of(count: usize) -> Self {
        let team =
            Self { source: Testbed::start().await, sink: Testbed::start().await, home: tempfile::tempdir().unwrap() };
        for number in 0..count {
            let image = shape::on_a_base(1, &SHARED, 100 + number as u64, &[500]);
            let store = publisher(&team.source, &format!("team/{number}"));
            image.put(&store, &["v1".parse().unwrap()]).await;
        }
        team.source.clear_log();
        team
    }

    fn entry(&self, number: usize) -> String {
        let (from, to) = (self.source.host(), self.sink.host());
        format!("  - from: {from}/team/{number}:v1\n    to: {to}/site/{number}:v1\n")
    }

    fn write(&self, entries: &str) -> String {
        let path = self.home.path().join("catalog.yaml");
        std::fs::write(&path, format!("version: 1\nentries:\n{entries}")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn seed(&self, entries: &str, more: &[&str]) -> Output {
        let catalog = self.write(entries);
        let out = self.out();
        let fixed =
            ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--catalog", &catalog, "--out"];
        autonomy(&[&fixed, &[out.to_str().unwrap()][..], more].concat()).await
    }

    async fn seed_all(&self, count: usize, more: &[&str]) -> Output {
        let entries: String = (0..count).map(|number| self.entry(number)).collect();
        self.seed(&entries, more).await
    }

    fn out(&self) -> std::path::PathBuf {
        self.home.path().join("out")
    }

    fn roll_up(&self) -> Value {
        json(&self.out().join("catalog-seed-manifest.json"))
    }

    async fn arrived(&self, repository: &str, tag: &str) -> bool {
        let name = Name::Tag(tag.parse().unwrap());
        self.sink.layout(repository).resolve(&name).await.is_ok()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

const BARE: [&str; 2] = ["--accessories", "none"];

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_are_fetched_once_and_then_mounted() {
    let team = Team::of(8).await;
    let done = team.seed_all(8, &BARE).await;
    assert_code(&done, 0);
    let mounted = team.sink.log().iter().filter(|seen| seen.kind == Kind::UploadPost && seen.status == 201).count();
    // Three shared layers; each image has a layer and a configuration of its own. Planning already read the configuration
    // for its platform.
    assert_eq!(team.source.count(Kind::BlobGet), 3 + 8 + 8, "{:#?}", team.source.log());
    assert_eq!(team.sink.count(Kind::UploadPut), 3 + 8 + 8);
    assert_eq!(mounted, 3 * 7);
    assert_eq!(team.source.requests(), 8 + 3 + 8 + 8, "a manifest each besides");
    assert_eq!(team.sink.requests(), 8 + (3 + 8 + 8) * 2 + 3 * 7 + 8, "a question and a manifest each besides");

    let roll_up = team.roll_up();
    let totals = &roll_up["totals"];
    assert_eq!((&totals["entries"], &totals["seeded"], &totals["failed"]), (&8.into(), &8.into(), &0.into()));
    assert_eq!((&totals["blobs_moved"], &totals["blobs_mounted"]), (&19.into(), &21.into()));
    for entry in roll_up["entries"].as_array().unwrap() {
        let folder = team.out().join(entry["dir"].as_str().unwrap());
        assert_eq!(json(&folder.join("seed-manifest.json")), entry["seed"]);
        let lock = std::fs::read_to_string(folder.join("seed.lock")).unwrap();
        assert!(lock.contains(entry["seed"]["dest_digest"].as_str().unwrap()));
    }

    team.source.clear_log();
    team.sink.clear_log();
    let again = team.seed_all(8, &BARE).await;
    assert_code(&again, 0);
    assert_eq!((team.source.requests(), team.sink.requests()), (8, 8), "two requests an image");
    assert_eq!(text(&again).matches("unchanged").count(), 8 + 1, "on stderr, and the sum: {}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_resolved_stops_the_rest_before_anything_moves() {
    let team = Team::of(6).await;
    let entries: String = [0, 1, 2, 99, 3, 4].map(|number| team.entry(number)).concat();
    let done = team.seed(&entries, &[]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("site/99:v1") && text(&done).contains("source"), "{}", text(&done));
    assert_eq!((team.sink.count(Kind::UploadPost), team.sink.count(Kind::ManifestPut)), (0, 0));
    assert!(!team.out().exists(), "no record of any image, no roll-up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_the_way_moves_no_later_tag() {
    let team = Team::of(12).await;
    team.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at("site/3/"));
    let done = team.seed_all(12, &["--jobs", "2"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("site/3:v1"), "{}", text(&done));
    for number in 5..12 {
        assert!(!team.arrived(&format!("site/{number}"), "v1").await, "{number} came after the failure");
    }
    assert!(!team.out().join("catalog-seed-manifest.json").exists());
    let log = team.sink.log();
    let opened = log.iter().filter(|seen| seen.kind == Kind::UploadPost && seen.status == 202).count();
    let is_end = |seen: &&Seen| seen.kind == Kind::UploadDelete || (seen.kind == Kind::UploadPut && seen.status == 201);
    let ended: HashSet<_> = log.iter().filter(is_end).map(|seen| &seen.path).collect();
    assert_eq!(opened, ended.len(), "no session stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_going_tries_every_image_and_records_each_outcome() {
    let team = Team::of(4).await;
    team.sink.fault(Fault::always(Kind::UploadPost, What::Status(403)).at("site/2/"));
    let entries: String = [0, 99, 1, 2, 3].map(|number| team.entry(number)).concat();
    let done = team.seed(&entries, &["--keep-going"]).await;
    assert_code(&done, 5);
    let roll_up = team.roll_up();
    let outcomes: Vec<_> = roll_up["entries"].as_array().unwrap().iter().map(|entry| &entry["status"]).collect();
    assert_eq!(outcomes, ["seeded", "failed", "seeded", "failed", "seeded"]);
    assert!(roll_up["entries"][1]["error"].as_str().unwrap().contains("not found"), "{roll_up:#}");
    for (number, is_there) in [(0, true), (1, true), (2, false), (3, true)] {
        assert_eq!(team.arrived(&format!("site/{number}"), "v1").await, is_there);
    }
    let printed: Value = {
        let again = team.seed(&entries, &["--keep-going", "--output", "json", "--progress", "none"]).await;
        assert_code(&again, 5);
        serde_json::from_slice(&again.stdout).unwrap()
    };
    assert_eq!(printed, team.roll_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_catalog_moves_no_tag_and_leaves_no_session() {
    let team = Team::of(6).await;
    team.source.fault(Fault::always(Kind::BlobGet, What::Delay(Duration::from_secs(20))).at("team/"));
    // Planning reads the configurations; only layers are late.
    let catalog = team.write(&(0..6).map(|number| team.entry(number)).collect::<String>());
    let fixed = ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--catalog", &catalog];
    let mut command = program(&fixed);
    let mut child = command.arg("--out").arg(team.out()).kill_on_drop(true).spawn().unwrap();
    while team.source.count(Kind::BlobGet) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(team.sink.count(Kind::ManifestPut), 0);
    assert!(!team.out().exists());
    let sessions = team.sink.log().iter().filter(|seen| seen.kind == Kind::UploadPost && seen.status == 202).count();
    assert_eq!(sessions, team.sink.count(Kind::UploadDelete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_is_resolved_once_and_pinned_in_the_roll_up() {
    let team = Team::of(1).await;
    let store = publisher(&team.source, "team/0");
    for tag in ["v1.1.0", "v1.2.0", "v2.0.0", "nightly"] {
        let image = shape::on_a_base(1, &SHARED, tag.len() as u64 + u64::from(tag.as_bytes()[3]), &[100]);
        image.put(&store, &[Tag::clone(&tag.parse().unwrap())]).await;
    }
    team.source.clear_log();
    let (from, to) = (team.source.host(), team.sink.host());
    let entries = format!("  - from: {from}/team/0\n    to: {to}/site/0\n    tags: '>=1.1, <2'\n");
    let done = team.seed(&entries, &BARE).await;
    assert_code(&done, 0);
    let roll_up = team.roll_up();
    let pinned: Vec<_> =
        roll_up["entries"].as_array().unwrap().iter().map(|entry| entry["from"].as_str().unwrap()).collect();
    assert_eq!(pinned.len(), 2, "{roll_up:#}");
    assert!(pinned.iter().all(|from| from.contains("@sha256:")), "{pinned:?}");
    for (tag, is_there) in [("v1.1.0", true), ("v1.2.0", true), ("v2.0.0", false), ("nightly", false), ("v1", false)] {
        assert_eq!(team.arrived("site/0", tag).await, is_there, "{tag}");
    }
    assert_eq!(team.source.log().iter().filter(|seen| seen.path.ends_with("/tags/list")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_takes_each_repository_to_its_own_name() {
    let team = Team::of(2).await;
    let out = team.out();
    let (from, to) = (team.source.host(), team.sink.host());
    let arguments = ["registry", "sync", "--allow-insecure-registry", "--skip-verify", "--from-registry", from];
    let more = ["--to-registry", to, "--repos", "team/0:v1,team/1:v1", "--out", out.to_str().unwrap()];
    let done = autonomy(&[arguments, more].concat()).await;
    assert_code(&done, 0);
    assert!(team.arrived("team/0", "v1").await && team.arrived("team/1", "v1").await);
    assert_eq!(team.roll_up()["totals"]["blobs_mounted"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_catalog_is_refused_before_anybody_is_contacted() {
    let team = Team::of(1).await;
    let key = "    pub_key: nowhere.pub\n";
    let wrong: [(&str, String, &[&str], &str); 5] = [
        ("an unknown key", format!("{}    pub_kye: x\n", team.entry(0)), &[], "pub_key"),
        ("one destination twice", team.entry(0).repeat(2), &[], "destination of two images"),
        ("not pinned", team.entry(0).replace("team/0:v1", "team/0:latest"), &["--require-pinned"], "not pinned"),
        ("no entries", "  []\n".to_owned(), &[], "entr"),
        ("jobs", team.entry(0), &["--jobs", "0"], "--jobs"),
    ];
    for (what, entries, more, says) in wrong {
        let done = team.seed(&entries, more).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{what}: {}", text(&done));
    }
    let catalog = team.write(&(team.entry(0) + key));
    let out = team.out();
    let base = ["registry", "seed-catalog", "--allow-insecure-registry", "--catalog", &catalog, "--out"];
    let verified = autonomy(&[&base[..], &[out.to_str().unwrap()]].concat()).await;
    assert_code(&verified, 2);
    assert!(text(&verified).contains("nowhere.pub") && text(&verified).contains("line 3"), "{}", text(&verified));
    let unverified = team.seed(&(team.entry(0) + key), &[]).await;
    assert_code(&unverified, 0);
    assert!(text(&unverified).contains("keys in the catalog are NOT used"), "{}", text(&unverified));
    assert!(team.source.requests() > 0);
}
