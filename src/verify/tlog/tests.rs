use serde_json::json;

use super::merkle::tests::{path, tree};
use super::*;
use crate::verify::SigningKey;
use crate::verify::bundle::pae;

/// A log of this test's own: some entries of others, and a key.
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

    /// The annotation that cosign puts on a legacy signature.
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

    /// An entry of Rekor's first version, at `index` of a tree of `size`, as a bundle holds it.
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

    /// The same by Rekor's second version: no promise and no time, and the number is that in the tree.
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

/// A signature, and what it is over.
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

    /// The body of the kind `kind`, as Rekor writes it.
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

fn demands(logs: &[&Log]) -> Demands {
    Demands { log_keys: logs.iter().map(|log| log.public()).collect(), ..Demands::new(Vec::new()) }
}

type Verdict = Result<Option<Recorded>, Failure>;

fn judge_annotation(log: &Log, signature: &Signature, annotation: &Value) -> Verdict {
    check(&demands(&[log]), &signature.signed(), || Ok(vec![Entry::from_annotation(&annotation.to_string())?]))
}

fn judge(logs: &[&Log], signature: &Signature, entries: &[Value]) -> Verdict {
    check(&demands(logs), &signature.signed(), || entries.iter().map(Entry::from_bundle).collect())
}

fn class(verdict: Verdict) -> Option<ErrorClass> {
    verdict.err().map(|failure| failure.class)
}

fn replaced(value: &Value, pointer: &str, new: impl Into<Value>) -> Value {
    let mut value = value.clone();
    *value.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = new.into();
    value
}

#[test]
fn a_promise_about_a_legacy_signature_is_believed() {
    let (log, signature) = (Log::new(), Signature::legacy());
    for kind in ["hashedrekord", "rekord"] {
        let annotation = log.annotation(&signature.body(kind));
        let recorded = judge_annotation(&log, &signature, &annotation).unwrap().unwrap();
        let short = &log.public().fingerprint()[..12];
        assert_eq!(recorded.to_string(), format!("log entry 12345 of log {short} at 2026-01-15T12:00:00Z"), "{kind}");
    }
}

#[test]
fn an_annotation_in_which_anything_was_changed_is_refused() {
    use ErrorClass::{SigFormat, TlogRequired};
    let (log, other, signature) = (Log::new(), Log::new(), Signature::legacy());
    let body = signature.body("hashedrekord");
    let good = log.annotation(&body);
    let foreign = Signature::legacy().body("hashedrekord");
    for (pointer, new, expected) in [
        ("/Payload/integratedTime", json!(TIME + 1), TlogRequired),
        ("/Payload/logIndex", json!(12346), TlogRequired),
        ("/Payload/logID", json!(other.id().hex()), TlogRequired),
        ("/Payload/logID", json!(log.id().hex().to_uppercase() + "00"), TlogRequired),
        ("/Payload/logID", json!("no hex"), SigFormat),
        ("/Payload/body", json!(STANDARD.encode(&foreign)), TlogRequired),
        ("/Payload/body", json!("*"), SigFormat),
        ("/Payload/body", json!("e30"), SigFormat),
        ("/Payload/body", json!(""), TlogRequired),
        ("/Payload/integratedTime", json!(-1), SigFormat),
        ("/Payload/integratedTime", json!(TIME.to_string()), SigFormat),
        ("/Payload/logIndex", json!(12345.0), SigFormat),
        ("/Payload/logIndex", json!(MAX_NUMBER + 1), SigFormat),
        ("/SignedEntryTimestamp", json!(log.promise(&foreign, TIME, 12345)), TlogRequired),
        ("/SignedEntryTimestamp", json!(other.promise(&body, TIME, 12345)), TlogRequired),
        ("/SignedEntryTimestamp", json!(""), TlogRequired),
        ("/SignedEntryTimestamp", json!("_-"), SigFormat),
        ("/SignedEntryTimestamp", Value::Null, SigFormat),
        ("/Payload", Value::Null, SigFormat),
    ] {
        let verdict = judge_annotation(&log, &signature, &replaced(&good, pointer, new.clone()));
        assert_eq!(class(verdict), Some(expected), "{pointer} {new}");
    }
    let text = good.to_string();
    for (old, new) in [
        ("\"logIndex\":12345", "\"logIndex\":1,\"logIndex\":12345"),
        ("\"logIndex\":12345", "\"LogIndex\":12345"),
        ("\"logIndex\":12345", "\"x\":1,\"logIndex\":12345"),
        ("{\"Payload\"", "[{\"Payload\""),
    ] {
        assert!(text.contains(old), "{old} in {text}");
        let entry = Entry::from_annotation(&text.replacen(old, new, 1));
        assert_eq!(entry.unwrap_err().class, SigFormat, "{new}");
    }
}

