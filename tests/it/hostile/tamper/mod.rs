//! Attacks on a verified seed: whatever is changed, wherever, the destination's tags stay where they are and no record is
//! written.
//!
//! One scene for many attempts: a refused attempt leaves nothing behind at the destination, so the next one starts from the
//! same state, and every attempt checks that. Each runs twice, at a destination without the image and at one whose tags
//! name an older release with its record in the folder.

mod bytes;
mod destination;
mod forgery;
mod signing;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::oci::{Descriptor, Digest, Manifest, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed};
use autonomy_registry::store::{Listing as _, Store as _};
use autonomy_registry::verify::SidecarKind;
use testkit::images;

use crate::kit::bundle_bed::{BundleBed, Signed, VERSION, policy_bundle};
use crate::kit::command::{assert_code, seed, text};

/// The cosign format of all signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Legacy,
    Bundle,
}

/// Both formats.
pub(super) const FORMS: [Form; 2] = [Form::Legacy, Form::Bundle];

/// The expected end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Exit 3, with one of these error classes.
    Refused(&'static [&'static str]),
    /// Exit 4: a registry could not answer, or served damaged content to the last. Never with a message about signatures.
    Broken,
    /// Either of them: the order of requests decides which one meets the lie.
    Either(&'static [&'static str]),
}

/// The side that an attempt is refused at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Source,
    Destination,
}

/// The content of a destination before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    OlderRelease,
}

/// A sealed release at a source, and a destination.
pub(super) struct Scene {
    pub(super) form: Form,
    pub(super) source: BundleBed,
    pub(super) sink: Testbed,
    pub(super) lock: Descriptor,
    pub(super) policy: Descriptor,
}

