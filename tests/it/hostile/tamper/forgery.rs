//! Valid content in the wrong place: signatures of something else, older releases, content changed at rest; and tags that
//! move during a seed.

use std::path::PathBuf;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Seen, What};
use autonomy_registry::store::Store as _;
use autonomy_registry::trust::artifact::{self, Attachment};
use autonomy_registry::verify::{SidecarKind, SigningKey, signature_tag};
use jiff::Timestamp;
use testkit::images;

use super::{Before, End, FORMS, Form, Place, Scene};
use crate::kit::bundle_bed::{Signed, VERSION, hours_from_now, lock, policy_bundle};
use crate::kit::command::assert_code;

/// The attacker's content at the source. All of it is intact.
#[derive(Debug, Clone, Copy)]
enum Forgery {
    /// Another image, and beside it the valid signature of the right one.
    AnothersSignature,
    /// One platform of the signed index.
    OnePlatform,
    /// The right statement, by a stranger.
    Stranger,
    /// Signed without a time; the time is where anyone can write it.
    TimeInAnnotations,
    /// The lock of another release, signed.
    AnotherReleasesLock,
    /// An unsigned lock that fits, and beside it the valid signature of the right one.
    LockUnderAnothersSignature,
    /// The right lock, signed too long ago.
    StaleLock,
    /// A signed lock under the tag that does not refer to the image, and the right one that does.
    LockOfNobody,
    /// An older policy, signed.
    OlderPolicy,
    /// A policy of another version than the lock names; both signed.
    OtherVersion,
}

const FORGERIES: [(Forgery, &str); 10] = [
    (Forgery::AnothersSignature, "SIG_DIGEST_MISMATCH"),
    (Forgery::OnePlatform, "SIG_NOT_FOUND"),
    (Forgery::Stranger, "SIG_NO_MATCH"),
    (Forgery::TimeInAnnotations, "TIME_MISSING"),
    (Forgery::AnotherReleasesLock, "LOCK_AGENT_DIGEST"),
    (Forgery::LockUnderAnothersSignature, "SIG_DIGEST_MISMATCH"),
    (Forgery::StaleLock, "TIME_STALE"),
    (Forgery::LockOfNobody, "SIDECAR_AMBIGUOUS"),
    (Forgery::OlderPolicy, "POLICY_DIGEST"),
    (Forgery::OtherVersion, "SEMVER_MISMATCH"),
];

#[tokio::test(flavor = "multi_thread")]
async fn valid_content_in_the_wrong_place_is_refused() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        for (forgery, class) in FORGERIES {
            forge(&scene, forgery).await;
            // The classes are static; one of a list of one.
            let classes: &'static [&'static str] = Box::leak(Box::new([class]));
            scene.refused(&format!("{forgery:?}"), Place::Source, End::Refused(classes)).await;
            restore(&scene).await;
        }
        scene.arrives("all is as it was").await;
    }
}

/// Carries it out.
async fn forge(scene: &Scene, forgery: Forgery) {
    let (source, key, now) = (&scene.source, &scene.source.key, Some(Timestamp::now()));
    let policy = policy_bundle(VERSION);
    let sidecar = async |kind, content: &[u8]| {
        let node = source.sidecar(kind, content, Signed::No).await;
        scene.sign(&node).await;
    };
    match forgery {
        Forgery::AnothersSignature => {
            let other = images::two_platforms(&source.store, 3, &[100]).await;
            scene.retag("v1", &other).await;
            scene.sign_as(&other, &source.image.digest, key, now).await;
        }
        Forgery::OnePlatform => scene.retag("v1", &platform(scene).await).await,
        Forgery::Stranger => {
            let stranger = SigningKey::generate().unwrap();
            scene.sign_as(&source.image, &source.image.digest, &stranger, now).await;
        }
        Forgery::TimeInAnnotations => time_in_annotations(scene).await,
        Forgery::AnotherReleasesLock => {
            let other = lock(Digest::sha256(b"another release"), Digest::sha256(&policy), VERSION);
            sidecar(SidecarKind::Lock, &other.to_bytes()).await;
        }
        Forgery::LockUnderAnothersSignature => {
            let other = lock(source.image.digest, Digest::sha256(&policy_bundle("1.2.1")), VERSION).to_bytes();
            let node = source.sidecar(SidecarKind::Lock, &other, Signed::No).await;
            scene.sign_as(&node, &scene.lock.digest, key, now).await;
        }
        Forgery::StaleLock => {
            scene.sign_as(&scene.lock, &scene.lock.digest, key, Some(hours_from_now(-8761))).await;
        }
        Forgery::LockOfNobody => {
            let nobody = Descriptor::of(MediaType::OCI_MANIFEST, b"another image");
            let stray = artifact::sidecar_manifest(SidecarKind::Lock, &nobody, &source.lock(&policy).to_bytes());
            source.put(&stray, &["v1-lock"]).await;
            scene.sign(&stray.node).await;
        }
        Forgery::OlderPolicy => sidecar(SidecarKind::Policy, &policy_bundle("1.1.0")).await,
        Forgery::OtherVersion => {
            let newer = policy_bundle("1.3.0");
            sidecar(SidecarKind::Policy, &newer).await;
            sidecar(SidecarKind::Lock, &source.lock(&newer).to_bytes()).await;
        }
    }
}

