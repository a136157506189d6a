//! Garbage collection: takes what a model says and nothing else, loses nothing to pushes beside it, leaves damage alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::{Collected, Collection, Effect, Kept, Uploads, collect};
use autonomy_registry::store::{Body, Layout, Listing as _, Store as _};
use proptest::prelude::*;
use reqwest::StatusCode;
use serde_json::json;

use crate::serve::client;
use crate::serve_bed::{Program, Running};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn folder_of(data: &Path, repository: &str) -> PathBuf {
    data.join("repositories").join(repository).join("_layout")
}

fn blob_path(data: &Path, repository: &str, digest: &Digest) -> PathBuf {
    folder_of(data, repository).join("blobs/sha256").join(digest.hex())
}

fn age(path: &Path, by: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Every file under `folder` but index.json, by its path.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else if path.file_name().unwrap() != "index.json" {
            found.insert(path);
        }
    }
    found
}

/// Bytes on the disk: a file with two names counts once.
fn usage(folder: &Path) -> u64 {
    let inodes: HashMap<u64, u64> =
        files(folder).iter().map(|path| fs::metadata(path).unwrap()).map(|data| (data.ino(), data.len())).collect();
    inodes.values().sum()
}

async fn put(layout: &Layout, media_type: MediaType, bytes: &[u8], tags: &[&str]) -> Descriptor {
    let node = Descriptor::of(media_type, bytes);
    let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    layout.put(&node, &Body::bytes(node.clone(), bytes.to_vec()), &tags).await.unwrap();
    node
}

// ---- The model.

/// One manifest of a plan. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct Planned {
    is_index: bool,
    parts: Vec<usize>,
    subject: Option<usize>,
    is_tagged: bool,
    is_old: bool,
    /// An index may list what is not there, and a subject may be missing.
    points_nowhere: bool,
}

#[derive(Debug, Clone)]
struct Plan {
    /// For each blob: whether it is old.
    blobs: Vec<bool>,
    manifests: Vec<Planned>,
    /// Blobs that a second repository has too, and whether it needs them.
    mounted: Vec<(usize, bool)>,
    temporaries: Vec<bool>,
    uploads: Vec<bool>,
    named_only: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let manifest =
        (any::<bool>(), prop::collection::vec(0usize..100, 0..4), prop::option::of(0usize..100), any::<[bool; 3]>());
    let manifest = manifest.prop_map(|(is_index, parts, subject, [tagged, is_old, points_nowhere])| Planned {
        is_index,
        parts,
        subject,
        is_tagged: tagged && !points_nowhere,
        is_old: is_old || !tagged,
        points_nowhere,
    });
    let lists = (
        prop::collection::vec(any::<bool>(), 1..8),
        prop::collection::vec(manifest, 0..8),
        prop::collection::vec((0usize..100, any::<bool>()), 0..3),
        prop::collection::vec(any::<bool>(), 0..3),
        prop::collection::vec(any::<bool>(), 0..3),
        any::<bool>(),
    );
    lists.prop_map(|(blobs, manifests, mounted, temporaries, uploads, named_only)| Plan {
        blobs,
        manifests,
        mounted,
        temporaries,
        uploads,
        named_only,
    })
}

/// What a plan became on the disk, and what may go.
struct Made {
    /// Paths that must be gone after a collection, and all others must be there.
    garbage: BTreeSet<PathBuf>,
    tags: BTreeSet<String>,
    /// Manifests that are kept.
    kept: Vec<Digest>,
}

