//! Two registries, an image in the first with every kind of accessory, and checks of the destination.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Output;
use std::sync::Arc;

use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType, Name, empty_json};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Listing, Registry, Root, Store};
use autonomy_registry::trust::{artifact, simple_signing};
use autonomy_registry::verify::SigningKey;
use axum::response::Response;
use serde_json::{Value, json};
use testkit::images;

use crate::kit::command::{publisher, seed, text};
use crate::kit::wire_server::{Asked, Server, answer};

/// Registries with the Referrers API, and without.
pub(super) fn behaviours() -> [(&'static str, Profile); 4] {
    [
        ("embedded", Profile::default()),
        ("zot", Profile::zot()),
        ("distribution 2", Profile::distribution_2()),
        ("distribution 3", Profile::distribution_3()),
    ]
}

/// The layer types that belong under cosign's tags.
pub(super) const TYPES: [(&str, &str); 3] = [
    (".sig", simple_signing::MEDIA_TYPE),
    (".att", "application/vnd.dsse.envelope.v1+json"),
    (".sbom", "text/spdx+json"),
];

/// The tag that cosign uses for a manifest.
pub(super) fn cosign_tag(digest: &Digest, suffix: &str) -> String {
    format!("{}{suffix}", digest.fallback_tag())
}

/// Puts a manifest with one layer that holds `content`.
pub(super) async fn artifact(store: &dyn Store, content: &str, subject: Option<&Descriptor>) -> Descriptor {
    artifact_of(store, "text/plain", content, subject).await
}

/// The same, with a layer of this type.
pub(super) async fn artifact_of(
    store: &dyn Store,
    media_type: &str,
    content: &str,
    subject: Option<&Descriptor>,
) -> Descriptor {
    let (config, empty) = empty_json();
    images::put(store, config.media_type.clone(), empty).await;
    let layer = images::put(store, MediaType::new(media_type), content.to_owned()).await;
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/x.note",
        "config": config, "layers": [layer], "annotations": {"content": content},
    });
    if let Some(subject) = subject {
        manifest["subject"] = reference(subject);
    }
    images::put(store, MediaType::OCI_MANIFEST, manifest.to_string()).await
}

/// Type, digest and size alone.
pub(super) fn reference(node: &Descriptor) -> Value {
    json!(Descriptor::new(node.media_type.clone(), node.digest, node.size))
}

/// A manifest under one of cosign's tags.
pub(super) type Tagged = (String, Descriptor);
/// A subject and what refers to it.
pub(super) type Referring = (Digest, Descriptor);

pub(super) struct Field {
    pub(super) source: Testbed,
    pub(super) sink: Testbed,
    pub(super) root: Descriptor,
    pub(super) children: Vec<Descriptor>,
    /// Accessories of the first child only.
    pub(super) of_a_child: (Vec<Tagged>, Vec<Referring>),
    /// Accessories of the root, and accessories of those.
    pub(super) of_the_root: (Vec<Tagged>, Vec<Referring>),
    /// Payloads and their signatures.
    signed: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) home: tempfile::TempDir,
}

impl Field {
    /// An image of two platforms without accessories.
    pub(super) async fn bare(source: Profile, sink: Profile) -> Self {
        let (source, sink) = (Testbed::with(source).await, Testbed::with(sink).await);
        let store = publisher(&source, "app");
        let root = images::two_platforms(&store, 1, &[1000, 2000]).await;
        images::tag(&store, &root, "v1").await;
        let held = source.layout("app").fetch(&Name::Digest(root.digest)).await.unwrap();
        let children = manifest(&held).manifests;
        let (key, home) = (SigningKey::generate().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("cosign.pub"), key.public_pem().unwrap()).unwrap();
        std::fs::create_dir(home.path().join("out")).unwrap();
        let now = jiff::Timestamp::now();
        let payloads = (0..3).map(|age| {
            let at = now - jiff::SignedDuration::from_secs(age);
            simple_signing::legacy(&source.repository("app"), &root.digest, Some(at))
        });
        let signed = payloads.map(|said| (said.clone(), key.sign(&said).unwrap())).collect();
        let (of_a_child, of_the_root) = Default::default();
        Self { source, sink, root, children, of_a_child, of_the_root, signed, home }
    }

