//! Every field of everything that is signed, changed at its first, middle and last byte: one bit flipped, one byte
//! inserted, one byte removed. The attacker then corrects everything that leads there: digests, sizes, manifests, tags.

use std::ops::Range;

use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::trust::{sigstore_bundle, simple_signing};
use autonomy_registry::verify::{SidecarKind, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::{End, FORMS, Form, Place, Scene};
use crate::kit::bundle_bed::{VERSION, policy_bundle};

/// Classes for a lock that is signed by the key but has the wrong content.
const LOCK: End =
    End::Refused(&["LOCK_PARSE", "LOCK_AGENT_DIGEST", "POLICY_DIGEST", "FINGERPRINT_MISMATCH", "FINGERPRINT_ALGO"]);

/// A description of one change, and the changed `bytes`.
type Changed = (String, Vec<u8>);

/// The nine changes in `field`.
fn changes(bytes: &[u8], field: Range<usize>) -> Vec<Changed> {
    let mut found = Vec::new();
    for (place, at) in [("first", field.start), ("middle", (field.start + field.end) / 2), ("last", field.end - 1)] {
        let mut change = |what: &str, change: fn(&mut Vec<u8>, usize)| {
            let mut bytes = bytes.to_vec();
            change(&mut bytes, at);
            found.push((format!("{what} the {place} byte"), bytes));
        };
        change("flip", |bytes, at| bytes[at] ^= 1);
        change("insert before", |bytes, at| bytes.insert(at, b'0'));
        change("remove", |bytes, at| {
            bytes.remove(at);
        });
    }
    found
}

/// The nine changes in each of `fields` of `bytes`, and in all of it.
fn in_fields(bytes: &[u8], fields: &[&str]) -> Vec<Changed> {
    let text = std::str::from_utf8(bytes).unwrap();
    let ranges = fields.iter().map(|field| {
        let at = text.find(field).unwrap_or_else(|| panic!("{field} in {text}"));
        (*field, at..at + field.len())
    });
    let ranges = ranges.chain([("all of it", 0..bytes.len())]);
    ranges
        .flat_map(|(field, range)| {
            changes(bytes, range).into_iter().map(move |(what, bytes)| (format!("{field}: {what}"), bytes))
        })
        .collect()
}

/// A signed payload or statement about the image, and the signature.
fn signed(scene: &Scene) -> (Vec<u8>, Vec<u8>) {
    let (digest, now) = (&scene.source.image.digest, Some(Timestamp::now()));
    let repository = scene.source.bed.repository("robot");
    match scene.form {
        Form::Legacy => {
            let signed = simple_signing::legacy(&repository, digest, now);
            let signature = scene.source.key.sign(&signed).unwrap();
            (signed, signature)
        }
        Form::Bundle => {
            let statement = sigstore_bundle::statement(digest, now);
            let signature = scene.source.key.sign(&sigstore_bundle::pae(&statement)).unwrap();
            (statement, signature)
        }
    }
}

/// The manifest that carries both, unchecked.
fn carried(scene: &Scene, signed: &[u8], signature: &[u8]) -> Attachment {
    match scene.form {
        Form::Legacy => artifact::legacy_manifest(&[], &[(signed.to_vec(), signature.to_vec())]),
        Form::Bundle => {
            let bytes = sigstore_bundle::build(&scene.source.key.public_key().unwrap(), signed, signature);
            artifact::bundle_manifest(&scene.source.image, &bytes, Timestamp::now())
        }
    }
}

/// Attaches all of `changed` at once, replacing the signature, and attempts it: no change may verify.
async fn none_counts(scene: &Scene, what: &str, changed: Vec<(Vec<u8>, Vec<u8>)>, classes: &'static [&'static str]) {
    let (image, count) = (&scene.source.image, changed.len());
    scene.detach(image).await;
    match scene.form {
        Form::Legacy => drop(scene.attach(image, &artifact::legacy_manifest(&[], &changed)).await),
        Form::Bundle => {
            for (bundle, _) in changed {
                scene.add(image, &artifact::bundle_manifest(image, &bundle, Timestamp::now())).await;
            }
        }
    }
    let done = scene.refused(&format!("{count} changes of the {what}"), Place::Source, End::Refused(classes)).await;
    assert!(done.contains(&format!("of {count} failures")), "{what}: {done}");
    scene.sign(image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_what_is_signed_can_be_changed() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let digest = scene.source.image.digest;
        let (what, signature) = signed(&scene);
        let (hex, host) = (digest.hex(), scene.source.bed.host().to_owned());
        let fields: &[&str] = match form {
            Form::Legacy => &[&host, &hex, "cosign container", "\"optional\"", "autonomy.signed-at", ":\"20"],
            Form::Bundle => &["_type", "https://in-toto", &hex, "autonomy.signed-at", ":\"20", "https://sigstore"],
        };
        let pairs = in_fields(&what, fields).into_iter().map(|(_, bytes)| (bytes, signature.clone()));
        let signatures = changes(&signature, 0..signature.len()).into_iter().map(|(_, bytes)| (what.clone(), bytes));
        let pairs = pairs.chain(signatures);
        let key = scene.source.key.public_key().unwrap();
        let pairs = match form {
            Form::Legacy => pairs.collect(),
            Form::Bundle => pairs.map(|(what, by)| (sigstore_bundle::build(&key, &what, &by), Vec::new())).collect(),
        };
        none_counts(&scene, "payload and the signature", pairs, &["SIG_NO_MATCH"]).await;
        scene.arrives("signed again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_what_carries_a_signature_can_be_changed() {
    let scene = Scene::new(Form::Bundle).await;
    let (statement, signature) = signed(&scene);
    let bytes = sigstore_bundle::build(&scene.source.key.public_key().unwrap(), &statement, &signature);
    let (payload, sig) = (STANDARD.encode(&statement), STANDARD.encode(&signature));
    // Without the padding, which carries nothing; `hint` is not listed, since nothing depends on it.
    let (payload, sig) = (payload.trim_end_matches('='), sig.trim_end_matches('='));
    let fields = [
        "mediaType",
        sigstore_bundle::MEDIA_TYPE,
        "verificationMaterial",
        "publicKey",
        "dsseEnvelope",
        "payloadType",
        "application/vnd.in-toto+json",
        "signatures",
        "\"sig\"",
        payload,
        sig,
    ];
    let bundles = in_fields(&bytes, &fields).into_iter().map(|(_, bytes)| (bytes, Vec::new())).collect();
    none_counts(&scene, "bundle", bundles, &["SIG_FORMAT", "SIG_NO_MATCH"]).await;
    scene.arrives("signed again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_of_a_signatures_manifest_can_be_changed() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let (what, signature) = signed(&scene);
        let honest = carried(&scene, &what, &signature);
        let layer = match form {
            Form::Legacy => &honest.blobs[0].0,
            Form::Bundle => &honest.blobs[1].0,
        };
        let (digest, size) = (layer.digest.hex(), format!("\"size\":{}", layer.size));
        let (subject, sig) = (scene.source.image.digest.hex(), STANDARD.encode(&signature));
        // The type of its layer, the digest and size of its content; then the binding to the image.
        let media_type = match form {
            Form::Legacy => layer.media_type.as_str(),
            // The version follows, and is the bundle's own.
            Form::Bundle => "application/vnd.dev.sigstore.bundle",
        };
        let mut fields: Vec<&str> = vec![media_type, &digest, &size[7..]];
        match form {
            Form::Legacy => fields.extend([simple_signing::SIGNATURE, sig.trim_end_matches('=')]),
            Form::Bundle => fields.push(&subject),
        }
        // The media type of a bundle's manifest appears there too, before its layer's.
        let text = String::from_utf8(honest.manifest.to_vec()).unwrap();
        let head = text.find("\"layers\"").unwrap();
        let rows =
            in_fields(&text.as_bytes()[head..], &fields).into_iter().filter(|(what, _)| !what.contains("all of it"));
        let rows = rows.map(|(change, tail)| {
            let manifest = [&text.as_bytes()[..head], &tail].concat().into();
            (change, Attachment { manifest, ..honest.clone() })
        });
        let ends = End::Refused(&["SIG_NOT_FOUND", "SIG_FORMAT", "SIG_NO_MATCH", "BLOB_DIGEST", "SIG_LIMIT"]);
        for (turn, (change, attachment)) in rows.enumerate() {
            scene.attach(&scene.source.image, &attachment).await;
            scene.refused_in_turn(turn, &format!("signature's manifest, {change}"), ends).await;
        }
        scene.sign(&scene.source.image).await;
        scene.arrives("signed again").await;
    }
}

/// Puts sidecars with changed content, signed by `key` or unsigned.
async fn sidecars(scene: &Scene, kind: SidecarKind, rows: Vec<Changed>, key: Option<&SigningKey>, end: End) {
    for (turn, (change, bytes)) in rows.into_iter().enumerate() {
        let node = scene.source.sidecar(kind, &bytes, crate::kit::bundle_bed::Signed::No).await;
        if let Some(key) = key {
            scene.sign_as(&node, &node.digest, key, Some(Timestamp::now())).await;
        }
        scene.refused_in_turn(turn, &format!("{kind:?}, signed {}, {change}", key.is_some()), end).await;
    }
    let (tag, node) = match kind {
        SidecarKind::Lock => ("v1-lock", &scene.lock),
        SidecarKind::Policy => ("v1-policy", &scene.policy),
    };
    scene.retag(tag, node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_lock_and_policy_can_be_changed_not_even_by_who_has_the_key() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let policy = policy_bundle(VERSION);
        let lock = scene.source.lock(&policy);
        let fingerprint = lock.fingerprint().to_owned();
        let (text, agent) = (lock.to_bytes(), scene.source.image.digest.to_string());
        let named = lock.policy_bundle().digest.to_string();
        let fields = [
            "agent_artifact",
            &agent,
            "a.example/robot-policy",
            &named,
            "tool_inputs_hash",
            "behavioral_fingerprint",
            &fingerprint,
        ];
        let stranger = SigningKey::generate().unwrap();
        // Without the final line break, which is not part of the lock's content.
        let (locks, policies) = (in_fields(text.trim_ascii_end(), &fields), changes(&policy, 0..policy.len()));
        let few = locks[locks.len() - 9..].to_vec();
        match form {
            Form::Bundle => {
                let end = End::Refused(&["SIG_NO_MATCH"]);
                sidecars(&scene, SidecarKind::Lock, few, Some(&stranger), end).await;
                sidecars(&scene, SidecarKind::Policy, policies, Some(&stranger), end).await;
            }
            Form::Legacy => {
                let end = End::Refused(&["SIG_NOT_FOUND"]);
                sidecars(&scene, SidecarKind::Lock, few, None, end).await;
                sidecars(&scene, SidecarKind::Policy, policies.clone(), None, end).await;
                // Valid signatures of any format: the rest does not depend on it.
                let key = SigningKey::from_pkcs8(&scene.source.key.to_pkcs8().unwrap()).unwrap();
                sidecars(&scene, SidecarKind::Lock, locks, Some(&key), LOCK).await;
                sidecars(&scene, SidecarKind::Policy, policies, Some(&key), End::Refused(&["POLICY_DIGEST"])).await;
            }
        }
        scene.arrives("the honest sidecars are back").await;
    }
}