/// Puts a plan on the disk. Manifests refer to earlier ones only, as digests force them to.
async fn make(data: &Path, plan: &Plan) -> Made {
    let layout = Layout::at(folder_of(data, "a"));
    let nowhere = Digest::sha256(b"nowhere");
    let mut blobs = Vec::new();
    for n in 0..plan.blobs.len() {
        blobs.push(put(&layout, MediaType::OCI_LAYER, format!("blob {n}").repeat(n + 1).as_bytes(), &[]).await);
    }
    let mut nodes: Vec<Descriptor> = Vec::new();
    let (mut lists, mut needs, mut subjects) = (Vec::new(), Vec::new(), Vec::new());
    for (n, planned) in plan.manifests.iter().enumerate() {
        let pick = |part: &usize| (!nodes.is_empty()).then(|| part % nodes.len());
        let subject = planned.subject.as_ref().and_then(pick);
        let mut document = json!({"schemaVersion": 2, "annotations": {"number": n.to_string()}});
        match subject {
            Some(subject) => document["subject"] = json!(nodes[subject]),
            None if planned.points_nowhere => {
                document["subject"] = json!({"mediaType": MediaType::OCI_MANIFEST, "digest": nowhere, "size": 7});
            }
            None => {}
        }
        let (mut children, mut own) = (BTreeSet::new(), BTreeSet::new());
        if planned.is_index {
            children = planned.parts.iter().filter_map(pick).collect();
            let mut entries: Vec<_> = children.iter().map(|child| json!(nodes[*child])).collect();
            if planned.points_nowhere {
                entries.push(json!({"mediaType": MediaType::OCI_MANIFEST, "digest": nowhere, "size": 7}));
            }
            document["manifests"] = entries.into();
        } else {
            own = planned.parts.iter().map(|part| part % blobs.len()).collect();
            document["layers"] = own.iter().map(|blob| json!(blobs[*blob])).collect();
        }
        let tag = format!("t{n}");
        let tags: &[&str] = if planned.is_tagged { &[&tag] } else { &[] };
        let media_type = if planned.is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
        nodes.push(put(&layout, media_type, document.to_string().as_bytes(), tags).await);
        lists.push(children);
        needs.push(own);
        subjects.push(subject);
    }

    // What is kept, by going round until nothing is added: no graph, no order.
    let mut kept: Vec<bool> = plan.manifests.iter().map(|m| !plan.named_only || m.is_tagged || !m.is_old).collect();
    loop {
        let before = kept.clone();
        for n in 0..kept.len() {
            if before[n] {
                lists[n].iter().for_each(|child| kept[*child] = true);
                subjects[n].into_iter().for_each(|subject| kept[subject] = true);
            }
            kept[n] |= subjects[n].is_some_and(|subject| before[subject]);
        }
        if kept == before {
            break;
        }
    }
    let is_needed = |blob: usize| (0..kept.len()).any(|n| kept[n] && needs[n].contains(&blob));

    let mut garbage = BTreeSet::new();
    for (planned, (node, is_kept)) in plan.manifests.iter().zip(nodes.iter().zip(&kept)) {
        let path = blob_path(data, "a", &node.digest);
        if planned.is_old {
            age(&path, DAY * 2);
        }
        // What is not kept is old: youth keeps.
        if !is_kept {
            garbage.insert(path);
        }
    }
    for (n, (is_old, node)) in plan.blobs.iter().zip(&blobs).enumerate() {
        let path = blob_path(data, "a", &node.digest);
        if *is_old {
            age(&path, DAY * 2);
        }
        if *is_old && !is_needed(n) {
            garbage.insert(path);
        }
    }
    mount(data, plan, &blobs, &mut garbage).await;
    loose(data, plan, &mut garbage);
    let tags = plan.manifests.iter().enumerate().filter(|(_, planned)| planned.is_tagged).map(|(n, _)| format!("t{n}"));
    let kept = nodes.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(node, _)| node.digest).collect();
    Made { garbage, tags: tags.collect(), kept }
}

/// A second repository with some of the blobs: the same files under other names.
async fn mount(data: &Path, plan: &Plan, blobs: &[Descriptor], garbage: &mut BTreeSet<PathBuf>) {
    let layout = Layout::at(folder_of(data, "a/b"));
    let mut mounted: BTreeMap<usize, bool> = BTreeMap::new();
    for (blob, is_needed) in &plan.mounted {
        *mounted.entry(blob % blobs.len()).or_default() |= is_needed;
    }
    for (blob, is_needed) in mounted {
        let from = blob_path(data, "a", &blobs[blob].digest);
        let to = blob_path(data, "a/b", &blobs[blob].digest);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::hard_link(&from, &to).unwrap();
        let manifest = json!({"schemaVersion": 2, "layers": [blobs[blob]]}).to_string();
        // A repository that has but blobs is a layout, too.
        let empty = json!({"schemaVersion": 2, "layers": []}).to_string();
        let text = if is_needed { manifest } else { empty };
        put(&layout, MediaType::OCI_MANIFEST, text.as_bytes(), &[&format!("t{blob}")]).await;
        if !is_needed && plan.blobs[blob] {
            garbage.insert(to);
        }
    }
}

