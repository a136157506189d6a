//! A transparency log of the tests' own: a key, and entries as Rekor makes them. The interop tests show that cosign accepts
//! them too.

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::store::{Body, Store};
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The time of every entry: 2026-01-15T12:00:00Z.
const INTEGRATED: u64 = 1_768_478_400;

/// A log.
pub struct Log {
    pub key: SigningKey,
}

/// A signature, and the body of its entry in a log.
pub struct Made {
    pub signed: Vec<u8>,
    pub signature: Vec<u8>,
    pub body: String,
}

impl Log {
    pub fn new() -> Self {
        Self { key: SigningKey::generate().unwrap() }
    }

    fn spki(&self) -> Vec<u8> {
        self.key.public_key().unwrap().spki().to_vec()
    }

    pub fn id(&self) -> Digest {
        Digest::sha256(&self.spki())
    }

    /// The signed entry timestamp.
    fn promise(&self, body: &str) -> String {
        let (body, log) = (STANDARD.encode(body), self.id().hex());
        let text = format!(r#"{{"body":"{body}","integratedTime":{INTEGRATED},"logID":"{log}","logIndex":12345}}"#);
        STANDARD.encode(self.key.sign(text.as_bytes()).unwrap())
    }

    /// An entry in the form of cosign's annotation on a legacy signature.
    pub fn annotation(&self, body: &str) -> String {
        let log = self.id().hex();
        let payload =
            json!({"body": STANDARD.encode(body), "integratedTime": INTEGRATED, "logIndex": 12345, "logID": log});
        json!({"SignedEntryTimestamp": self.promise(body), "Payload": payload}).to_string()
    }

    /// An entry in the form of a bundle, the only one of its tree.
    fn entry(&self, body: &str) -> Value {
        let leaf = Digest::sha256(&[&[0], body.as_bytes()].concat());
        let root = STANDARD.encode(leaf.as_bytes());
        let tree = format!("log.example - 7\n1\n{root}\n");
        let signature = [&self.id().as_bytes()[..4], &self.key.sign(tree.as_bytes()).unwrap()].concat();
        let checkpoint = format!("{tree}\n\u{2014} log.example {}\n", STANDARD.encode(signature));
        json!({
            "logIndex": "12345",
            "logId": {"keyId": STANDARD.encode(self.id().as_bytes())},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": INTEGRATED.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(body)},
            "inclusionProof": {
                "logIndex": "0", "rootHash": root, "treeSize": "1", "hashes": [], "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }

    /// Puts a bundle by `key` about `node`, with its entry.
    pub async fn put_bundle(&self, store: &dyn Store, node: &Descriptor, key: &SigningKey) {
        let Made { signed, signature, body } = enveloped(node, key);
        let bundle = sigstore_bundle::build(&key.public_key().unwrap(), &signed, &signature);
        let mut bundle: Value = serde_json::from_slice(&bundle).unwrap();
        bundle["verificationMaterial"]["tlogEntries"] = json!([self.entry(&body)]);
        put(store, artifact::bundle_manifest(node, bundle.to_string().as_bytes(), Timestamp::now()), &[]).await;
    }

    /// The file that makes cosign trust this log.
    pub fn trusted_root(&self) -> String {
        let key = json!({
            "rawBytes": STANDARD.encode(self.spki()),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        });
        let id = json!({"keyId": STANDARD.encode(self.id().as_bytes())});
        let log = json!({"baseUrl": "https://log.example", "hashAlgorithm": "SHA2_256", "publicKey": key, "logId": id});
        json!({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [log]}).to_string()
    }
}

/// Signs the payload `signed`, in the legacy format.
pub fn legacy(signed: Vec<u8>, key: &SigningKey) -> Made {
    let signature = key.sign(&signed).unwrap();
    let public = json!({"content": STANDARD.encode(key.public_pem().unwrap())});
    let recorded = json!({"content": STANDARD.encode(&signature), "publicKey": public});
    let spec = json!({"data": {"hash": hash(&signed)}, "signature": recorded});
    let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}).to_string();
    Made { signed, signature, body }
}

/// Signs a statement about `node`, with the current time.
fn enveloped(node: &Descriptor, key: &SigningKey) -> Made {
    let signed = sigstore_bundle::statement(&node.digest, Some(Timestamp::now()));
    let signature = key.sign(&sigstore_bundle::pae(&signed)).unwrap();
    let verifier = STANDARD.encode(key.public_pem().unwrap());
    let signatures = json!([{"signature": STANDARD.encode(&signature), "verifier": verifier}]);
    let spec = json!({"envelopeHash": hash(b""), "payloadHash": hash(&signed), "signatures": signatures});
    let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).to_string();
    Made { signed, signature, body }
}

fn hash(content: &[u8]) -> Value {
    json!({"algorithm": "sha256", "value": Digest::sha256(content).hex()})
}

/// Puts a legacy signature of `node` with the annotation `entry`.
pub async fn put_legacy(store: &dyn Store, node: &Descriptor, signed: &[u8], signature: &[u8], entry: String) {
    let mut layer = Descriptor::of(MediaType::new(simple_signing::MEDIA_TYPE), signed);
    store.put(&layer, &Body::bytes(layer.clone(), signed.to_vec()), &[]).await.unwrap();
    layer.annotations.insert(simple_signing::SIGNATURE.to_owned(), STANDARD.encode(signature));
    layer.annotations.insert("dev.sigstore.cosign/bundle".to_owned(), entry);
    let tag = signature_tag(&node.digest).unwrap();
    put(store, artifact::legacy_manifest(&[layer], &[]), &[tag.as_str()]).await;
}

async fn put(store: &dyn Store, attachment: Attachment, tags: &[&str]) {
    let Attachment { node, manifest, blobs } = attachment;
    for (blob, bytes) in blobs {
        store.put(&blob, &Body::bytes(blob.clone(), bytes), &[]).await.unwrap();
    }
    let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    store.put(&node, &Body::bytes(node.clone(), manifest), &tags).await.unwrap();
}
