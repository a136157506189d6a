//! An image on its way: a source that has it as `app:v1`, a destination, and a folder for keys and records.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::oci::{Descriptor, Digest, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Root, Store as _};
use serde_json::Value;
use testkit::images::shape::Image;

use super::command::{publisher, seed};

/// Two registries, an image in the first.
pub(crate) struct Route {
    pub(crate) source: Testbed,
    pub(crate) sink: Testbed,
    pub(crate) root: Descriptor,
    pub(crate) home: tempfile::TempDir,
}

impl Route {
    /// From a registry with `image` to one of this profile.
    pub(crate) async fn new(image: Image, sink: Profile) -> Self {
        let (source, sink) = (Testbed::start().await, Testbed::with(sink).await);
        let root = image.put(&publisher(&source, "app"), &["v1".parse().unwrap()]).await;
        source.clear_log();
        Self { source, sink, root, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn from(&self) -> String {
        format!("{}/app:v1", self.source.host())
    }

    pub(crate) fn to(&self) -> String {
        format!("{}/app:v1", self.sink.host())
    }

    /// The path of a file of the folder, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    pub(crate) async fn seed(&self, more: &[&str]) -> Output {
        seed(&self.from(), &self.to(), &self.out(), more).await
    }

    /// The image without accessories, unverified.
    pub(crate) async fn seed_bare(&self, more: &[&str]) -> Output {
        self.seed(&[&["--skip-verify", "--accessories", "none"], more].concat()).await
    }

    /// The root under a tag of the destination, read from its folder.
    pub(crate) async fn arrived(&self, tag: &str) -> Option<Root> {
        self.sink.layout("app").fetch(&Name::Tag(tag.parse().unwrap())).await.ok()
    }

    /// The digest of the image's tag at the destination.
    pub(crate) async fn tagged(&self) -> Option<Digest> {
        self.arrived("v1").await.map(|root| root.node.digest)
    }

    pub(crate) fn record(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.out().join("seed-manifest.json")).unwrap()).unwrap()
    }

    /// Number of files and folders in the folder of records.
    pub(crate) fn written(&self) -> usize {
        std::fs::read_dir(self.out()).map_or(0, Iterator::count)
    }

    pub(crate) fn clear_logs(&self) {
        self.source.clear_log();
        self.sink.clear_log();
    }

    /// Numbers of requests at the source and at the destination.
    pub(crate) fn requests(&self) -> (usize, usize) {
        (self.source.requests(), self.sink.requests())
    }
}