/// What writers left, and what is nobody's business.
fn loose(data: &Path, plan: &Plan, garbage: &mut BTreeSet<PathBuf>) {
    let blobs = folder_of(data, "a").join("blobs/sha256");
    for (n, is_old) in plan.temporaries.iter().enumerate() {
        let path = if n == 0 { folder_of(data, "a").join(".tmp-0") } else { blobs.join(format!(".tmp-{n}")) };
        fs::write(&path, "unfinished").unwrap();
        if *is_old {
            age(&path, DAY * 2);
            garbage.insert(path);
        }
    }
    fs::create_dir_all(data.join("uploads")).unwrap();
    for (n, is_old) in plan.uploads.iter().enumerate() {
        let path = data.join("uploads").join(format!("upload-{n}"));
        fs::write(&path, "begun").unwrap();
        if *is_old {
            age(&path, DAY * 2);
            garbage.insert(path);
        }
    }
    for path in [blobs.join("README"), folder_of(data, "a").join("notes"), blobs.join("0".repeat(63))] {
        fs::write(&path, "somebody else's").unwrap();
        age(&path, DAY * 2);
    }
}

async fn run(plan: Plan) -> Result<(), TestCaseError> {
    let data = tempfile::tempdir().unwrap();
    let made = make(data.path(), &plan).await;
    let before = files(data.path());
    let kept = if plan.named_only { Kept::Named } else { Kept::All };
    let collection = Collection { kept, ..Collection::new(data.path()) };
    let counted = collect(Collection { effect: Effect::Counted, ..collection.clone() }).await.unwrap();
    prop_assert_eq!(&files(data.path()), &before, "a dry run takes nothing");
    let used = usage(data.path());
    let done = collect(collection.clone()).await.unwrap();
    let after = files(data.path());
    let gone: BTreeSet<_> = before.difference(&after).cloned().collect();
    prop_assert_eq!(&gone, &made.garbage);
    prop_assert_eq!(done.left_alone(), 0);
    prop_assert_eq!(done.totals, counted.totals, "a dry run says what happens");
    prop_assert_eq!(used - usage(data.path()), done.totals.bytes_freed);
    let entries = done.totals.manifests + done.totals.blobs + done.totals.temporary_files;
    prop_assert_eq!(entries + done.uploads.unwrap().count, made.garbage.len() as u64);

    let layout = Layout::at(folder_of(data.path(), "a"));
    let tags: BTreeSet<_> = layout.tags().await.unwrap().iter().map(|tag| tag.as_str().to_owned()).collect();
    prop_assert_eq!(tags, made.tags);
    for digest in made.kept {
        let name = autonomy_registry::oci::Name::Digest(digest);
        prop_assert!(
            layout.resolve(&name, autonomy_registry::store::Want::Bytes).await.is_ok(),
            "{} is served",
            digest
        );
    }
    let again = collect(collection).await.unwrap();
    prop_assert_eq!(again.totals.bytes, 0, "nothing is left for a second run");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn it_takes_exactly_the_garbage(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(plan))?;
    }
}

// ---- Damage.

/// A repository with a tagged image and an old blob that nothing needs.
async fn site(data: &Path, repository: &str) -> (Descriptor, Descriptor) {
    let layout = Layout::at(folder_of(data, repository));
    let layer = put(&layout, MediaType::OCI_LAYER, b"needed", &[]).await;
    let garbage = put(&layout, MediaType::OCI_LAYER, b"not needed", &[]).await;
    let text = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let image = put(&layout, MediaType::OCI_MANIFEST, text.as_bytes(), &["v1"]).await;
    for node in [&layer, &garbage, &image] {
        age(&blob_path(data, repository, &node.digest), DAY * 2);
    }
    (image, garbage)
}

