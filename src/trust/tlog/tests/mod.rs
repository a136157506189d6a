//! Entries of transparency logs: which are trusted, for which signature and which log keys.

mod annotation;
mod content;
mod no_panic;
mod proof;
mod public_log;
mod trust;

use serde_json::json;

use super::merkle::tests::{path, tree};
use super::*;
use crate::trust::signing_key::SigningKey;
use crate::trust::sigstore_bundle::pae;

/// A log of this test: a key, and entries of others.
struct Log {
    key: SigningKey,
    name: &'static str,
}

impl Log {
    fn new() -> Self {
        Self { key: SigningKey::generate().unwrap(), name: "log.example" }
    }

    fn public(&self) -> PublicKey {
        self.key.public_key().unwrap()
    }

    fn id(&self) -> Digest {
        Digest::sha256(self.public().spki())
    }

    fn promise(&self, body: &[u8], time: u64, index: u64) -> String {
        let (body, log) = (STANDARD.encode(body), self.id().hex());
        let text = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":{index}}}"#);
        STANDARD.encode(self.key.sign(text.as_bytes()).unwrap())
    }

    /// Returns the annotation that cosign puts on a legacy signature.
    fn annotation(&self, body: &[u8]) -> Value {
        json!({
            "SignedEntryTimestamp": self.promise(body, TIME, 12345),
            "Payload": {"body": STANDARD.encode(body), "integratedTime": TIME, "logIndex": 12345, "logID": self.id().hex()},
        })
    }

    fn checkpoint(&self, size: usize, root: Hash) -> String {
        let text = format!("{} - 42\n{size}\n{}\n", self.name, STANDARD.encode(root));
        let signature = [&self.id().as_bytes()[..4], &self.key.sign(text.as_bytes()).unwrap()].concat();
        format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
    }

    /// Returns an entry of Rekor's first version, at `index` of a tree of `size`, as a bundle holds it.
    fn entry(&self, body: &[u8], index: usize, size: usize) -> Value {
        let leaves: Vec<_> = (0..size)
            .map(|n| if n == index { merkle::leaf(body) } else { merkle::leaf(format!("of others: {n}").as_bytes()) })
            .collect();
        let root = tree(&leaves);
        let (kind, version) = kind_of(body);
        json!({
            "logIndex": "12345",
            "logId": {"keyId": STANDARD.encode(self.id().as_bytes())},
            "kindVersion": {"kind": kind, "version": version},
            "integratedTime": TIME.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(body, TIME, 12345)},
            "inclusionProof": {
                "logIndex": index.to_string(),
                "rootHash": STANDARD.encode(root),
                "treeSize": size.to_string(),
                "hashes": path(&leaves, index).iter().map(|hash| STANDARD.encode(hash)).collect::<Vec<_>>(),
                "checkpoint": {"envelope": self.checkpoint(size, root)},
            },
            "canonicalizedBody": STANDARD.encode(body),
        })
    }

    /// Returns the same by Rekor's second version: no promise and no time, and the index is that in the tree.
    fn second_entry(&self, body: &[u8], index: usize, size: usize) -> Value {
        let mut entry = self.entry(body, index, size);
        let map = entry.as_object_mut().unwrap();
        map.remove("inclusionPromise");
        map.remove("integratedTime");
        map.insert("logIndex".into(), index.to_string().into());
        entry
    }
}

const TIME: u64 = 1_768_478_400;

fn kind_of(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let (kind, version) = body::kind(&body);
    (kind.to_owned(), version.to_owned())
}

/// A signature, and the bytes that it covers.
struct Signature {
    public: PublicKey,
    pem: String,
    bytes: Vec<u8>,
    message: Vec<u8>,
    payload: Option<Vec<u8>>,
}

impl Signature {
    fn legacy() -> Self {
        Self::over(b"a payload".to_vec(), None)
    }

    fn enveloped() -> Self {
        Self::over(pae(b"a statement"), Some(b"a statement".to_vec()))
    }

    fn over(message: Vec<u8>, payload: Option<Vec<u8>>) -> Self {
        let key = SigningKey::generate().unwrap();
        let bytes = key.sign(&message).unwrap();
        Self { public: key.public_key().unwrap(), pem: key.public_pem().unwrap(), bytes, message, payload }
    }

    fn signed(&self) -> Signed<'_> {
        let Self { public: key, bytes: signature, message, payload, .. } = self;
        Signed { key, signature, message, enveloped: payload.as_deref() }
    }

    /// Returns the body of the kind `kind`, as Rekor writes it.
    fn body(&self, kind: &str) -> Vec<u8> {
        let (signature, key) = (STANDARD.encode(&self.bytes), STANDARD.encode(&self.pem));
        let sha256 = |content: &[u8]| json!({"algorithm": "sha256", "value": Digest::sha256(content).hex()});
        let payload = self.payload.as_deref().unwrap_or_default();
        let (kind, version, spec) = match kind {
            "hashedrekord" | "rekord" => {
                let signature = json!({"content": signature, "publicKey": {"content": key}});
                (kind, "0.0.1", json!({"data": {"hash": sha256(&self.message)}, "signature": signature}))
            }
            "dsse" => {
                let signatures = json!([{"signature": signature, "verifier": key}]);
                let spec =
                    json!({"envelopeHash": sha256(b""), "payloadHash": sha256(payload), "signatures": signatures});
                (kind, "0.0.1", spec)
            }
            "intoto" => {
                let signatures = json!([{"sig": STANDARD.encode(signature), "publicKey": key}]);
                let envelope = json!({"payloadType": "application/vnd.in-toto+json", "signatures": signatures});
                let content = json!({"envelope": envelope, "hash": sha256(b""), "payloadHash": sha256(payload)});
                (kind, "0.0.2", json!({"content": content}))
            }
            "second" => {
                let data = json!({"algorithm": "SHA2_256", "digest": STANDARD.encode(Digest::sha256(&self.message).as_bytes())});
                let key = json!({"rawBytes": STANDARD.encode(self.public.spki())});
                let verifier = json!({"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": key});
                let signature = json!({"content": signature, "verifier": verifier});
                ("hashedrekord", "0.0.2", json!({"hashedRekordV002": {"data": data, "signature": signature}}))
            }
            other => panic!("{other}"),
        };
        serde_json::to_vec(&json!({"apiVersion": version, "kind": kind, "spec": spec})).unwrap()
    }
}

fn keys(logs: &[&Log]) -> Vec<PublicKey> {
    logs.iter().map(|log| log.public()).collect()
}

type Verdict = Result<Option<Recorded>, Failure>;

fn judge_annotation(log: &Log, signature: &Signature, annotation: &Value) -> Verdict {
    check(&keys(&[log]), Tlog::NotAsked, &signature.signed(), || {
        Ok(vec![Entry::from_annotation(&annotation.to_string())?])
    })
}

fn judge(logs: &[&Log], signature: &Signature, entries: &[Value]) -> Verdict {
    check(&keys(logs), Tlog::NotAsked, &signature.signed(), || entries.iter().map(Entry::from_bundle).collect())
}

fn class(verdict: Verdict) -> Option<ErrorClass> {
    verdict.err().map(|failure| failure.class)
}

fn replaced(value: &Value, pointer: &str, new: impl Into<Value>) -> Value {
    let mut value = value.clone();
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = new.into();
    value
}
