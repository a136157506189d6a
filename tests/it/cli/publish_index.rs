//! `autonomy registry publish-index`, the whole program, against registries with and without the Referrers API.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::document::roll_up::{Attempt, EntryStatus, RollUp, RollUpTotals};
use autonomy_registry::oci::{Digest, MediaType, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::serve::{Profile, ServerAuth};
use autonomy_registry::store::{Listing as _, Store as _, read_small};
use testkit::images;

use crate::kit::asking::{Asking, header};
use crate::kit::command::{assert_code, autonomy, publisher, text};

const TYPE: &str = "application/vnd.autonomyops.catalog-seed.v1+json";

/// A registry, and a roll-up to publish there.
struct Fleet {
    bed: Testbed,
    home: tempfile::TempDir,
}

impl Fleet {
    async fn with(behaviour: Profile) -> Self {
        let fleet = Self { bed: Testbed::with(behaviour).await, home: tempfile::tempdir().unwrap() };
        fleet.write(&rollup("a.example/app:v1", "2026-05-25T00:00:00Z"));
        fleet
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(RollUp::FILE)
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.file(), bytes).unwrap();
    }

    fn to(&self) -> String {
        format!("{}/fleet/catalog:stable", self.bed.host())
    }

    async fn publish(&self, more: &[&str]) -> Output {
        let (file, to) = (self.file(), self.to());
        let fixed = ["registry", "publish-index", "--manifest", file.to_str().unwrap(), "--to", &to];
        autonomy(&[&fixed, more].concat()).await
    }

    /// The JSON of a successful publication.
    async fn published(&self) -> serde_json::Value {
        let done = self.publish(&["--allow-insecure-registry", "--output", "json"]).await;
        assert_code(&done, 0);
        serde_json::from_slice(&done.stdout).unwrap()
    }

    fn asking(&self) -> Asking {
        Asking::of(&self.bed, "fleet/catalog")
    }

    /// The response to the printed URL.
    async fn ask(&self, url: &serde_json::Value) -> Vec<u8> {
        let path = url.as_str().unwrap().strip_prefix(&format!("http://{}", self.bed.host())).unwrap().to_owned();
        let answer =
            self.asking().send(reqwest::Method::GET, &path, &[("accept", MediaType::OCI_INDEX.as_str())], b"").await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.unwrap().to_vec()
    }

    /// Digests and dates of the roll-ups that the query lists.
    async fn listed(&self, published: &serde_json::Value) -> Vec<(String, String)> {
        let index: serde_json::Value = serde_json::from_slice(&self.ask(&published["query"]).await).unwrap();
        let entries = index["manifests"].as_array().unwrap().iter().filter(|entry| entry["artifactType"] == TYPE);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        entries
            .map(|entry| (text(&entry["digest"]), text(&entry["annotations"]["org.opencontainers.image.created"])))
            .collect()
    }
}

fn rollup(to: &str, seeded_at: &str) -> Vec<u8> {
    let entries = vec![Attempt {
        from: "up.example.com/app:v1".parse().unwrap(),
        to: to.parse().unwrap(),
        dir: "app".into(),
        status: EntryStatus::Failed,
        error: Some("source: get manifest v1: not found".into()),
        previous_digest: None,
        sidecars: Vec::new(),
        seed: None,
    }];
    let totals = RollUpTotals::of(&entries);
    RollUp::new("catalog.yaml".into(), seeded_at.parse().unwrap(), entries, totals).to_json().unwrap()
}