#[tokio::test]
async fn a_damaged_repository_is_named_and_loses_nothing_and_the_others_are_collected() {
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 6] = [
        ("manifest-lost", |_, image| fs::remove_file(image).unwrap()),
        ("manifest-rotten", |_, image| fs::write(image, "{}").unwrap()),
        ("manifest-huge", |_, image| fs::write(image, vec![b' '; 5 << 20]).unwrap()),
        ("index-lost", |folder, _| fs::remove_file(folder.join("index.json")).unwrap()),
        ("index-broken", |folder, _| fs::write(folder.join("index.json"), "{\"manifests\": 7}").unwrap()),
        ("layout-file-lost", |folder, _| fs::remove_file(folder.join("oci-layout")).unwrap()),
    ];
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "whole").await;
    for (name, damage) in damages {
        let (image, _) = site(data.path(), name).await;
        damage(&folder_of(data.path(), name), &blob_path(data.path(), name, &image.digest));
    }
    for kept in [Kept::All, Kept::Named] {
        let before: Vec<_> = damages.iter().map(|(name, _)| files(&folder_of(data.path(), name))).collect();
        let collected = collect(Collection { kept, ..Collection::new(data.path()) }).await.unwrap();
        assert_eq!(collected.left_alone(), damages.len());
        for (n, (name, _)) in damages.iter().enumerate() {
            assert_eq!(files(&folder_of(data.path(), name)), before[n], "{name}");
            let told = collected.repositories.iter().find(|repository| repository.repository == *name).unwrap();
            assert!(told.left_alone.as_ref().unwrap().contains(name), "the file is named: {told:?}");
        }
    }
    assert!(!blob_path(data.path(), "whole", &garbage.digest).exists());
    let done = gc(data.path(), &[]).await;
    assert_eq!(done.0, 5, "{}", done.1);
    assert!(done.1.contains("manifest-rotten") && done.1.contains("left alone"), "{}", done.1);
}

// ---- The command.

async fn gc(data: &Path, more: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
    let done = command.args(["registry", "gc", "--data-dir"]).arg(data).args(more).output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), text)
}

#[tokio::test]
async fn the_command_says_what_it_freed_and_a_dry_run_what_it_would() {
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "site/app").await;
    let path = blob_path(data.path(), "site/app", &garbage.digest);
    let (code, text) = gc(data.path(), &["--dry-run"]).await;
    assert!(code == 0 && text.contains("1 blobs, 10 B") && text.contains("would free 10 B of 10 B"), "{text}");
    assert!(path.exists());
    let (code, text) = gc(data.path(), &["--older-than", "72h"]).await;
    assert!(code == 0 && text.contains("freed 0 B of 0 B"), "{text}");
    let (code, text) = gc(data.path(), &["--output", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["totals"]["bytes_freed"], &told["dry_run"]), (0, &json!(10), &json!(false)), "{text}");
    assert_eq!(told["repositories"][0]["repository"], "site/app");
    assert_eq!(told["uploads"]["count"], 0);
    assert!(!path.exists());
    let (code, text) = gc(&data.path().join("nowhere"), &[]).await;
    assert!(code == 4 && text.contains("--data-dir"), "{text}");
}

#[tokio::test]
async fn beside_a_running_server_uploads_are_left_to_it_and_what_is_young_to_those_who_push() {
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "app").await;
    let server = Program::start::<&str>(data.path(), []);
    let begun = client().post(format!("{}/v2/app/blobs/uploads/", server.url)).send().await.unwrap();
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let upload = data.path().join("uploads").join(place.rsplit('/').next().unwrap());
    age(&upload, DAY * 2);
    let (code, text) = gc(data.path(), &["--older-than", "0"]).await;
    assert!(code == 2 && text.contains("a server is running") && text.contains("--older-than"), "{text}");
    let (code, text) = gc(data.path(), &["--older-than", "10m"]).await;
    assert!(code == 0 && text.contains("uploads are left to the server"), "{text}");
    assert!(upload.exists() && !blob_path(data.path(), "app", &garbage.digest).exists());
    drop(server);
    let collected = collect(Collection { older_than: Duration::ZERO, ..Collection::new(data.path()) }).await.unwrap();
    assert_eq!(collected.uploads.map(|Uploads { count, .. }| count), Some(1), "a killed server holds nothing");
    assert!(!upload.exists());
}