#[test]
fn an_entry_of_another_signature_proves_nothing_however_good_it_is() {
    let log = Log::new();
    for (signature, kinds) in [
        (Signature::legacy(), &["hashedrekord", "rekord"][..]),
        (Signature::enveloped(), &["dsse", "intoto", "second"]),
    ] {
        let judged = |signed: &Signature, body: &[u8]| {
            let verdict = match signed.payload {
                None => judge_annotation(&log, signed, &log.annotation(body)),
                Some(_) if kind_of(body).0 == "hashedrekord" => judge(&[&log], signed, &[log.second_entry(body, 0, 1)]),
                Some(_) => judge(&[&log], signed, &[log.entry(body, 0, 1)]),
            };
            verdict.err().map(|failure| failure.to_string())
        };
        for kind in kinds {
            assert_eq!(judged(&signature, &signature.body(kind)), None, "{kind}");
            let foreign = Signature::over(signature.message.clone(), signature.payload.clone());
            for (what, wrong) in [
                ("signature", Signature { bytes: foreign.bytes, ..same(&signature) }),
                ("another key", Signature { pem: foreign.pem, public: foreign.public, ..same(&signature) }),
                ("content", {
                    let (message, payload) = (b"other".to_vec(), signature.payload.as_ref().map(|_| b"other".to_vec()));
                    Signature { message, payload, ..same(&signature) }
                }),
            ] {
                let why = judged(&signature, &wrong.body(kind)).unwrap_or_default();
                assert!(why.starts_with("TLOG_REQUIRED: ") && why.contains(what), "{kind} {what}: {why}");
            }
        }
    }
}

fn same(signature: &Signature) -> Signature {
    let Signature { public, pem, bytes, message, payload } = signature;
    let (public, pem, bytes) = (public.clone(), pem.clone(), bytes.clone());
    Signature { public, pem, bytes, message: message.clone(), payload: payload.clone() }
}

