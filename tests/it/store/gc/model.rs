//! The model: random plans, written to disk, and their garbage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::{Collection, Effect, KeptManifests, collect};
use autonomy_registry::store::{Layout, Listing as _, Store as _};
use proptest::prelude::*;
use serde_json::json;

use super::{DAY, age, blob_path, files, folder_of, put};

/// Bytes on the disk: a file with two names counts once.
fn usage(folder: &Path) -> u64 {
    let inodes: HashMap<u64, u64> =
        files(folder).iter().map(|path| fs::metadata(path).unwrap()).map(|data| (data.ino(), data.len())).collect();
    inodes.values().sum()
}

/// One manifest of a plan. Numbers are taken modulo the number of candidates.
#[derive(Debug, Clone)]
struct Planned {
    is_index: bool,
    parts: Vec<usize>,
    subject: Option<usize>,
    is_tagged: bool,
    is_old: bool,
    /// An index may list missing content, and a subject may be missing.
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

/// A plan on disk, and its garbage.
struct Made {
    /// Paths that must be gone after a collection; all others must remain.
    garbage: BTreeSet<PathBuf>,
    tags: BTreeSet<String>,
    /// Manifests that are kept.
    kept: Vec<Digest>,
}

/// Writes a plan to disk. Manifests refer to earlier ones only, since digests allow nothing else.
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

    // Finds kept manifests by repeating until nothing is added: no graph, no order.
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
        // Every manifest that is not kept is old: young ones are kept.
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
        // A repository with only blobs is a layout, too.
        let empty = json!({"schemaVersion": 2, "layers": []}).to_string();
        let text = if is_needed { manifest } else { empty };
        put(&layout, MediaType::OCI_MANIFEST, text.as_bytes(), &[&format!("t{blob}")]).await;
        if !is_needed && plan.blobs[blob] {
            garbage.insert(to);
        }
    }
}

/// Leftovers of writers, and files of other programs.
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
    let kept = if plan.named_only { KeptManifests::Named } else { KeptManifests::All };
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
        prop_assert!(layout.fetch(&name).await.is_ok(), "{} is served", digest);
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
