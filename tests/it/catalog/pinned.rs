//! Images without a signature: `--pinned`, `pinned: true`, and `registry pin`, which writes the digests.

use std::process::Output;

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use serde_json::Value;

use crate::kit::command::{assert_code, autonomy, program, seed, text};
use crate::kit::site_bed::Bed;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A bed with images of these names upstream, and a catalog of entries without keys.
struct Unsigned {
    bed: Bed,
    roots: Vec<Digest>,
}

impl Unsigned {
    async fn of(names: &[&str]) -> Self {
        let bed = Bed::new(Profile::default()).await;
        let mut roots = Vec::new();
        for (name, number) in names.iter().zip(1..) {
            roots.push(bed.publish(name, number).await);
        }
        Self { bed, roots }
    }

    fn from(&self, name: &str) -> String {
        format!("{}/{name}", self.bed.source.host())
    }

    fn to(&self, name: &str) -> String {
        format!("{}/site/{name}", self.bed.sink.host())
    }

    async fn seed(&self, from: &str, more: &[&str]) -> Output {
        seed(from, &self.to("a:v1"), &self.bed.out(), more).await
    }

    fn record(&self) -> Value {
        let file = self.bed.out().join("seed-manifest.json");
        std::fs::read(file).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    fn file(&self) -> String {
        self.bed.home.path().join("fleet.yaml").to_str().unwrap().to_owned()
    }

    fn write(&self, entries: &str) {
        std::fs::write(self.file(), format!("# the fleet\nversion: 1\nentries:\n{entries}")).unwrap();
    }

    fn read(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    async fn pin(&self, more: &[&str]) -> Output {
        autonomy(&[&["registry", "pin", "--allow-insecure-registry", &self.file()], more].concat()).await
    }

    async fn seed_catalog(&self, more: &[&str]) -> Output {
        let (file, out) = (self.file(), self.bed.out());
        let fixed = ["registry", "seed-catalog", "--allow-insecure-registry", "--catalog", &file, "--progress", "none"];
        autonomy(&[&fixed[..], &["--out", out.to_str().unwrap()], more].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_is_verified_by_its_digest_at_both_ends_and_recorded_so() {
    let unsigned = Unsigned::of(&["a"]).await;
    let from = format!("{}:v1@{}", unsigned.from("a"), unsigned.roots[0]);
    let done = unsigned.seed(&from, &["--pinned"]).await;
    assert_code(&done, 0);
    assert_eq!(text(&done).matches("the publisher is not").count(), 1, "said once: {}", text(&done));
    assert!(!text(&done).contains("WARNING"), "and calmly: {}", text(&done));
    let record = unsigned.record();
    assert_eq!((&record["verified"], &record["pinned"]), (&false.into(), &true.into()));
    assert_eq!((&record["signing_key_ref"], &record["weakened"]), (&Value::Null, &Value::Null));
    let log = unsigned.bed.sink.log();
    let at = |kind, end: &str| log.iter().position(|seen| seen.kind == kind && seen.path.ends_with(end)).unwrap();
    let read_back = at(Kind::ManifestGet, &unsigned.roots[0].to_string());
    assert!(read_back < at(Kind::ManifestPut, "/manifests/v1"), "read back before the tag is put: {log:#?}");

    let again = unsigned.seed(&from, &["--pinned", "-q"]).await;
    assert_code(&again, 0);
    assert_eq!(text(&again), "");
    assert!(unsigned.record()["checked_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_that_is_other_content_moves_no_tag() {
    let unsigned = Unsigned::of(&["a", "b"]).await;
    let from = format!("{}@{}", unsigned.from("a"), unsigned.roots[0]);
    // A source that gives other bytes for the digest.
    unsigned.bed.source.fault(Fault::always(Kind::ManifestGet, What::FlipBit { at: 30 }));
    assert_code(&unsigned.seed(&from, &["--pinned"]).await, 4);
    assert_eq!((unsigned.bed.names("a", "v1").await, unsigned.bed.written()), (None, 0));
    // A destination that does not give back the bytes that it took.
    let unsigned = Unsigned::of(&["a"]).await;
    let from = format!("{}@{}", unsigned.from("a"), unsigned.roots[0]);
    unsigned.bed.sink.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at("sha256:"));
    let refused = unsigned.seed(&from, &["--pinned"]).await;
    assert!([3, 4].contains(&refused.status.code().unwrap()), "{}", text(&refused));
    assert!(text(&refused).contains("destination verification failed (fail-closed)"), "{}", text(&refused));
    assert_eq!((unsigned.bed.names("a", "v1").await, unsigned.bed.written()), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_use_of_pinned_is_refused_before_anybody_is_contacted() {
    let unsigned = Unsigned::of(&["a"]).await;
    let (tag, digest) = (unsigned.from("a:v1"), format!("{}@{}", unsigned.from("a"), unsigned.roots[0]));
    unsigned.bed.source.clear_log();
    for (from, flags, says) in [
        (&digest, &[][..], "hint: for a publisher who does not sign, give --pinned"),
        (&digest, &[], "registry seed requires --pub-key or --skip-verify"),
        (&tag, &[], "registry seed requires --pub-key or --skip-verify"),
        (&tag, &["--pinned"], "--pinned needs a source by digest"),
        (&digest, &["--pinned", "--skip-verify"], "cannot be used with"),
        (&digest, &["--pinned", "--pub-key", "k"], "cannot be used with"),
        (&digest, &["--pinned", "--max-age", "1h"], "--pinned does not"),
        (&digest, &["--pinned", "--require-tlog"], "--pinned does not"),
        (&digest, &["--pinned", "--copy-policy"], "--copy-policy requires tag-based"),
        (&digest, &["--pinned", "--platform", "linux/amd64", "--rewrite-index"], "--rewrite-index needs --sign-key"),
    ] {
        let done = unsigned.seed(from, flags).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{flags:?}: {}", text(&done));
        let is_named = text(&done).contains("--pinned");
        assert!(!flags.is_empty() || is_named == (*from == digest), "{}", text(&done));
    }
    let to = unsigned.to("a:v1");
    let mut command = program(&["registry", "seed", "--from", &digest, "--to", &to]);
    command.env("AUTONOMY_PINNED", "true").env("AUTONOMY_SKIP_VERIFY", "true");
    assert_code(&command.output().await.unwrap(), 2);
    for (fields, says) in [
        (format!("from: {tag}\n    pinned: true"), ": pinned needs a digest in from"),
        (format!("from: {digest}\n    pinned: true\n    pub_key: k"), "pub_key demands one"),
        (format!("from: {digest}"), "write pinned: true"),
        (format!("from: {tag}"), "requires pub_key in every entry"),
    ] {
        unsigned.write(&format!("  - {fields}\n    to: {}\n", unsigned.to("a:v1")));
        let done = unsigned.seed_catalog(&[]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{fields}: {}", text(&done));
    }
    assert_eq!((unsigned.bed.source.requests(), unsigned.bed.sink.requests()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_takes_pinned_repositories() {
    let unsigned = Unsigned::of(&["a"]).await;
    let (source, sink) = (unsigned.bed.source.host(), unsigned.bed.sink.host());
    let (out, pinned) = (unsigned.bed.out(), format!("a:v1@{}", unsigned.roots[0]));
    let sync = async |repository: &str| {
        let fixed = ["registry", "sync", "--allow-insecure-registry", "--pinned", "--out", out.to_str().unwrap()];
        autonomy(&[&fixed[..], &["--from-registry", source, "--to-registry", sink, "--repos", repository]].concat())
            .await
    };
    assert_code(&sync("a:v1").await, 2);
    let done = sync(&pinned).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("note: 1 of 1 entries are pinned"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_writes_the_digests_of_today_and_the_catalog_then_runs_without_keys() {
    let mut unsigned = Unsigned::of(&["a", "b", "c"]).await;
    let (from, to) = (|name: &str| unsigned.from(name), |name: &str| unsigned.to(name));
    let entries = format!(
        "  # robots\n  - from: {}   # theirs\n    to: {}\n\n  - {{from: \"{}\", to: {}}}\n  - from: {}\n    to: {}\n    latest: 1\n",
        from("a:v1"),
        to("a:v1"),
        from("b:v1"),
        to("b:v1"),
        from("c"),
        to("c")
    );
    unsigned.write(&entries);
    let (before, of) = (unsigned.read(), |number: usize| unsigned.roots[number]);

    let dry = unsigned.pin(&["--dry-run"]).await;
    assert_code(&dry, 0);
    assert_eq!(unsigned.read(), before, "a dry run writes nothing");
    assert!(text(&dry).contains("latest chooses its images"), "what is left is named: {}", text(&dry));
    let left = unsigned.pin(&["--output", "json"]).await;
    assert_code(&left, 0);
    let told: Value = serde_json::from_slice(&left.stdout).unwrap();
    let status: Vec<_> =
        told["entries"].as_array().unwrap().iter().map(|entry| entry["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["pinned", "pinned", "left"]);
    assert_eq!(told["diff"], stdout(&dry), "the dry run has shown what was then written");

    let date = told["date"].as_str().unwrap();
    let (now, comment) = (unsigned.read(), format!("# pinned {date}"));
    let expected = before
        .replace("a:v1   # theirs\n", &format!("a:v1@{}   # theirs {comment}\n    pinned: true\n", of(0)))
        .replace("b:v1\", to", &format!("b:v1@{}\", pinned: true, to", of(1)))
        .replace("b:v1}\n", &format!("b:v1}} {comment}\n"));
    assert_eq!(now, expected);
    let difference = stdout(&dry);
    let of_sign =
        |sign: char| -> Vec<&str> { difference.lines().skip(2).filter_map(|line| line.strip_prefix(sign)).collect() };
    let all = |lines: Vec<&str>, text: &str| {
        lines.len() == 2 && lines.iter().all(|line| text.lines().any(|other| other == *line))
    };
    assert!(difference.starts_with(&format!("--- {0}\n+++ {0}\n@@ -", unsigned.file())), "{difference}");
    assert!(all(of_sign('-'), &before) && of_sign('+').len() == 3, "{difference}");
    assert!(of_sign('+').iter().all(|line| now.lines().any(|other| other == *line)), "{difference}");

    // Entries that choose tags need their own key, so the rest runs without them.
    let kept = now.lines().take_while(|line| !line.contains("/c")).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(unsigned.file(), kept).unwrap();
    let done = unsigned.seed_catalog(&[]).await;
    assert_code(&done, 0);
    assert!(
        text(&done).contains("2 of 2 entries are pinned") && text(&done).contains("2 changed, 0 unchanged"),
        "{}",
        text(&done)
    );
    let roll_up: Value = serde_json::from_slice(&std::fs::read(unsigned.bed.roll_up()).unwrap()).unwrap();
    assert_eq!(roll_up["entries"][0]["seed"]["pinned"], true);

    // The tag moves upstream: the entry stays what it is until it is pinned again.
    let moved = unsigned.bed.publish("a", 9).await;
    assert_code(&unsigned.seed_catalog(&["--dry-run", "--exit-code"]).await, 0);
    let before = unsigned.read();
    let again = unsigned.pin(&[]).await;
    assert_code(&again, 0);
    assert!(stdout(&again).contains("0 pinned, 1 moved, 1 unchanged, 0 left"), "{}", text(&again));
    assert_eq!(unsigned.read(), before.replace(&unsigned.roots[0].to_string(), &moved.to_string()));
    unsigned.roots[0] = moved;
    let same = unsigned.pin(&["--dry-run"]).await;
    assert_eq!((same.status.code(), stdout(&same)), (Some(0), String::new()), "no difference, no output");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_cannot_be_pinned_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let unsigned = Unsigned::of(&["a"]).await;
    let entry = |from: &str| format!("  - from: {from}\n    to: {}\n", unsigned.to("a:v1"));
    for (from, code, says) in [
        (unsigned.from("a:v9"), 4, "line 4: resolve manifest digest"),
        (format!("&x {}", unsigned.from("a:v1")), 2, "line 4: the digest cannot be written in place"),
        ("nginx".to_owned(), 2, "line 4"),
    ] {
        unsigned.write(&entry(&from));
        let before = unsigned.read();
        let done = unsigned.pin(&[]).await;
        assert_code(&done, code);
        assert!(text(&done).contains(says), "{}", text(&done));
        assert_eq!(unsigned.read(), before);
    }
    // The permissions and a link stay.
    unsigned.write(&entry(&unsigned.from("a:v1")));
    let (file, link) = (unsigned.file(), unsigned.bed.home.path().join("link.yaml"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let done = autonomy(&["registry", "pin", "--allow-insecure-registry", "-q", link.to_str().unwrap()]).await;
    assert_code(&done, 0);
    assert_eq!(text(&done), "");
    assert!(link.symlink_metadata().unwrap().is_symlink() && unsigned.read().contains("@sha256:"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}