#[tokio::test]
async fn whoever_is_told_that_something_is_there_may_rely_on_it() {
    let data = tempfile::tempdir().unwrap();
    let (_, blob) = site(data.path(), "a").await;
    let text = json!({"schemaVersion": 2, "layers": []}).to_string();
    let untagged = put(&Layout::at(folder_of(data.path(), "a")), MediaType::OCI_MANIFEST, text.as_bytes(), &[]).await;
    let server = Running::start(data.path(), |_| {}).await;
    let (blob, manifest) = (blob.digest, untagged.digest);
    let file = |repository: &str, digest: &Digest| blob_path(data.path(), repository, digest);
    let url = |path: String| format!("{}/v2/{path}", server.url);
    let head = async |path: String| client().head(url(path)).send().await.unwrap().status();
    let take = async || collect(Collection { kept: Kept::Named, ..Collection::new(data.path()) }).await.unwrap();
    age(&file("a", &manifest), DAY * 2);
    assert_eq!(
        (head(format!("a/blobs/{blob}")).await, head(format!("a/manifests/{manifest}")).await),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(take().await.totals.bytes, 0);
    age(&file("a", &blob), DAY * 2);
    for from in ["a", "b"] {
        let mounted = client().post(url(format!("{from}/blobs/uploads/?mount={blob}&from=a"))).send().await.unwrap();
        assert_eq!(mounted.status(), 201);
        assert_eq!(take().await.totals.bytes, 0, "mounted in {from}");
        age(&file("a", &blob), DAY * 2);
    }
    let collected: Collected = take().await;
    assert_eq!(
        (collected.totals.blobs, collected.totals.bytes, collected.totals.bytes_freed),
        (2, 20, 10),
        "one file, two names"
    );
    assert_eq!(head(format!("a/blobs/{blob}")).await, 404);
    // An upload whose last bytes came long ago is a young blob when it is closed.
    let begun = client().post(url("a/blobs/uploads/".into())).send().await.unwrap();
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    client().patch(format!("{}{place}", server.url)).body("not needed").send().await.unwrap();
    age(&data.path().join("uploads").join(place.rsplit('/').next().unwrap()), DAY * 2);
    let closed = client().put(format!("{}{place}?digest={blob}", server.url)).send().await.unwrap();
    assert_eq!((closed.status().as_u16(), take().await.totals.bytes), (201, 0));
    age(&file("a", &manifest), DAY * 2);
    assert_eq!(take().await.totals.manifests, 1);
    assert_eq!(head(format!("a/manifests/{manifest}")).await, 404);
}

#[tokio::test]
async fn what_changed_while_it_waited_for_the_lock_is_seen() {
    let data = tempfile::tempdir().unwrap();
    let folder = folder_of(data.path(), "app");
    let (image, garbage) = site(data.path(), "app").await;
    let more: Vec<_> = [&b"asked for"[..], b"in a new image", b"still garbage"]
        .into_iter()
        .map(|bytes| (bytes, Digest::sha256(bytes)))
        .collect();
    for (bytes, digest) in &more {
        put(&Layout::at(&folder), MediaType::OCI_LAYER, bytes, &[]).await;
        age(&blob_path(data.path(), "app", digest), DAY * 2);
    }
    let held = File::open(folder.join("oci-layout")).unwrap();
    held.lock().unwrap();
    let collecting = tokio::spawn(collect(Collection::new(data.path())));
    // Long enough for it to have chosen its victims; if it has not, this test sees less and does not fail for that.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!collecting.is_finished(), "it takes nothing without the lock");
    age(&blob_path(data.path(), "app", &more[0].1), Duration::ZERO);
    let layer = json!({"mediaType": MediaType::OCI_LAYER, "digest": more[1].1, "size": more[1].0.len()});
    let text = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let node = Descriptor::of(MediaType::OCI_MANIFEST, text.as_bytes());
    fs::write(blob_path(data.path(), "app", &node.digest), &text).unwrap();
    fs::write(folder.join("index.new"), json!({"schemaVersion": 2, "manifests": [image, node]}).to_string()).unwrap();
    fs::rename(folder.join("index.new"), folder.join("index.json")).unwrap();
    held.unlock().unwrap();
    let collected = collecting.await.unwrap().unwrap();
    let is_there = |digest: &Digest| blob_path(data.path(), "app", digest).exists();
    assert_eq!(more.iter().map(|(_, digest)| is_there(digest)).collect::<Vec<_>>(), [true, true, false]);
    assert!(!is_there(&garbage.digest) && collected.totals.blobs == 2, "{collected:?}");
}

// ---- Beside pushes.

/// How many blobs and manifests collection and pushes contend for.
const CONTENDED: usize = 160;
const PUSHERS: usize = 4;

/// What a pusher does about a blob before it puts a manifest that needs it.
async fn obtain(url: &str, how: usize, digest: &Digest, bytes: &[u8]) {
    let there = match how {
        0 => client().head(format!("{url}/v2/app/blobs/{digest}")).send().await.unwrap().status() == 200,
        1 => {
            client()
                .post(format!("{url}/v2/app/blobs/uploads/?mount={digest}&from=other"))
                .send()
                .await
                .unwrap()
                .status()
                == 201
        }
        2 => {
            client().post(format!("{url}/v2/app/blobs/uploads/?mount={digest}&from=app")).send().await.unwrap().status()
                == 201
        }
        // Takes it for granted.
        3 => true,
        _ => false,
    };
    if !there {
        let place = format!("{url}/v2/app/blobs/uploads/?digest={digest}");
        assert_eq!(client().post(place).body(bytes.to_vec()).send().await.unwrap().status(), 201);
    }
}

async fn put_manifest(url: &str, name: &str, media_type: MediaType, text: &str) -> u16 {
    let put = client().put(format!("{url}/v2/app/manifests/{name}")).header("content-type", media_type.as_str());
    put.body(text.to_owned()).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_running_pushes_it_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let (app, other) = (Layout::at(folder_of(data.path(), "app")), Layout::at(folder_of(data.path(), "other")));
    let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
    for n in 0..CONTENDED {
        let bytes = format!("contended {n}").into_bytes();
        let node = put(&app, MediaType::OCI_LAYER, &bytes, &[]).await;
        put(&other, MediaType::OCI_LAYER, &bytes, &[]).await;
        let text = json!({"schemaVersion": 2, "layers": [], "annotations": {"n": n.to_string()}}).to_string();
        manifests.push(put(&app, MediaType::OCI_MANIFEST, text.as_bytes(), &[]).await);
        for repository in ["app", "other"] {
            age(&blob_path(data.path(), repository, &node.digest), DAY * 2);
        }
        age(&blob_path(data.path(), "app", &manifests[n].digest), DAY * 2);
        blobs.push((node, bytes));
    }
    let server = Running::start(data.path(), |_| {}).await;
    let (next, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let shared = Arc::new((blobs, manifests));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|_| {
            let (url, next, shared) = (server.url.clone(), Arc::clone(&next), Arc::clone(&shared));
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some((node, bytes)) = shared.0.get(n) else { return (acknowledged, refused) };
                    obtain(&url, n % 5, &node.digest, bytes).await;
                    let text = json!({"schemaVersion": 2, "layers": [node]}).to_string();
                    match put_manifest(&url, &format!("t{n}"), MediaType::OCI_MANIFEST, &text).await {
                        201 => acknowledged.push(n),
                        404 if n % 5 == 3 => refused += 1,
                        other => panic!("{other} after {} way", n % 5),
                    }
                    // A manifest that is there already need not be sent before the index that lists it.
                    let child = &shared.1[n];
                    let asked = client().head(format!("{url}/v2/app/manifests/{}", child.digest)).send().await.unwrap();
                    if asked.status() == 200 {
                        let text =
                            json!({"schemaVersion": 2, "manifests": [child], "annotations": {"n": n.to_string()}});
                        assert_eq!(
                            put_manifest(&url, &format!("i{n}"), MediaType::OCI_INDEX, &text.to_string()).await,
                            201
                        );
                    }
                }
            })
        })
        .collect();
    let collecting = {
        let (path, is_over) = (data.path().to_owned(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut totals = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let collected = collect(Collection { kept: Kept::Named, ..Collection::new(&path) }).await.unwrap();
                assert_eq!(collected.left_alone(), 0, "{collected:?}");
                totals = (totals.0 + collected.totals.blobs, totals.1 + collected.totals.manifests);
            }
            totals
        })
    };
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for pusher in pushers {
        let (own, sent_away) = pusher.await.unwrap();
        acknowledged.extend(own);
        refused += sent_away;
    }
    is_over.store(true, Ordering::Relaxed);
    let (taken_blobs, taken_manifests) = collecting.await.unwrap();
    assert_eq!(acknowledged.len() + refused, CONTENDED);
    for n in acknowledged {
        let digest = shared.0[n].0.digest;
        let got = client().get(format!("{}/v2/app/blobs/{digest}", server.url)).send().await.unwrap();
        assert_eq!(got.bytes().await.unwrap(), shared.0[n].1, "the layer of t{n}, obtained by way {}", n % 5);
    }
    for n in 0..CONTENDED {
        let index = client().get(format!("{}/v2/app/manifests/i{n}", server.url)).send().await.unwrap();
        if index.status() == 200 {
            let child = shared.1[n].digest;
            let found = client().get(format!("{}/v2/app/manifests/{child}", server.url)).send().await.unwrap();
            assert_eq!(found.status(), 200, "what i{n} lists");
        }
    }
    assert!(taken_blobs > 0 && taken_manifests > 0, "they did contend: {taken_blobs} and {taken_manifests} were taken");
}