    /// Every kind: `.sig`, `.att`, `.sbom` of the root and of a child, an SBOM and an attestation as referrers of the root,
    /// a referrer of that SBOM, an index as a referrer, and a referrer of the child. That SBOM and a manifest in that index
    /// are signed too; these signatures are not copied, since anyone may attach an index of foreign images.
    pub(super) async fn between(source: Profile, sink: Profile) -> Self {
        let mut field = Self::bare(source, sink).await;
        let store = field.store();
        let sbom = artifact(&store, "an SBOM", Some(&field.root)).await;
        let attestation = artifact(&store, "an attestation", Some(&field.root)).await;
        let note = artifact(&store, "a note on the SBOM", Some(&sbom)).await;
        let within = artifact(&store, "one of several", None).await;
        let several = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "artifactType": "application/x.several",
            "manifests": [reference(&within)], "subject": reference(&field.root),
        });
        let several = images::put(&store, MediaType::OCI_INDEX, several.to_string()).await;
        let of_child = artifact(&store, "an SBOM of a platform", Some(&field.children[0])).await;
        let root = field.root.digest;
        field.of_the_root.1 = vec![(root, sbom.clone()), (root, attestation), (root, several), (sbom.digest, note)];
        field.of_a_child.1 = vec![(field.children[0].digest, of_child)];

        field.of_the_root.0.push((cosign_tag(&root, ".sig"), field.signature(&[0]).await));
        for suffix in [".att", ".sbom"] {
            let tagged = field.tagged(&root, suffix).await;
            field.of_the_root.0.push(tagged);
        }
        for subject in [&sbom, &within] {
            let (tag, node) = field.tagged(&subject.digest, ".sig").await;
            images::tag(&store, &node, &tag).await;
        }
        for suffix in [".sig", ".att", ".sbom"] {
            let tagged = field.tagged(&field.children[0].digest, suffix).await;
            field.of_a_child.0.push(tagged);
        }
        for (tag, node) in field.of_the_root.0.iter().chain(&field.of_a_child.0) {
            images::tag(&store, node, tag).await;
        }
        field.clear_logs();
        field
    }

    /// The store that writes to the source.
    pub(super) fn store(&self) -> Registry {
        publisher(&self.source, "app")
    }

    async fn tagged(&self, subject: &Digest, suffix: &str) -> Tagged {
        let tag = cosign_tag(subject, suffix);
        let media_type = TYPES.iter().find(|(own, _)| *own == suffix).unwrap().1;
        let node = artifact_of(&self.store(), media_type, &tag, None).await;
        (tag, node)
    }

    /// A manifest with these of the root's signatures, all of them valid.
    pub(super) async fn signature(&self, which: &[usize]) -> Descriptor {
        let signed: Vec<_> = which.iter().map(|&number| self.signed[number].clone()).collect();
        let attachment = artifact::legacy_manifest(&[], &signed);
        for (node, bytes) in attachment.blobs {
            images::put(&self.store(), node.media_type, bytes).await;
        }
        images::put(&self.store(), attachment.node.media_type, attachment.manifest).await
    }

    /// Puts the payload of one of the root's signatures into another store.
    pub(super) async fn signature_at(&self, store: &dyn Store, which: usize) -> Descriptor {
        images::put(store, MediaType::new(simple_signing::MEDIA_TYPE), self.signed[which].0.clone()).await
    }

    pub(super) fn clear_logs(&self) {
        self.source.clear_log();
        self.sink.clear_log();
    }

    pub(super) fn requests(&self) -> (usize, usize) {
        (self.source.requests(), self.sink.requests())
    }

    pub(super) fn to(&self) -> String {
        format!("{}/app:v1", self.sink.host())
    }

    pub(super) async fn seed(&self, more: &[&str]) -> Output {
        self.seed_from(self.source.host(), more).await
    }

    pub(super) async fn seed_from(&self, host: &str, more: &[&str]) -> Output {
        seed(&format!("{host}/app:v1"), &self.to(), &self.path("out"), more).await
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// The digest of the image's tag at the destination, and the number of documents.
    pub(super) async fn left(&self) -> (Option<Digest>, usize) {
        (tag(&self.sink, "v1").await, std::fs::read_dir(self.path("out")).unwrap().count())
    }

    /// Asserts that nothing was tagged and nothing was written.
    pub(super) async fn assert_nothing(&self, done: &Output) {
        assert_eq!(self.left().await, (None, 0), "{}", text(done));
    }

    /// Asserts that the destination holds the image with exactly these accessories: by digest, byte for byte, found by
    /// their tags and in the lists of their subjects.
    pub(super) async fn assert_arrived(&self, tagged: &[Tagged], referrers: &[Referring]) {
        let (source, sink) = (files(&self.source), files(&self.sink));
        let mut roots = vec![self.root.clone()];
        roots.extend(tagged.iter().map(|(_, node)| node.clone()));
        roots.extend(referrers.iter().map(|(_, node)| node.clone()));
        let expected = closure(&self.source, roots).await;
        for digest in &expected {
            assert_eq!(sink.get(digest), source.get(digest), "{digest}");
        }
        let mut lists: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (subject, node) in referrers {
            lists.entry(*subject).or_default().insert(node.digest);
        }
        let store = publisher(&self.sink, "app");
        let mut tags: BTreeSet<_> = tagged.iter().map(|(tag, _)| tag.clone()).chain(["v1".to_owned()]).collect();
        let has_api = store.api_referrers(&self.root.digest).await.unwrap().is_some();
        for (subject, expected) in &lists {
            let listed = store.referrers(subject).await.unwrap().into_iter().map(|node| node.digest);
            assert_eq!(&listed.collect::<BTreeSet<_>>(), expected, "referrers of {subject}");
            if !has_api {
                tags.insert(subject.fallback_tag());
            }
        }
        for (name, node) in tagged {
            assert_eq!(tag(&self.sink, name).await, Some(node.digest), "{name}");
        }
        let listed = self.sink.layout("app").tags().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(tags, listed, "no other tag");
        for (digest, bytes) in sink.iter().filter(|(digest, _)| !expected.contains(digest)) {
            // A fallback index, and the older versions that it replaced.
            let list = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
            let entries = list["manifests"].as_array().filter(|_| !has_api).expect("nothing more");
            let known = |entry: &Value| referrers.iter().any(|(_, node)| entry["digest"] == node.digest.to_string());
            assert!(entries.iter().all(known), "{digest} is not part of what was seeded");
        }
    }
}

