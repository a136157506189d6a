//! A sealed bundle at a source and an empty registry to seed it to, for tests of the parts of one seal.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, Digest, Name};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::Store as _;
use autonomy_registry::trust::artifact;
use autonomy_registry::verify::{SidecarKind, signature_tag};
use jiff::Timestamp;
use reqwest::Method;
use testkit::images;

use super::asking::Asking;
use super::bundle_bed::{BundleBed, Signed, VERSION, hours_from_now, policy_bundle};
use super::command::seed;

/// A source with a bundle, all signed at one time, and a destination.
pub(crate) struct Sealed {
    pub(crate) source: BundleBed,
    pub(crate) sink: Testbed,
    pub(crate) lock: Descriptor,
    pub(crate) policy: Descriptor,
}

impl Sealed {
    /// Everything signed this many hours ago.
    pub(crate) async fn hours_ago(hours: i64) -> Self {
        let (source, sink) = (BundleBed::bare().await, Testbed::start().await);
        let policy = policy_bundle(VERSION);
        let lock = source.sidecar(SidecarKind::Lock, &source.lock(&policy).to_bytes(), Signed::No).await;
        let policy = source.sidecar(SidecarKind::Policy, &policy, Signed::No).await;
        let sealed = Self { source, sink, lock, policy };
        for node in [&sealed.source.image, &sealed.lock, &sealed.policy] {
            sealed.sign_again(node, &[hours_from_now(-hours)]).await;
        }
        sealed
    }

    /// Replaces everything under the signature tag of `node` with signatures of these times.
    pub(crate) async fn sign_again(&self, node: &Descriptor, times: &[Timestamp]) {
        self.sign_with(node, &times.iter().copied().map(Some).collect::<Vec<_>>()).await;
    }

    /// The same, with signatures that may have no time.
    pub(crate) async fn sign_with(&self, node: &Descriptor, times: &[Option<Timestamp>]) {
        let signed = times.iter().map(|&time| {
            let payload = self.source.payload(node, time);
            let signature = self.source.key.sign(&payload).unwrap();
            (payload, signature)
        });
        let tag = signature_tag(&node.digest).unwrap();
        self.source.put(&artifact::legacy_manifest(&[], &signed.collect::<Vec<_>>()), &[tag.as_str()]).await;
    }

    /// Puts another image under the source's tag `v1`, signed this many hours ago.
    pub(crate) async fn release(&self, number: u64, hours: i64) -> Descriptor {
        let image = images::two_platforms(&self.source.store, number, &[700]).await;
        images::tag(&self.source.store, &image, "v1").await;
        self.sign_again(&image, &[hours_from_now(-hours)]).await;
        image
    }

    /// Removes a tag's content from the source.
    pub(crate) async fn untag(&self, tag: &str) {
        Asking::of(&self.source.bed, "robot").send(Method::DELETE, &format!("manifests/{tag}"), &[], b"").await;
    }

    /// Removes a manifest from the source, with its tags.
    pub(crate) async fn remove(&self, digest: &Digest) {
        self.untag(&digest.to_string()).await;
    }

    pub(crate) fn to(&self) -> String {
        format!("{}/robot:v1", self.sink.host())
    }

    /// `registry seed` with the key.
    pub(crate) async fn seed(&self, more: &[&str]) -> Output {
        let key = self.source.public_key();
        seed(&self.source.reference(), &self.to(), &self.source.file("out"), &[&["--pub-key", &key], more].concat())
            .await
    }

    /// The digest of a tag at the destination.
    pub(crate) async fn arrived(&self, tag: &str) -> Option<Digest> {
        let name = Name::Tag(tag.parse().unwrap());
        self.sink.layout("robot").resolve(&name).await.ok().map(|root| root.digest)
    }

    pub(crate) fn record(&self) -> serde_json::Value {
        let file = self.source.file("out").join("seed-manifest.json");
        std::fs::read(file).map_or(serde_json::Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }
}