#[test]
fn a_body_of_a_kind_that_does_not_belong_there_is_refused() {
    let (log, legacy, enveloped) = (Log::new(), Signature::legacy(), Signature::enveloped());
    let annotated = |body: &[u8]| judge_annotation(&log, &legacy, &log.annotation(body)).unwrap_err();
    for kind in ["dsse", "intoto", "second"] {
        assert!(annotated(&legacy.body(kind)).to_string().contains("is of kind"), "{kind}");
    }
    let bundled = |body: &[u8]| judge(&[&log], &enveloped, &[log.entry(body, 0, 1)]).unwrap_err();
    for kind in ["hashedrekord", "rekord"] {
        assert!(bundled(&enveloped.body(kind)).to_string().contains("is of kind"), "{kind}");
    }
    let edited = |kind: &str, old: &str, new: &str| {
        let body = String::from_utf8(enveloped.body(kind)).unwrap();
        assert!(body.contains(old), "{old} in {body}");
        body.replacen(old, new, 1).into_bytes()
    };
    // The first in-toto kind holds no signature that could be compared.
    assert_eq!(bundled(&edited("intoto", "0.0.2", "0.0.1")).class, ErrorClass::TlogRequired);
    let (old, new) = (r#""payloadHash":{"algorithm":"sha256""#, r#""payloadHash":{"algorithm":"sha512""#);
    assert_eq!(bundled(&edited("dsse", old, new)).class, ErrorClass::TlogRequired);
    for (kind, old, new) in [
        ("dsse", "\"verifier\"", "\"Verifier\""),
        ("dsse", "\"kind\"", "\"kind\":\"dsse\",\"kind\""),
        ("dsse", "\"payloadHash\"", "\"x\""),
        ("intoto", "\"sig\":\"", "\"sig\":\"KioqKioq"),
    ] {
        assert_eq!(bundled(&edited(kind, old, new)).class, ErrorClass::SigFormat, "{kind} {new}");
    }
    for (kind, signatures) in [("dsse", "/spec/signatures"), ("intoto", "/spec/content/envelope/signatures")] {
        let mut body: Value = serde_json::from_slice(&enveloped.body(kind)).unwrap();
        let list = body.pointer_mut(signatures).unwrap().as_array_mut().unwrap();
        list.push(list[0].clone());
        assert!(bundled(body.to_string().as_bytes()).to_string().contains("exactly one signature"), "{kind}");
    }
    let entry = log.entry(&enveloped.body("dsse"), 0, 1);
    for (pointer, new) in [("/kindVersion/kind", "intoto"), ("/kindVersion/version", "0.0.2")] {
        assert_eq!(class(judge(&[&log], &enveloped, &[replaced(&entry, pointer, new)])), Some(ErrorClass::SigFormat));
    }
}

#[test]
fn the_second_rekor_names_content_by_the_hash_that_goes_with_the_key() {
    use sha2::{Digest as _, Sha384, Sha512};
    let (log, signature) = (Log::new(), Signature::enveloped());
    let (sha384, sha512) = (Sha384::digest(&signature.message), Sha512::digest(&signature.message));
    for (algorithm, digest, is_it) in [
        ("SHA2_384", &sha384[..], true),
        ("SHA2_512", &sha512[..], true),
        ("SHA2_512", &sha384[..], false),
        ("SHA2_384", &sha384[..32], false),
        ("SHA3_384", &sha384[..], false),
        ("SHA2_256", b"", false),
    ] {
        let body: Value = serde_json::from_slice(&signature.body("second")).unwrap();
        let body = replaced(&body, "/spec/hashedRekordV002/data/algorithm", algorithm);
        let body = replaced(&body, "/spec/hashedRekordV002/data/digest", STANDARD.encode(digest));
        let verdict = judge(&[&log], &signature, &[log.second_entry(body.to_string().as_bytes(), 0, 1)]);
        assert_eq!(verdict.is_ok(), is_it, "{algorithm} {digest:?}");
    }
}

#[test]
fn a_place_in_a_tree_of_any_size_is_believed() {
    let (log, signature) = (Log::new(), Signature::enveloped());
    for size in [1, 2, 3, 7, 8] {
        for index in 0..size {
            for kind in ["dsse", "intoto"] {
                let entry = log.entry(&signature.body(kind), index, size);
                let recorded = judge(&[&log], &signature, &[entry]).unwrap().unwrap();
                assert_eq!(
                    (recorded.index, recorded.time.unwrap().as_second() as u64),
                    (12345, TIME),
                    "{index} of {size}"
                );
            }
            let entry = log.second_entry(&signature.body("second"), index, size);
            let recorded = judge(&[&log], &signature, &[entry]).unwrap().unwrap();
            assert_eq!((recorded.index, recorded.time), (index as u64, None), "{index} of {size}");
        }
    }
}

#[test]
fn a_bundle_entry_in_which_anything_was_changed_is_refused() {
    use ErrorClass::{SigFormat, SigLimit, TlogRequired};
    let (log, other, signature) = (Log::new(), Log::new(), Signature::enveloped());
    let body = signature.body("dsse");
    let good = log.entry(&body, 2, 7);
    let foreign = log.entry(&Signature::enveloped().body("dsse"), 2, 7);
    let root: Hash =
        protojson::decode(good["inclusionProof"]["rootHash"].as_str().unwrap()).unwrap().try_into().unwrap();
    let hashes = good["inclusionProof"]["hashes"].as_array().unwrap().clone();
    let checkpoint = "/inclusionProof/checkpoint/envelope";
    for (pointer, new, expected) in [
        ("/logIndex", json!("12346"), TlogRequired),
        ("/logIndex", json!("-12345"), SigFormat),
        ("/logIndex", json!("+12345"), SigFormat),
        ("/logIndex", json!(1.5), SigFormat),
        ("/integratedTime", json!((TIME + 1).to_string()), TlogRequired),
        ("/integratedTime", json!("99999999999999999999"), SigFormat),
        ("/logId/keyId", json!(STANDARD.encode(other.id().as_bytes())), TlogRequired),
        ("/logId/keyId", json!(""), TlogRequired),
        ("/inclusionPromise/signedEntryTimestamp", json!(other.promise(&body, TIME, 12345)), TlogRequired),
        ("/inclusionPromise", Value::Null, TlogRequired),
        ("/inclusionPromise/signedEntryTimestamp", json!("*"), SigFormat),
        ("/canonicalizedBody", foreign["canonicalizedBody"].clone(), TlogRequired),
        ("/canonicalizedBody", json!("!"), SigFormat),
        ("/inclusionProof/logIndex", json!("3"), TlogRequired),
        ("/inclusionProof/logIndex", json!("7"), TlogRequired),
        ("/inclusionProof/treeSize", json!("8"), TlogRequired),
        ("/inclusionProof/treeSize", json!("0"), TlogRequired),
        ("/inclusionProof/rootHash", foreign["inclusionProof"]["rootHash"].clone(), TlogRequired),
        ("/inclusionProof/rootHash", json!(STANDARD.encode([0; 31])), SigFormat),
        ("/inclusionProof/hashes", json!(hashes[1..]), TlogRequired),
        ("/inclusionProof/hashes", json!([&hashes[..], &hashes[..1]].concat()), TlogRequired),
        ("/inclusionProof/hashes", json!([]), TlogRequired),
        ("/inclusionProof/hashes/0", json!(STANDARD.encode([0; 32])), TlogRequired),
        ("/inclusionProof/hashes/0", json!(STANDARD.encode([0; 33])), SigFormat),
        ("/inclusionProof/hashes", json!(vec![hashes[0].clone(); MAX_PATH + 1]), SigLimit),
        ("/inclusionProof", foreign["inclusionProof"].clone(), TlogRequired),
        (checkpoint, json!(log.checkpoint(8, root)), TlogRequired),
        (checkpoint, json!(log.checkpoint(7, [0; 32])), TlogRequired),
        (checkpoint, json!(other.checkpoint(7, root)), TlogRequired),
        (checkpoint, json!(""), SigFormat),
        ("/inclusionProof/checkpoint", Value::Null, SigFormat),
        ("/inclusionProof", Value::Null, SigFormat),
        ("/kindVersion", Value::Null, SigFormat),
    ] {
        assert_ne!(good.pointer(pointer), Some(&new), "{pointer}");
        let verdict = judge(&[&log], &signature, &[replaced(&good, pointer, new.clone())]);
        assert_eq!(class(verdict), Some(expected), "{pointer} {new}");
    }
    let long = log.entry(&[body, vec![b' '; body::MAX_BYTES]].concat(), 0, 1);
    assert_eq!(class(judge(&[&log], &signature, &[long])), Some(SigLimit));
    let annotation = format!("{}{{}}", " ".repeat(MAX_ANNOTATION_BYTES));
    assert_eq!(Entry::from_annotation(&annotation).unwrap_err().class, SigLimit);
}

#[test]
fn without_a_promise_the_number_is_that_in_the_tree() {
    let (log, signature) = (Log::new(), Signature::enveloped());
    let good = log.second_entry(&signature.body("second"), 2, 7);
    assert_eq!(class(judge(&[&log], &signature, &[replaced(&good, "/logIndex", "3")])), Some(ErrorClass::TlogRequired));
    // The time is nobody's word then, and is not told.
    let mut timed = good;
    timed["integratedTime"] = json!("1");
    assert_eq!(judge(&[&log], &signature, &[timed]).unwrap().unwrap().time, None);
}

#[test]
fn one_trusted_log_is_enough_and_what_it_does_not_vouch_for_is_refused() {
    let (log, other, signature) = (Log::new(), Log::new(), Signature::enveloped());
    let body = signature.body("dsse");
    let (ours, theirs) = (log.entry(&body, 0, 2), other.entry(&body, 1, 3));
    let broken = replaced(&theirs, "/integratedTime", "1");
    assert!(judge(&[&log], &signature, &[theirs.clone(), ours.clone()]).unwrap().is_some());
    assert!(judge(&[&log], &signature, &[broken.clone(), ours.clone()]).unwrap().is_some(), "of a log unknown");
    assert!(judge(&[&log, &other], &signature, std::slice::from_ref(&theirs)).unwrap().is_some());
    let refused = judge(&[&log], &signature, &[theirs]).unwrap_err().to_string();
    assert!(refused.contains("not a trusted one"), "{refused}");
    assert_eq!(class(judge(&[&log, &other], &signature, &[ours, broken])), Some(ErrorClass::TlogRequired));
}

#[test]
fn entries_are_looked_at_only_where_a_log_is_believed_and_missed_only_where_one_is_demanded() {
    let (log, signature) = (Log::new(), Signature::legacy());
    let unread = || -> Result<Vec<Entry>, Failure> { panic!("there is nobody to believe") };
    assert_eq!(check(&demands(&[]), &signature.signed(), unread), Ok(None));
    assert_eq!(check(&demands(&[&log]), &signature.signed(), || Ok(Vec::new())), Ok(None));
    for logs in [&[&log][..], &[]] {
        let demanding = Demands { tlog: Tlog::Required, ..demands(logs) };
        let verdict = check(&demanding, &signature.signed(), || Ok(Vec::new()));
        assert_eq!(class(verdict), Some(ErrorClass::TlogRequired));
    }
}

/// The public Rekor's key.
const PUBLIC_LOG: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwrkBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==";

fn key_of(spki: &str) -> PublicKey {
    let der = STANDARD.decode(spki).unwrap();
    PublicKey::from_pem(crate::verify::pem::encode("PUBLIC KEY", &der).as_bytes()).unwrap()
}

#[test]
fn entries_of_the_public_log_are_believed() {
    let log = key_of(PUBLIC_LOG);
    let id = "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0=";
    assert_eq!(STANDARD.encode(Digest::sha256(log.spki()).as_bytes()), id);
    // Entry 771488337, of a managed key's signature.
    let signer = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExRRST79+PsrRBnGAI4cMu6Omz2JhfwlMW+gIutNKVRaMyS4rQKvgngc5p8UbLj55pVHhIoAxi/SRgURZI0J3Xw==";
    let signature = "MEUCIQCACfhpIX3+zVXJjwEeIS0yFTK2jRfBjduXAaLHJSARHAIgSUdTM+S5xucODRFtrGHN2uClS0MRPhqZm76g0ZHEQ5c=";
    let signer = key_of(signer);
    let pem = STANDARD.encode(crate::verify::pem::encode("PUBLIC KEY", signer.spki()));
    let hash = "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";
    let body = format!(
        r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{pem}"}}}}}}}}"#
    );
    let root = "rnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGlI=";
    let entry = json!({
        "logIndex": "771488337",
        "logId": {"keyId": id},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
        "integratedTime": "1766077479",
        "inclusionPromise": {"signedEntryTimestamp": "MEQCIDCmqrzKHm8Y9CvXE/AzDdOfHGBUyWV9Pw0/qN2CJp2sAiAbgHsHGonTsf+F2DH1RYaTibMDseyHs40JpXEILqOmnw=="},
        "inclusionProof": {
            "logIndex": "649584075",
            "rootHash": root,
            "treeSize": "649584076",
            "hashes": [
                "ysxPntoDCEDAQGR1QIbE4DwK5KtnNrdkP22LEmq0lCI=",
                "5L/j534P74+X9f1bKGD2ouVQTSovoYs0WIkaVRPU7qo=",
                "qV76JElCF4u3bOiOyc1qcDaB+DkslLz5nHYGidQVo+Y=",
                "9nQ2ljbrnOoHSTFZ+QAYzLBgpn5GnrdhWDTJKbu6rdQ=",
                "PT3BZO6cowZTOIdS7Q+VjsLhTaG5HzOWu0bv8vMYIfk=",
                "HcqMiN25hc8ZUCBew9lvG2+zKFgoLvHRSDjNgGq3zQo=",
                "VVrBAbUxuRzfJrFDnkO3eA1pNx2TzdzYXUX8W0I0fLI=",
                "+u3A5DxrSUlRNTIG2zzsY16wqhTkjwbV87U73Tx01Mk=",
                "62eoAzDuXumnjn9cQbOYOWC0H1RF/IDsJKN4viZIPBg=",
                "v9ojnCvHyXhEVzD4YBwzBTdh1xD+u4mzJhfBy7iLlgQ=",
                "xjjjrVAxe7hCw3eOOh7Jm/0BWcSz9488mipK76YAtEI=",
                "24F9NpuXQDgiqdvTOxpt+GTAgLdl6AGn0qojVt6Gw9Q=",
                "P0nOHKpilXSm6eoy205KeX7NWkDCMVUXPXgj1uhL4jI=",
                "FPFGsuPsOXI/nrQA9QlZsNyJqmZlTr0iM5RmdliCy68=",
                "sFJGvFu7SmwuQoaak3Kwc3SA5lCMjhsEWRnHgcO8H48=",
                "tKXr5b5IEBPdgnavJ7fklBhTZyG9KxxUnE8csX65eu0=",
                "93sxEgzO/g7cGQ4i2ytPJwSJ4GZahSoQFyDF1LZQPeY=",
                "X6vkxz0poxK2DIlRur/7LbEdz3iDXj5QY/gLk/ewXjA=",
                "ZmUkYkHBy1B723JrEgiKvepTdHYrP6y2a4oODYvi5VY=",
                "T4DqWD42hAtN+vX8jKCWqoC4meE4JekI9LxYGCcPy1M=",
            ],
            "checkpoint": {"envelope": format!("rekor.sigstore.dev - 1193050959916656506\n649584076\n{root}\n\n\u{2014} rekor.sigstore.dev wNI9ajBFAiB+dI3iNRQRRAEwq+BzKTSdPsCKz/m9BkbkJhT9TXRKxQIhANcH3cgUq9pObcC7hQct9sqjd4ZW54GyCHRXiLC8FF17\n")},
        },
        "canonicalizedBody": STANDARD.encode(&body),
    });
    let entry = Entry::from_bundle(&entry).unwrap();
    assert!(entry.is_of(&log));
    entry.vouched(&log).unwrap();
    // Signature and key are those of the entry; what was signed is not at hand here.
    let signature = STANDARD.decode(signature).unwrap();
    let signed = Signed { key: &signer, signature: &signature, message: b"", enveloped: None };
    assert!(entry.check(&log, &signed).unwrap_err().to_string().contains("other content"));

    // Entry 783606, as cosign 1 annotated a signature with it: a promise alone.
    let pem = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFTEtoRDdGNU9LeTc3WjU4Mlk2aDB1MUozR05BKwprdlVzaDRlS3BkMWx3a0RBemZGRHM3eVhFRXhzRWtQUHVpUUpCZWxEVDY4bjdQRElXQi9RRVk3bXJBPT0KLS0tLS1FTkQgUFVCTElDIEtFWS0tLS0tCg==";
    let signature = "MEYCIQDWWxPQa3XFUsPbyTY+n+bZu/6Pwhg5WwyYDQtEfQho9wIhAPkKW7eub8b7BX+YbbRac8TwwIrK5KxvdtQ6NuoD+ivW";
    let hash = "3af4414d20c9e1cb76ccc72aae8b242166dabe6af531a4a790db8e2f0e5ee7c9";
    let body = format!(
        r#"{{"apiVersion":"0.0.1","kind":"rekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}},"signature":{{"content":"{signature}","format":"x509","publicKey":{{"content":"{pem}"}}}}}}}}"#
    );
    let annotation = json!({
        "SignedEntryTimestamp": "MEUCIDx9M+yRpD0O47/Mzm8NAPCbtqy4uiTkLWWexW0bo4jZAiEA1wwueIW8XzJWNkut5y9snYj7UOfbMmUXp7fH3CzJmWg=",
        "Payload": {"body": STANDARD.encode(body), "integratedTime": 1_634_714_179, "logIndex": 783_606, "logID": hex::encode(STANDARD.decode(id).unwrap())},
    });
    let entry = Entry::from_annotation(&annotation.to_string()).unwrap();
    assert!(entry.is_of(&log));
    entry.vouched(&log).unwrap();
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in r#"(\{|\}|"Payload":|"SignedEntryTimestamp":|"body":|"logID":|"logIndex":|1|""|,|\PC){0,15}"#) {
        proptest::prop_assert!(Entry::from_annotation(&text).is_err());
        let _ = Checkpoint::parse(&text);
    }

    #[test]
    fn no_body_makes_its_reader_panic(spec in r#"(\{|\}|\[|\]|"hash":|"signature":|"signatures":|"content":|"AA=="|"x"|,){0,15}"#) {
        let signature = Signature::enveloped();
        for (kind, version) in [("dsse", "0.0.1"), ("intoto", "0.0.2"), ("hashedrekord", "0.0.2")] {
            let text = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","spec":{spec}}}"#);
            if let Ok(body) = body::parse(text.as_bytes()) {
                proptest::prop_assert!(body::check(&body, &signature.signed()).is_err());
            }
        }
    }
}
