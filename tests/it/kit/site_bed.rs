//! Catalogs for tests: an upstream, a site with a chosen profile, and the site's tags.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use autonomy_registry::oci::{Descriptor, Digest, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Kind, Testbed};
use autonomy_registry::store::Store;
use testkit::images;

use super::command::{assert_code, autonomy, program, publisher};

/// Every registry profile of this program.
pub(crate) fn behaviours() -> [Profile; 4] {
    [Profile::default(), Profile::distribution_2(), Profile::distribution_3(), Profile::zot()]
}

/// Two registries and a folder for catalogs and records.
pub(crate) struct Bed {
    pub(crate) source: Testbed,
    pub(crate) sink: Testbed,
    pub(crate) home: tempfile::TempDir,
}

impl Bed {
    pub(crate) async fn new(behaviour: Profile) -> Self {
        let (source, sink) = (Testbed::start().await, Testbed::with(behaviour).await);
        Self { source, sink, home: tempfile::tempdir().unwrap() }
    }

    /// Puts an image upstream, as `name:v1`. The same seed makes the same image.
    pub(crate) async fn publish(&self, name: &str, seed: u64) -> Digest {
        let store = publisher(&self.source, name);
        let root = images::two_platforms(&store, seed, &[500]).await;
        images::tag(&store, &root, "v1").await;
        root.digest
    }

    /// Puts a lock beside `name:v1` upstream.
    pub(crate) async fn publish_lock(&self, name: &str, content: &str) -> Digest {
        let store = publisher(&self.source, name);
        let root = store.resolve(&Name::Tag("v1".parse().unwrap())).await.unwrap();
        let lock = "application/vnd.autonomyops.lock.v1+json";
        let lock: Descriptor = images::sidecar(&store, &root, lock, content.as_bytes()).await;
        images::tag(&store, &lock, "v1-lock").await;
        lock.digest
    }

    /// `registry seed-catalog` of these images, unverified and without accessories.
    pub(crate) async fn seed_catalog(&self, names: &[&str], more: &[&str]) -> Output {
        autonomy(&self.catalog(names, more).iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// The arguments of that.
    pub(crate) fn catalog(&self, names: &[&str], more: &[&str]) -> Vec<String> {
        let entry = |name: &&str| {
            let (from, to) = (self.source.host(), self.sink.host());
            format!("  - from: {from}/{name}:v1\n    to: {to}/site/{name}:v1\n    copy_policy: true\n")
        };
        let text = format!("version: 1\nentries:\n{}", names.iter().map(entry).collect::<String>());
        let (catalog, out) = (self.home.path().join("catalog.yaml"), self.out());
        std::fs::write(&catalog, text).unwrap();
        let fixed =
            ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--accessories=none", "-q"];
        let paths = ["--catalog", catalog.to_str().unwrap(), "--out", out.to_str().unwrap()];
        fixed.iter().chain(&paths).chain(more).map(|&argument| argument.to_owned()).collect()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    pub(crate) fn roll_up(&self) -> PathBuf {
        self.out().join("catalog-seed-manifest.json")
    }

    /// `registry rollback` of the last run.
    pub(crate) async fn rollback(&self, more: &[&str]) -> Output {
        let file = self.roll_up();
        let fixed = ["registry", "rollback", "--allow-insecure-registry", "--manifest", file.to_str().unwrap()];
        autonomy(&[&fixed, more].concat()).await
    }

    /// The digest of a tag at the site, read from its folder.
    pub(crate) async fn names(&self, name: &str, tag: &str) -> Option<Digest> {
        let tag = Name::Tag(tag.parse().unwrap());
        let root = self.sink.layout(&format!("site/{name}")).resolve(&tag).await.ok()?;
        Some(root.digest)
    }

    /// Whether the site holds an image with all its manifests.
    pub(crate) async fn is_whole(&self, name: &str, root: Digest) -> bool {
        let layout = self.sink.layout(&format!("site/{name}"));
        let Ok(root) = layout.fetch(&Name::Digest(root)).await else { return false };
        let index: serde_json::Value = serde_json::from_slice(&root.bytes).unwrap();
        for child in index["manifests"].as_array().unwrap() {
            let digest: Digest = child["digest"].as_str().unwrap().parse().unwrap();
            if layout.fetch(&Name::Digest(digest)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Number of PUTs of a tag at the site.
    pub(crate) fn puts(&self, tag: &str) -> usize {
        let end = format!("/manifests/{tag}");
        self.sink.log().iter().filter(|seen| seen.kind == Kind::ManifestPut && seen.path.ends_with(&end)).count()
    }

    /// Number of files and folders in the folder of records.
    pub(crate) fn written(&self) -> usize {
        std::fs::read_dir(self.out()).map_or(0, Iterator::count)
    }

    /// Seeds `a`, `b` and `c`, publishes new images in their place and a new one, `d`, and removes the records. Returns the
    /// current and the new roots.
    pub(crate) async fn two_generations(&self) -> ([Digest; 3], [Digest; 4]) {
        let first = [self.publish("a", 1).await, self.publish("b", 2).await, self.publish("c", 3).await];
        assert_code(&self.seed_catalog(&["a", "b", "c"], &[]).await, 0);
        std::fs::remove_dir_all(self.out()).unwrap();
        let [a, b, c] = [self.publish("a", 11).await, self.publish("b", 12).await, self.publish("c", 13).await];
        let second = [a, b, c, self.publish("d", 14).await];
        self.sink.clear_log();
        (first, second)
    }

    /// The roots of the tags `v1` of all four.
    pub(crate) async fn all(&self) -> [Option<Digest>; 4] {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| self.names(name, "v1"));
        [a.await, b.await, c.await, d.await]
    }
}

/// The tag that keeps a previous root.
pub(crate) fn holding(tag: &str, former: &Digest) -> String {
    format!("{tag}-was-{}", &former.hex()[..12])
}

/// Starts the program, for tests that stop it.
pub(crate) fn start(arguments: &[String]) -> tokio::process::Child {
    let mut command = program(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// Sends SIGTERM and waits no longer than an operator has to.
pub(crate) async fn stopped(child: tokio::process::Child) -> Output {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let done = tokio::time::timeout(std::time::Duration::from_secs(5), child.wait_with_output());
    done.await.unwrap().unwrap()
}
