//! A registry with one bundle, made by hand: image, lock, policy and signatures, each of which a test can replace with a
//! forgery.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::document::lock::{Inputs, Lock, Pin};
use autonomy_registry::document::policy_bundle;
use autonomy_registry::oci::{Descriptor, Digest};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Body, Registry, Store};
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SidecarKind, SigningKey, signature_tag};
use jiff::{Timestamp, ToSpan as _};
use testkit::images;

use super::command::{SHORT_WAIT, autonomy, publisher};

/// The version of the honest policy.
pub(crate) const VERSION: &str = "1.2.0";

/// A registry with a bundle under `robot:v1`.
pub(crate) struct BundleBed {
    pub(crate) bed: Testbed,
    pub(crate) store: Registry,
    pub(crate) image: Descriptor,
    pub(crate) key: SigningKey,
    pub(crate) home: tempfile::TempDir,
}

impl BundleBed {
    /// An image without sidecars or signatures.
    pub(crate) async fn bare() -> Self {
        Self::on(Testbed::start().await).await
    }

    /// The same, on the caller's registry.
    pub(crate) async fn on(bed: Testbed) -> Self {
        let store = publisher(&bed, "robot");
        let image = images::two_platforms(&store, 1, &[1000, 2000]).await;
        images::tag(&store, &image, "v1").await;
        let (key, home) = (SigningKey::generate().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("cosign.pub"), key.public_pem().unwrap()).unwrap();
        Self { bed, store, image, key, home }
    }

    /// A bundle in which everything is right.
    pub(crate) async fn honest() -> Self {
        let bed = Self::bare().await;
        bed.sign(&bed.image).await;
        let policy = policy_bundle(VERSION);
        bed.sidecar(SidecarKind::Lock, &bed.lock(&policy).to_bytes(), Signed::Yes).await;
        bed.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;
        bed.bed.clear_log();
        bed
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/robot:v1", self.bed.host())
    }

    pub(crate) fn public_key(&self) -> String {
        self.file("cosign.pub").to_str().unwrap().to_owned()
    }

    /// Writes the public key into another folder, under a name of its own.
    pub(crate) fn public_key_elsewhere(&self, folder: &std::path::Path) -> String {
        let path = folder.join("other.pub");
        std::fs::write(&path, self.key.public_pem().unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `bundle verify` with the right key.
    pub(crate) async fn verify(&self, more: &[&str]) -> Output {
        let (reference, key) = (self.reference(), self.public_key());
        autonomy(&[&["bundle", "verify", &reference, "--pub-key", &key], &SHORT_WAIT[..], more].concat()).await
    }

    /// The report of `bundle verify` with lock and policy.
    pub(crate) async fn judged(&self) -> (i32, serde_json::Value) {
        let done = self.verify(&["--require-lock", "--require-policy", "--output", "json"]).await;
        (done.status.code().unwrap(), report(&done))
    }

    /// The honest lock for `policy`.
    pub(crate) fn lock(&self, policy: &[u8]) -> Lock {
        lock(self.image.digest, Digest::sha256(policy), VERSION)
    }

    pub(crate) async fn put(&self, attachment: &Attachment, tags: &[&str]) {
        for (node, bytes) in &attachment.blobs {
            self.store.put(node, &Body::bytes(node.clone(), bytes.clone()), &[]).await.unwrap();
        }
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let body = Body::bytes(attachment.node.clone(), attachment.manifest.clone());
        self.store.put(&attachment.node, &body, &tags).await.unwrap();
    }

    /// Signs `node` in the legacy format, with the current time.
    pub(crate) async fn sign(&self, node: &Descriptor) {
        let signed = self.payload(node, Some(Timestamp::now()));
        let signature = self.key.sign(&signed).unwrap();
        self.put_signature(node, signed, signature).await;
    }

    pub(crate) fn payload(&self, node: &Descriptor, signed_at: Option<Timestamp>) -> Vec<u8> {
        simple_signing::legacy(&self.bed.repository("robot"), &node.digest, signed_at)
    }

    /// Puts `signature` over `signed` under the tag of `node`, without any check.
    pub(crate) async fn put_signature(&self, node: &Descriptor, signed: Vec<u8>, signature: Vec<u8>) {
        let tag = signature_tag(&node.digest).unwrap();
        self.put(&artifact::legacy_manifest(&[], &[(signed, signature)]), &[tag.as_str()]).await;
    }

    /// Puts `statement` as a bundle that refers to `node`, under a signature over `signed`.
    pub(crate) async fn put_bundle(&self, node: &Descriptor, statement: &[u8], signed: &[u8]) {
        let signature = self.key.sign(&sigstore_bundle::pae(signed)).unwrap();
        let bytes = sigstore_bundle::build(&self.key.public_key().unwrap(), statement, &signature);
        self.put(&artifact::bundle_manifest(node, &bytes, Timestamp::now()), &[]).await;
    }

    /// Puts a sidecar beside the image.
    pub(crate) async fn sidecar(&self, kind: SidecarKind, content: &[u8], signed: Signed) -> Descriptor {
        let sidecar = artifact::sidecar_manifest(kind, &self.image, content);
        let tag = kind.tag(&"v1".parse().unwrap()).unwrap();
        self.put(&sidecar, &[tag.as_str()]).await;
        if signed == Signed::Yes {
            self.sign(&sidecar.node).await;
        }
        sidecar.node
    }
}

/// Whether a forger has the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Yes,
    No,
}

pub(crate) fn lock(image: Digest, policy: Digest, version: &str) -> Lock {
    let hash = Digest::sha256(b"").to_string();
    let inputs = Inputs { prompt_hash: hash.clone(), tool_inputs_hash: hash };
    let agent = Pin { reference: "a.example/robot:v1".into(), digest: image };
    let policy = Pin { reference: format!("a.example/robot-policy:{version}"), digest: policy };
    Lock::new(agent, policy, inputs)
}

pub(crate) fn policy_bundle(version: &str) -> Vec<u8> {
    let manifest = format!(r#"{{"policy_bundle_version":"{version}"}}"#);
    let files = vec![("manifest.json".to_owned(), manifest.into_bytes()), ("a.rego".to_owned(), b"package a\n".into())];
    policy_bundle::pack(files).unwrap()
}

/// The JSON on stdout; fails if stdout holds anything else.
#[track_caller]
pub(crate) fn report(done: &Output) -> serde_json::Value {
    serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{why}: {}", super::command::text(done)))
}

/// The time this many hours from now.
pub(crate) fn hours_from_now(hours: i64) -> Timestamp {
    Timestamp::now() + hours.hours()
}