fn modes() -> [(&'static str, Profile); 4] {
    [
        ("embedded", Profile::default()),
        ("distribution 2", Profile::distribution_2()),
        ("distribution 3", Profile::distribution_3()),
        ("zot", Profile::zot()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_on_the_parent_lists_what_was_published() {
    for (mode, behaviour) in modes() {
        let has_api = behaviour.has_referrers_api;
        let fleet = Fleet::with(behaviour).await;
        let published = fleet.published().await;
        assert_eq!(published["status"], "published", "{mode}");
        assert_eq!(
            (&published["parent_created"], &published["referrers_api"]),
            (&true.into(), &has_api.into()),
            "{mode}"
        );
        let artifact = published["artifact"].as_str().unwrap().split_once('@').unwrap().1.to_owned();
        assert_eq!(fleet.listed(&published).await, [(artifact.clone(), "2026-05-25T00:00:00Z".into())], "{mode}");
        assert_eq!(fleet.ask(&published["content"]).await, std::fs::read(fleet.file()).unwrap(), "{mode}");

        let store = publisher(&fleet.bed, "fleet/catalog");
        let parent = store.fetch(&Name::Tag("stable".parse().unwrap())).await.unwrap();
        assert_eq!(parent.node.media_type, MediaType::OCI_INDEX);
        assert_eq!(published["parent_digest"], parent.node.digest.to_string());
        let name = Name::Digest(artifact.parse().unwrap());
        let root = store.fetch(&name).await.unwrap();
        let manifest = root.manifest().unwrap();
        assert_eq!(manifest.subject.unwrap().digest, parent.node.digest, "{mode}");
        assert_eq!((manifest.artifact_type.unwrap().as_str(), manifest.layers[0].media_type.as_str()), (TYPE, TYPE));
        assert_eq!(manifest.config.unwrap().media_type, MediaType::OCI_EMPTY);
        assert_eq!(manifest.layers[0].annotations["org.opencontainers.image.title"], RollUp::FILE);
        assert_eq!(
            read_small(&store, &manifest.layers[0], 1 << 20).await.unwrap(),
            std::fs::read(fleet.file()).unwrap()
        );

        let mut tags: Vec<_> = store.tags().await.unwrap().iter().map(ToString::to_string).collect();
        tags.sort();
        let fallback = parent.node.digest.fallback_tag();
        let expected = if has_api { vec!["stable"] } else { vec![fallback.as_str(), "stable", "stable-catalog"] };
        assert_eq!(tags, expected, "{mode}");
        assert_eq!(published["tag"], if has_api { serde_json::Value::Null } else { "stable-catalog".into() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_the_same_again_changes_nothing() {
    for (mode, behaviour) in modes() {
        let fleet = Fleet::with(behaviour).await;
        let first = fleet.published().await;
        fleet.bed.clear_log();
        let again = fleet.published().await;
        assert_eq!((&again["status"], &again["parent_created"]), (&"unchanged".into(), &false.into()), "{mode}");
        for same in ["artifact", "parent_digest", "query", "content", "tag"] {
            assert_eq!(first[same], again[same], "{mode}");
        }
        let log = fleet.bed.log();
        assert!(log.iter().all(|seen| ["GET", "HEAD"].contains(&seen.method.as_str())), "{mode}: {log:#?}");
        let expected = if first["referrers_api"] == true { 3 } else { 4 };
        assert_eq!(log.len(), expected, "{mode}: parent, list, artifact: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_roll_up_joins_the_first_and_takes_the_tag() {
    for (mode, behaviour) in modes() {
        let fleet = Fleet::with(behaviour).await;
        fleet.published().await;
        fleet.write(&rollup("a.example/app:v2", "2026-05-26T00:00:00Z"));
        let second = fleet.published().await;
        let dates: Vec<_> = fleet.listed(&second).await.into_iter().map(|(_, date)| date).collect();
        assert_eq!(dates.len(), 2, "{mode}: {dates:?}");
        if second["referrers_api"] == false {
            let tagged = fleet.asking().get("manifests/stable-catalog").await;
            let digest = header(&tagged, "docker-content-digest");
            assert!(second["artifact"].as_str().unwrap().ends_with(&digest), "{mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_there_is_the_parent_and_stays_what_it_is() {
    for (mode, behaviour) in modes() {
        let fleet = Fleet::with(behaviour).await;
        let store = publisher(&fleet.bed, "fleet/catalog");
        let image = images::two_platforms(&store, 1, &[1000]).await;
        images::tag(&store, &image, "stable").await;
        let published = fleet.published().await;
        assert_eq!(published["parent_created"], false, "{mode}");
        assert_eq!(published["parent_digest"], image.digest.to_string(), "{mode}");
        assert_eq!(fleet.listed(&published).await.len(), 1, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_parts_of_a_publication_are_put_again() {
    let fleet = Fleet::with(Profile::distribution_3()).await;
    let published = fleet.published().await;
    // Another client has cleared the fallback index; the artifact and its tag are there.
    let fallback = published["parent_digest"].as_str().unwrap().parse::<Digest>().unwrap().fallback_tag();
    let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    assert_eq!(fleet.asking().put_manifest(&fallback, &MediaType::OCI_INDEX, empty).await.status(), 201);
    assert_eq!(fleet.published().await["status"], "published");
    assert_eq!(fleet.listed(&published).await.len(), 1);
    // And another client has moved the tag.
    assert_eq!(fleet.asking().put_manifest("stable-catalog", &MediaType::OCI_INDEX, empty).await.status(), 201);
    assert_eq!(fleet.published().await["status"], "published");
    assert_eq!(fleet.published().await["status"], "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_roll_up_is_refused_without_any_request() {
    let fleet = Fleet::with(Profile::default()).await;
    let good = String::from_utf8(rollup("a.example/app:v1", "2026-05-25T00:00:00Z")).unwrap();
    for (bytes, why) in [
        (good.replace("catalog-seed.v1", "catalog-seed.v2"), "this program reads \"catalog-seed.v1\""),
        (good.replace("catalog-seed.v1", "seed.v1"), "the record of a single image"),
        (good.replace("\"failed\": 1", "\"failed\": 0"), "totals say"),
        (good.replace("\"catalog\"", "\"unknown\""), "unknown field"),
        ("version: 1\n".into(), "no JSON object"),
        (String::new(), "no JSON object"),
    ] {
        fleet.write(bytes.as_bytes());
        let done = fleet.publish(&["--allow-insecure-registry"]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(why) && text(&done).contains("hint: "), "{why}: {}", text(&done));
    }
    std::fs::remove_file(fleet.file()).unwrap();
    assert_code(&fleet.publish(&["--allow-insecure-registry"]).await, 2);
    assert_eq!(fleet.bed.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_without_a_tag_is_refused_and_nobody_is_contacted() {
    let fleet = Fleet::with(Profile::default()).await;
    let (repository, digest) = (format!("{}/fleet/catalog", fleet.bed.host()), Digest::sha256(b""));
    for to in [repository.clone(), format!("{repository}@{digest}"), format!("{repository}:v1@{digest}")] {
        let file = fleet.file();
        let done = autonomy(&[
            "registry",
            "publish-index",
            "--allow-insecure-registry",
            "--to",
            &to,
            "--manifest",
            file.to_str().unwrap(),
        ])
        .await;
        assert_code(&done, 2);
        assert!(text(&done).contains("names the parent by its tag"), "{}", text(&done));
    }
    let long = format!("{repository}:{}", "v".repeat(121));
    let done =
        autonomy(&["registry", "publish-index", "--to", &long, "--manifest", fleet.file().to_str().unwrap()]).await;
    assert_code(&done, 2);
    assert_eq!(fleet.bed.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_the_flag() {
    let fleet = Fleet::with(Profile::default()).await;
    let done = fleet.publish(&[]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("plain-HTTP registry refused"), "{}", text(&done));
    assert_eq!(fleet.bed.count(Kind::ManifestPut), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_cannot_say_is_not_taken_for_one_without_the_api() {
    let fleet = Fleet::with(Profile::default()).await;
    fleet.bed.fault(Fault::always(Kind::Referrers, What::Status(403)));
    assert_code(&fleet.publish(&["--allow-insecure-registry"]).await, 4);
    assert!(fleet.bed.log().iter().all(|seen| !seen.path.contains("stable-catalog")));
    assert_eq!(fleet.bed.count(Kind::ManifestPut), 1, "the parent, and nothing after it");

    let refusing = Fleet::with(Profile::default()).await;
    refusing.bed.fault(Fault::always(Kind::ManifestGet, What::Status(500)));
    assert_code(&refusing.publish(&["--allow-insecure-registry"]).await, 4);
    assert_eq!(refusing.bed.count(Kind::ManifestPut), 0, "a parent that cannot be read is not replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_used_and_people_are_told_what_to_do_next() {
    let auth = ServerAuth::Basic { user: "u".into(), password: "p".into() };
    let fleet = Fleet::with(Profile { auth, ..Profile::distribution_3() }).await;
    assert_code(&fleet.publish(&["--allow-insecure-registry"]).await, 4);
    let authfile = fleet.home.path().join("auth.json");
    std::fs::write(&authfile, format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, fleet.bed.host())).unwrap();
    let done = fleet.publish(&["--allow-insecure-registry", "--authfile", authfile.to_str().unwrap()]).await;
    assert_code(&done, 0);
    let told = text(&done);
    for line in [
        "published 127",
        ", made as an empty index",
        "tag        stable-catalog, because",
        "list       curl -H 'Accept: application/vnd.oci.image.index.v1+json' 'http://127",
        "fetch      curl -L 'http://127",
        "warning: 1 of 1 entries of this roll-up failed",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}
