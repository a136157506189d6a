//! Writes signatures at the source, valid and invalid, as an attacker: without checks, replacing existing ones.

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::{Body, Listing as _, Store as _};
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use jiff::Timestamp;

use super::{Form, Scene};
use crate::kit::asking::Asking;

impl Scene {
    /// Signs `node` in this scene's format.
    pub(super) async fn sign(&self, node: &Descriptor) -> Descriptor {
        self.sign_as(node, &node.digest, &self.source.key, Some(Timestamp::now())).await
    }

    /// Attaches to `node` a signature by `key` over `digest`.
    pub(super) async fn sign_as(
        &self,
        node: &Descriptor,
        digest: &Digest,
        key: &SigningKey,
        at: Option<Timestamp>,
    ) -> Descriptor {
        match self.form {
            Form::Legacy => {
                let signed = simple_signing::legacy(&self.source.bed.repository("robot"), digest, at);
                let signature = key.sign(&signed).unwrap();
                self.attach(node, &artifact::legacy_manifest(&[], &[(signed, signature)])).await
            }
            Form::Bundle => {
                let statement = sigstore_bundle::statement(digest, at);
                let signature = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
                let bytes = sigstore_bundle::build(&key.public_key().unwrap(), &statement, &signature);
                self.attach(node, &artifact::bundle_manifest(node, &bytes, Timestamp::now())).await
            }
        }
    }

    /// Puts a signature's manifest in the place that its format defines, replacing the existing one.
    pub(super) async fn attach(&self, node: &Descriptor, attachment: &Attachment) -> Descriptor {
        self.source.bed.heal();
        self.detach(node).await;
        self.add(node, attachment).await
    }

    /// The same, but keeps the existing ones. Nothing is validated: the registry is the attacker's.
    pub(super) async fn add(&self, node: &Descriptor, attachment: &Attachment) -> Descriptor {
        let layout = self.source.bed.layout("robot");
        for (blob, bytes) in &attachment.blobs {
            layout.put(blob, &Body::bytes(blob.clone(), bytes.clone()), &[]).await.unwrap();
        }
        let tag = signature_tag(&node.digest).unwrap();
        let tags = if self.form == Form::Legacy { std::slice::from_ref(&tag) } else { &[] };
        let manifest = Descriptor::of(MediaType::OCI_MANIFEST, &attachment.manifest);
        let body = Body::bytes(manifest.clone(), attachment.manifest.clone());
        if layout.put(&manifest, &body, tags).await.is_ok() {
            return manifest;
        }
        // Even a layout refuses it as a manifest; the server serves it all the same.
        let list = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [manifest]});
        let bytes = attachment.manifest.clone();
        let lie = What::Serve { media_type: "application/vnd.oci.image.manifest.v1+json", bytes };
        for name in [tag.to_string(), manifest.digest.to_string()] {
            self.source.bed.fault(Fault::always(Kind::ManifestGet, lie.clone()).at(name));
        }
        let list = Fault::always(Kind::Referrers, What::Replace(list.to_string().into()));
        if self.form == Form::Bundle {
            self.source.bed.fault(list.at(node.digest.to_string()));
        }
        manifest
    }

    /// Removes the signatures of `node`.
    pub(super) async fn detach(&self, node: &Descriptor) {
        let asking = Asking::of(&self.source.bed, "robot");
        let delete = async |name: String| {
            let answer = asking.send(reqwest::Method::DELETE, &format!("manifests/{name}"), &[], b"").await;
            assert!([202, 404].contains(&answer.status().as_u16()), "{}", answer.status());
        };
        delete(signature_tag(&node.digest).unwrap().to_string()).await;
        for referrer in self.source.bed.layout("robot").referrers(&node.digest).await.unwrap() {
            let is_bundle = referrer.artifact_type.is_some_and(|kind| kind.as_str().contains("sigstore"));
            if is_bundle {
                delete(referrer.digest.to_string()).await;
            }
        }
    }
}