/// The digest of a tag.
pub(super) async fn tag(bed: &Testbed, name: &str) -> Option<Digest> {
    let name = Name::Tag(name.parse().unwrap());
    Some(bed.layout("app").resolve(&name).await.ok()?.digest)
}

fn manifest(root: &Root) -> Manifest {
    root.manifest().unwrap()
}

/// Everything that a registry holds, by digest.
fn files(bed: &Testbed) -> BTreeMap<Digest, Vec<u8>> {
    let folder = bed.layout("app").folder().join("blobs/sha256");
    let paths = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let named =
        paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()));
    named.filter_map(|(name, bytes)| Some((format!("sha256:{name}").parse().ok()?, bytes))).collect()
}

/// Everything reachable from `open`.
async fn closure(bed: &Testbed, mut open: Vec<Descriptor>) -> BTreeSet<Digest> {
    let layout = bed.layout("app");
    let mut found = BTreeSet::new();
    while let Some(node) = open.pop() {
        if found.insert(node.digest) && node.is_manifest() {
            let root = layout.fetch(&Name::Digest(node.digest)).await.unwrap();
            open.extend(manifest(&root).children().cloned());
        }
    }
    found
}

/// A registry that serves the content of `bed`, with the Referrers API too; `first` may answer before it.
pub(super) async fn mirror(
    bed: &Testbed,
    first: impl Fn(&Asked) -> Option<Response> + Clone + Send + Sync + 'static,
) -> Server {
    let layout = bed.layout("app");
    let mut held: HashMap<String, (String, Vec<u8>)> = HashMap::new();
    let mut lists: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
    for (digest, bytes) in files(bed) {
        held.insert(format!("/v2/app/blobs/{digest}"), ("application/octet-stream".into(), bytes.clone()));
        if let Ok(root) = layout.fetch(&Name::Digest(digest)).await {
            held.insert(format!("/v2/app/manifests/{digest}"), (root.node.media_type.to_string(), bytes));
            let subject = manifest(&root).subject;
            subject.into_iter().for_each(|subject| lists.entry(subject.digest).or_default().push(root.node.clone()));
        }
    }
    let tags = layout.tags().await.unwrap();
    for tag in &tags {
        let root = layout.fetch(&Name::Tag(tag.clone())).await.unwrap();
        let content = (root.node.media_type.to_string(), root.bytes.to_vec());
        held.insert(format!("/v2/app/manifests/{tag}"), content);
    }
    let list = json!({"name": "app", "tags": tags.iter().map(ToString::to_string).collect::<Vec<_>>()}).to_string();
    held.insert("/v2/app/tags/list".into(), ("application/json".into(), list.into()));
    for (subject, list) in lists {
        held.insert(format!("/v2/app/referrers/{subject}"), (INDEX.into(), referrers(&json!(list)).into()));
    }
    let held = Arc::new(held);
    Server::start(move |asked| {
        if let Some(answer) = first(asked) {
            return answer;
        }
        let path = asked.line.split(['?', ' ']).nth(1).unwrap_or_default();
        match held.get(path) {
            Some((media_type, bytes)) => answer(200, &[("content-type", media_type)], bytes.clone()),
            None if path.contains("/referrers/") => answer(200, &[("content-type", INDEX)], referrers(&json!([]))),
            None => answer(404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        }
    })
    .await
}

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A referrers list with these entries.
pub(super) fn referrers(entries: &Value) -> String {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
}
