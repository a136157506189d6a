//! An image in a registry, a key, and helpers to sign and seal.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use autonomy_registry::document::{lock, policy_bundle};
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Reference};
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{
    Candidate, Clock, Demands, ErrorClass, Pipeline, PublicKey, SidecarDemand, SidecarKind, SigningKey, VerifyReport,
    signature_tag,
};
use jiff::Timestamp;

use crate::verify_site::Site;

pub const NOW: &str = "2026-06-01T00:00:00Z";
pub const RECENT: &str = "2026-05-01T00:00:00Z";
pub const STALE: &str = "2024-05-01T00:00:00Z";

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn reference() -> Reference {
    "site.example/app:v1".parse().unwrap()
}

/// An image in a registry, and a key that its operator trusts.
pub struct Bench {
    pub site: Site,
    pub image: Descriptor,
    pub key: SigningKey,
    pub demands: Demands,
}

impl Bench {
    pub async fn new() -> Self {
        let site = Site::default();
        let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{}","layers":[]}}"#, MediaType::OCI_MANIFEST);
        let image = site.manifest(manifest, &["v1"]).await;
        let key = SigningKey::generate().unwrap();
        let demands = Demands { clock: Clock::Fixed(time(NOW)), ..Demands::new(vec![public(&key)]) };
        Self { site, image, key, demands }
    }

    /// The same with required, signed lock and policy sidecars.
    pub async fn sealed() -> Self {
        let mut bench = Self::new().await;
        let policy = policy_bundle("1.2.3");
        let sealed = lock_for(&bench.image, Digest::sha256(&policy)).to_bytes();
        for (kind, content) in [(SidecarKind::Lock, sealed), (SidecarKind::Policy, policy)] {
            let node = bench.sidecar(kind, &content).await;
            bench.sign(&node, Some(RECENT)).await;
        }
        let image = bench.image.clone();
        bench.sign(&image, Some(RECENT)).await;
        bench.demands.lock = SidecarDemand::Required;
        bench.demands.policy = SidecarDemand::Required;
        bench
    }

    pub async fn sidecar(&self, kind: SidecarKind, content: &[u8]) -> Descriptor {
        let attachment = artifact::sidecar_manifest(kind, &self.image, content);
        let tag = kind.tag(&"v1".parse().unwrap()).unwrap();
        self.put(&attachment, &[tag.as_str()]).await
    }

    pub async fn put(&self, attachment: &Attachment, tags: &[&str]) -> Descriptor {
        for (node, bytes) in &attachment.blobs {
            assert_eq!(self.site.blob(bytes.clone()).await.digest, node.digest);
        }
        self.site.manifest(attachment.manifest.clone(), tags).await
    }

    /// A payload about `node`, with the signature of this bench's key.
    pub fn signed(&self, node: &Descriptor, at: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let payload = simple_signing::legacy(&reference().repository, &node.digest, at.map(time));
        let signature = self.key.sign(&payload).unwrap();
        (payload, signature)
    }

    pub async fn sign(&self, node: &Descriptor, at: Option<&str>) -> Descriptor {
        self.attach_legacy(node, &[self.signed(node, at)]).await
    }

    pub async fn attach_legacy(&self, node: &Descriptor, signatures: &[(Vec<u8>, Vec<u8>)]) -> Descriptor {
        let tag = signature_tag(&node.digest).unwrap();
        self.put(&artifact::legacy_manifest(&[], signatures), &[tag.as_str()]).await
    }

    pub async fn attach_bundle(&self, node: &Descriptor, key: &SigningKey, at: Option<&str>) -> Descriptor {
        let statement = sigstore_bundle::statement(&node.digest, at.map(time));
        let signature = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
        let bundle = sigstore_bundle::build(&public(key), &statement, &signature);
        self.put(&artifact::bundle_manifest(node, &bundle, time(NOW)), &[]).await
    }

    pub async fn try_run(&self) -> autonomy_registry::Result<VerifyReport> {
        let subject = Candidate::resolve(&self.site, &reference(), &self.demands).await?;
        Pipeline::new(self.demands.clone()).run(&self.site, &subject).await
    }

    pub async fn run(&self) -> VerifyReport {
        self.try_run().await.unwrap()
    }

    pub async fn class(&self) -> Option<ErrorClass> {
        class(&self.run().await)
    }
}

pub fn class(report: &VerifyReport) -> Option<ErrorClass> {
    report.failure().map(|(_, failure)| failure.class)
}

pub fn public(key: &SigningKey) -> PublicKey {
    key.public_key().unwrap()
}

pub fn policy_bundle(version: &str) -> Vec<u8> {
    let manifest = format!(r#"{{"policy_bundle_version":"{version}"}}"#);
    policy_bundle::pack(vec![("manifest.json".into(), manifest.into()), ("a.rego".into(), b"package a".to_vec())])
        .unwrap()
}

pub fn lock_for(image: &Descriptor, policy: Digest) -> lock::Lock {
    let hash = format!("blake3:{}", "0".repeat(64));
    lock::Lock::new(
        lock::Pin { reference: "site.example/app:v1".into(), digest: image.digest },
        lock::Pin { reference: "site.example/app-policy:1.2.0".into(), digest: policy },
        lock::Inputs { prompt_hash: hash.clone(), tool_inputs_hash: hash },
    )
}