async fn restore(scene: &Scene) {
    for (tag, node) in [("v1", &scene.source.image), ("v1-lock", &scene.lock), ("v1-policy", &scene.policy)] {
        scene.retag(tag, node).await;
        scene.detach(node).await;
        scene.sign(node).await;
    }
}

/// The first platform's manifest.
async fn platform(scene: &Scene) -> Descriptor {
    let root = scene.source.store.fetch(&Name::Digest(scene.source.image.digest)).await.unwrap();
    root.manifest().unwrap().manifests[0].clone()
}

/// Signs the image without a time, and writes one into every unsigned annotation.
async fn time_in_annotations(scene: &Scene) {
    let image = &scene.source.image;
    let node = scene.sign_as(image, &image.digest, &scene.source.key, None).await;
    let layout = scene.source.bed.layout("robot");
    let root = layout.fetch(&Name::Digest(node.digest)).await.unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&root.bytes).unwrap();
    let now = Timestamp::now().to_string();
    for place in ["/annotations", "/layers/0/annotations", "/config/annotations"] {
        let (parent, name) = place.rsplit_once('/').unwrap();
        let parent = manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let annotations = parent.entry(name).or_insert_with(|| serde_json::json!({}));
        annotations["autonomy.signed-at"] = now.clone().into();
    }
    let manifest = bytes::Bytes::from(manifest.to_string());
    let node = Descriptor::of(MediaType::OCI_MANIFEST, &manifest);
    scene.attach(image, &Attachment { node, manifest, blobs: Vec::new() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_changed_where_it_lies_never_gets_a_tag() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let platform = platform(&scene).await;
        let layer = scene.layer_of(&platform).await;
        let (lock, policy) = (scene.layer_of(&scene.lock).await, scene.layer_of(&scene.policy).await);
        let signature = scene.sign(&scene.source.image).await;
        let said = scene.layer_of(&signature).await;
        const DAMAGED: End = End::Refused(&["BLOB_DIGEST"]);
        let rows = [
            ("what was signed", said, DAMAGED),
            // Without its first byte the server has no media type for it.
            ("the signature's manifest", signature.digest, End::Either(&["BLOB_DIGEST"])),
            // The rest does not depend on the format of the signatures.
            ("a layer", layer, End::Broken),
            ("a platform's manifest", platform.digest, End::Broken),
            ("the image", scene.source.image.digest, End::Broken),
            ("the lock", lock, DAMAGED),
            ("the policy", policy, DAMAGED),
        ];
        for (what, digest, end) in &rows[..if form == Form::Legacy { rows.len() } else { 2 }] {
            let file = file(&scene, digest);
            let whole = std::fs::read(&file).unwrap();
            for at in [0, whole.len() / 2, whole.len() - 1] {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                std::fs::write(&file, changed).unwrap();
                scene.refused(&format!("byte {at} of {what} on the disk"), Place::Source, *end).await;
            }
            std::fs::write(&file, whole).unwrap();
        }
        // Verified, and removed before it could be copied.
        let (from, to) = (file(&scene, &layer), scene.source.file("away"));
        std::fs::rename(&from, &to).unwrap();
        scene.refused("no layer", Place::Source, End::Broken).await;
        std::fs::rename(&to, &from).unwrap();
        scene.arrives("the disk is as it was").await;
    }
}

fn file(scene: &Scene, digest: &Digest) -> PathBuf {
    scene.source.bed.layout("robot").folder().join("blobs/sha256").join(digest.hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_move_after_the_check_change_nothing_and_nothing_is_read_twice() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let bed = &scene.source.bed;
        let layer = scene.layer_of(&platform(&scene).await).await;
        bed.fault(Fault::always(Kind::BlobGet, What::Delay(Duration::from_millis(700))).at(layer.to_string()));
        bed.clear_log();
        let moving = async {
            while !bed.log().iter().any(|seen| seen.path.ends_with(&layer.to_string())) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let other = images::two_platforms(&bed.layout("robot"), 3, &[100]).await;
            for tag in ["v1", "v1-lock", "v1-policy", signature_tag(&scene.source.image.digest).unwrap().as_str()] {
                scene.retag(tag, &other).await;
            }
        };
        let (done, ()) = tokio::join!(scene.attempt(Before::Nothing), moving);
        assert_code(&done, 0);
        let now = scene.seen(Before::Nothing).await.tags;
        let release = [scene.source.image.digest, scene.lock.digest, scene.policy.digest];
        assert_eq!(["v1", "v1-lock", "v1-policy"].map(|tag| now[tag]), release, "{form:?}");
        // Every path is read once, so a server cannot answer truthfully first and lie afterwards.
        for (side, log) in [("source", bed.log()), ("destination", scene.sink.log())] {
            let here = |path: &str| side == "source" || path.starts_with("/v2/fresh/");
            // Except for the final read of the list, to see that all accessories have arrived.
            let is_last_look = |seen: &Seen| side == "destination" && seen.kind == Kind::Referrers;
            let is_read = |seen: &Seen| seen.method == "GET" && here(&seen.path) && !is_last_look(seen);
            let mut read: Vec<_> = log.into_iter().filter(is_read).collect();
            read.sort_by(|a, b| a.path.cmp(&b.path));
            let again = read.windows(2).find(|pair| pair[0].path == pair[1].path);
            assert_eq!(again, None, "{form:?}, {side}");
        }
    }
}