/// The state that must not change: the destination's tags except signatures, and the files in the folder.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    tags: BTreeMap<String, Digest>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Scene {
    pub(super) async fn new(form: Form) -> Self {
        let (source, sink) = (BundleBed::bare().await, Testbed::start().await);
        let policy = policy_bundle(VERSION);
        let lock = source.lock(&policy).to_bytes();
        let lock = source.sidecar(SidecarKind::Lock, &lock, Signed::No).await;
        let policy = source.sidecar(SidecarKind::Policy, &policy, Signed::No).await;
        let scene = Self { form, source, sink, lock, policy };
        for node in [&scene.source.image, &scene.lock, &scene.policy] {
            scene.sign(node).await;
        }
        scene.older_release().await;
        scene
    }

    /// Puts an older release of everything under the destination's tags, with its record in the folder.
    async fn older_release(&self) {
        let store = &self.source.store;
        let image = images::two_platforms(store, 2, &[500]).await;
        images::tag(store, &image, "v0").await;
        for (tag, kind) in [("v0-lock", SidecarKind::Lock), ("v0-policy", SidecarKind::Policy)] {
            let node = images::sidecar(store, &image, kind.media_type(), b"older").await;
            images::tag(store, &node, tag).await;
        }
        let from = format!("{}/robot:v0", self.source.bed.host());
        let more = ["--skip-verify", "--copy-policy"];
        assert_code(&seed(&from, &self.to(Before::OlderRelease), &self.out(Before::OlderRelease), &more).await, 0);
        let seen = self.seen(Before::OlderRelease).await;
        assert_eq!((seen.tags.len(), seen.files.len()), (3, 2), "{seen:?}");
    }

    fn to(&self, before: Before) -> String {
        format!("{}/{}:v1", self.sink.host(), repository(before))
    }

    fn out(&self, before: Before) -> PathBuf {
        self.source.file(&format!("out-{}", repository(before)))
    }

    async fn seen(&self, before: Before) -> Seen {
        let layout = self.sink.layout(repository(before));
        let mut tags = BTreeMap::new();
        for tag in layout.tags().await.unwrap_or_default() {
            // Signatures are put before they are checked; they show no image to clients.
            if !tag.as_str().starts_with("sha256-") {
                let name = Name::Tag(tag.clone());
                tags.insert(tag.to_string(), layout.resolve(&name).await.unwrap().digest);
            }
        }
        let files = std::fs::read_dir(self.out(before)).into_iter().flatten().map(Result::unwrap);
        let files = files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()));
        Seen { tags, files: files.collect() }
    }

    async fn attempt(&self, before: Before) -> Output {
        let key = self.source.public_key();
        let more = ["--copy-policy", "--pub-key", &key];
        seed(&self.source.reference(), &self.to(before), &self.out(before), &more).await
    }

    /// Runs it at both destinations. Asserts the end and that nothing changed. Returns the first output.
    pub(super) async fn refused(&self, what: &str, place: Place, end: End) -> String {
        let older = self.refused_at(Before::OlderRelease, what, place, end);
        tokio::join!(self.refused_at(Before::Nothing, what, place, end), older).0
    }

    /// The same at one destination, alternating: for hundreds of changes.
    pub(super) async fn refused_in_turn(&self, turn: usize, what: &str, end: End) {
        let before = if turn.is_multiple_of(2) { Before::Nothing } else { Before::OlderRelease };
        self.refused_at(before, what, Place::Source, end).await;
    }

    async fn refused_at(&self, before: Before, what: &str, place: Place, end: End) -> String {
        let what = format!("{:?}, {before:?}: {what}", self.form);
        let (was, earlier) = (self.seen(before).await, self.sink.requests());
        let done = self.attempt(before).await;
        let said = text(&done);
        let (code, classes): (_, &[_]) = match end {
            End::Refused(classes) => (3, classes),
            End::Either(classes) if done.status.code() == Some(3) => (3, classes),
            End::Either(_) | End::Broken => (4, &[]),
        };
        assert_eq!(done.status.code(), Some(code), "{what}: {said}");
        if code == 3 {
            assert!(classes.iter().any(|class| said.contains(class)), "{what}: none of {classes:?} in {said}");
            let side = if place == Place::Source { "source" } else { "destination" };
            assert!(said.contains(&format!("{side} verification failed (fail-closed)")), "{what}: {said}");
        } else {
            assert!(!said.contains("SIG_"), "{what}: {said}");
        }
        assert_eq!(self.seen(before).await, was, "{what}: {said}");
        let here = format!("/v2/{}/", repository(before));
        let sent = self.sink.log().into_iter().skip(earlier).filter(|seen| seen.path.starts_with(&here));
        let sent: Vec<_> = sent.filter(|seen| !["GET", "HEAD"].contains(&&*seen.method)).collect();
        match place {
            Place::Source if code == 3 => assert!(sent.is_empty(), "{what}: {sent:#?}"),
            _ => {
                assert!(!sent.iter().any(|seen| seen.kind == Kind::ManifestPut && seen.path.contains("/v1")), "{what}")
            }
        }
        said
    }

    /// Asserts that the scene is honest again or the change is harmless: the release arrives, and nothing else.
    pub(super) async fn arrives(&self, what: &str) {
        let done = self.attempt(Before::OlderRelease).await;
        assert_eq!(done.status.code(), Some(0), "{:?}, {what}: {}", self.form, text(&done));
        let now = self.seen(Before::OlderRelease).await.tags;
        let release = [self.source.image.digest, self.lock.digest, self.policy.digest];
        assert_eq!(["v1", "v1-lock", "v1-policy"].map(|tag| now[tag]), release, "{:?}, {what}", self.form);
    }

    /// Moves `tag` at the source to `node`, which it holds.
    pub(super) async fn retag(&self, tag: &str, node: &Descriptor) {
        // Through the folder, so that the log only has the program's requests.
        images::tag(&self.source.bed.layout("robot"), node, tag).await;
    }

    /// Removes all faults from both sides.
    pub(super) fn heal(&self) {
        self.source.bed.heal();
        self.sink.heal();
    }

    /// The digest of the single layer of a manifest at the source.
    pub(super) async fn layer_of(&self, node: &Descriptor) -> Digest {
        let root = self.source.bed.layout("robot").fetch(&Name::Digest(node.digest)).await.unwrap();
        Manifest::parse(&root.bytes, &node.media_type).unwrap().layers[0].digest
    }
}

/// The name of an attack, its fault, and the expected end.
pub(super) type Row = (&'static str, Fault, End);

/// Attempts each of `rows` with its fault at one side.
pub(super) async fn each(scene: &Scene, place: Place, rows: Vec<Row>) {
    for (what, fault, end) in rows {
        let bed = if place == Place::Source { &scene.source.bed } else { &scene.sink };
        bed.fault(fault);
        scene.refused(what, place, end).await;
        scene.heal();
    }
    scene.arrives("once everybody is honest again").await;
}

fn repository(before: Before) -> &'static str {
    match before {
        Before::Nothing => "fresh",
        Before::OlderRelease => "held",
    }
}
