use std::fs;
use std::time::Duration;

use super::folder::VERSION;
use super::gc::{Effect, GcRules, KeptManifests, LinkCounts, Swept};
use super::*;
use crate::oci::{MediaType, Name};
use crate::store::{Listing, Store as _};

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

async fn put(layout: &Layout, text: &str, tags: &[Tag]) -> Descriptor {
    let node = Descriptor::of(MediaType::OCI_INDEX, text.as_bytes());
    layout.put(&node, &Body::bytes(node.clone(), text.as_bytes().to_vec()), tags).await.unwrap();
    node
}

fn empty_index(salt: u32) -> String {
    format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"salt":"{salt}"}}}}"#)
}

/// Returns the names and digests that `index.json` lists.
fn listed(folder: &Path) -> Vec<(Option<String>, String)> {
    let bytes = fs::read(folder.join("index.json")).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let entries = document["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let name = entry["annotations"][index::REF_NAME].as_str().map(str::to_owned);
            (name, entry["digest"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn every_manifest_is_listed_once_for_each_tag_or_once_without() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let one = put(&layout, &empty_index(1), &[]).await;
    let one = one.digest.to_string();
    assert_eq!(listed(folder.path()), [(None, one.clone())]);
    put(&layout, &empty_index(1), &[tag("a"), tag("b")]).await;
    assert_eq!(listed(folder.path()), [(Some("a".into()), one.clone()), (Some("b".into()), one.clone())]);
    let two = put(&layout, &empty_index(2), &[tag("a"), tag("b")]).await.digest.to_string();
    let now = listed(folder.path());
    assert_eq!(now.len(), 3, "{now:?}");
    assert!(now.contains(&(None, one)) && now.contains(&(Some("a".into()), two)));
}

#[tokio::test]
async fn putting_what_is_there_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    put(&layout, &empty_index(1), &[tag("a")]).await;
    let before = index::IndexStamp::of(&Below::at(folder.path()).place());
    put(&layout, &empty_index(1), &[tag("a")]).await;
    assert_eq!(index::IndexStamp::of(&Below::at(folder.path()).place()), before);
}

#[tokio::test]
async fn a_foreign_layout_is_followed_from_its_roots_and_keeps_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let child = br#"{"schemaVersion":2,"layers":[]}"#;
    let child_node = Descriptor::of(MediaType::DOCKER_MANIFEST, child);
    let root = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, serde_json::to_string(&child_node).unwrap());
    let root_node = Descriptor::of(MediaType::OCI_INDEX, root.as_bytes());
    fs::write(blobs.join(child_node.digest.hex()), child).unwrap();
    fs::write(blobs.join(root_node.digest.hex()), &root).unwrap();
    fs::write(folder.path().join("oci-layout"), VERSION).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"annotations":{{"by":"somebody"}},"manifests":[{{"mediaType":"{}","digest":"{}","size":{},
        "annotations":{{"{}":"docker.io/library/a:v1","x":"y"}}}}]}}"#,
        MediaType::OCI_INDEX,
        root_node.digest,
        root.len(),
        index::REF_NAME
    );
    fs::write(folder.path().join("index.json"), index).unwrap();
    let layout = Layout::open(folder.path()).await.unwrap();
    let found = layout.fetch(&Name::Digest(child_node.digest)).await.unwrap();
    assert_eq!(found.node, child_node, "a child has the type that its parent says");
    assert!(Listing::tags(&layout).await.unwrap().is_empty(), "a whole reference is no tag");
    put(&layout, &empty_index(1), &[tag("ours")]).await;
    let text = fs::read_to_string(folder.path().join("index.json")).unwrap();
    for kept in [r#""by":"somebody""#, r#""x":"y""#, "docker.io/library/a:v1", r#""ours""#] {
        assert!(text.contains(kept), "{kept} is lost from {text}");
    }
}

#[tokio::test]
async fn what_another_process_does_to_the_folder_is_seen_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    // Two values for one folder share no memory, like two processes.
    let (here, there) = (Layout::at(folder.path()), Layout::at(folder.path()));
    let tags: Vec<Tag> = (0..10).map(|n| tag(&format!("t{n}"))).collect();
    let puts = tags.iter().enumerate().map(|(n, tag)| {
        let layout = if n % 2 == 0 { &here } else { &there };
        async move { put(layout, &empty_index(n as u32), std::slice::from_ref(tag)).await }
    });
    futures_util::future::join_all(puts).await;
    assert_eq!(Listing::tags(&here).await.unwrap(), tags);
    assert_eq!(Listing::tags(&there).await.unwrap(), tags);
}

#[tokio::test]
async fn a_blob_of_the_wrong_length_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let node = Descriptor::of(MediaType::OCI_LAYER, b"whole");
    let body = Body::bytes(node.clone(), &b"whole"[..]);
    layout.put(&node, &body, &[]).await.unwrap();
    fs::write(layout.blob(&node.digest).path(), b"who").unwrap();
    assert!(!layout.contains(&node).await.unwrap());
    assert_eq!(layout.put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    assert_eq!(fs::read(layout.blob(&node.digest).path()).unwrap(), b"whole");
}

#[tokio::test]
async fn a_manifest_that_rotted_on_disk_is_told_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let node = put(&layout, &empty_index(1), &[tag("a")]).await;
    fs::write(layout.blob(&node.digest).path(), empty_index(7)).unwrap();
    let name = Name::Tag(tag("a"));
    assert_eq!(layout.fetch(&name).await.unwrap_err().kind(), Kind::Corrupt);
    put(&layout, &empty_index(1), &[tag("a")]).await;
    assert_eq!(layout.fetch(&name).await.unwrap().node, node);
}

#[tokio::test]
async fn a_mounted_blob_takes_no_second_place_and_outlives_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (Layout::at(folder.path().join("a")), Layout::at(folder.path().join("b")));
    let node = Descriptor::of(MediaType::OCI_LAYER, b"shared");
    assert!(!to.mount(&from, node.digest).await.unwrap());
    from.put(&node, &Body::bytes(node.clone(), &b"shared"[..]), &[]).await.unwrap();
    assert!(to.mount(&from, node.digest).await.unwrap());
    assert!(to.mount(&from, node.digest).await.unwrap(), "twice does no harm");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(to.blob(&node.digest).path()).unwrap().nlink(), 2);
    }
    assert!(from.remove_blob(node.digest).await.unwrap());
    assert!(to.contains(&node).await.unwrap());
}

#[tokio::test]
async fn what_is_no_layout_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Layout::open(folder.path()).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "looking must not make one");
    fs::write(folder.path().join("oci-layout"), VERSION).unwrap();
    fs::write(folder.path().join("index.json"), "[]").unwrap();
    assert_eq!(Layout::open(folder.path()).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_list_that_is_too_long_is_neither_read_nor_written() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    put(&layout, &empty_index(1), &[tag("a")]).await;
    let list = folder.path().join("index.json");
    let text = fs::read_to_string(&list).unwrap();
    // Another program's members are kept, and may be large.
    let long = |count| text.replacen('{', &format!(r#"{{"more":"{}","#, "x".repeat(count)), 1);
    fs::write(&list, long((32 << 20) - text.len() - 12)).unwrap();
    assert_eq!(Listing::tags(&layout).await.unwrap(), [tag("a")]);
    let node = Descriptor::of(MediaType::OCI_INDEX, empty_index(2).as_bytes());
    let body = Body::bytes(node.clone(), empty_index(2).into_bytes());
    let error = layout.put(&node, &body, &[tag("b")]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{}", error.chain());
    for text in [long(33 << 20), text.replacen('{', &format!(r#"{{"more":[0{}],"#, ",0".repeat(1_000_001)), 1)] {
        fs::write(&list, text).unwrap();
        assert_eq!(Listing::tags(&layout).await.unwrap_err().kind(), Kind::Limit);
    }
}

#[tokio::test]
async fn a_deleted_manifest_stays_deleted_when_the_one_that_lists_it_cannot_be_read_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let child = put(&layout, &empty_index(1), &[]).await;
    let other = put(&layout, &empty_index(2), &[]).await;
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    let parent = put(&layout, &list, &[tag("parent")]).await;
    assert!(layout.remove_manifest(child.digest).await.unwrap());
    fs::write(layout.blob(&parent.digest).path(), "rotten").unwrap();
    let layout = Layout::at(folder.path());
    assert!(layout.remove_manifest(other.digest).await.unwrap());
    layout.restore(&Body::bytes(parent.clone(), list.into_bytes()).replacing()).await.unwrap();
    for layout in [layout, Layout::at(folder.path())] {
        assert!(layout.is_manifest(parent.digest).await.unwrap());
        assert!(!layout.is_manifest(child.digest).await.unwrap());
    }
}

#[tokio::test]
async fn a_manifest_that_was_deleted_is_restored_as_bytes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let node = put(&layout, &empty_index(1), &[tag("a")]).await;
    layout.remove_manifest(node.digest).await.unwrap();
    let before = fs::read(folder.path().join("index.json")).unwrap();
    fs::write(layout.blob(&node.digest).path(), "rotten").unwrap();
    let body = Body::bytes(node.clone(), empty_index(1).into_bytes()).replacing();
    layout.restore(&body).await.unwrap();
    assert_eq!(fs::read(folder.path().join("index.json")).unwrap(), before);
    assert!(!layout.is_manifest(node.digest).await.unwrap());
    assert_eq!(layout.size(&node.digest).await.unwrap(), Some(node.size));
}

#[tokio::test]
async fn a_deleted_manifest_that_another_lists_stays_deleted_and_its_bytes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    let child = put(&layout, &empty_index(1), &[tag("child")]).await;
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    let parent = put(&layout, &list, &[tag("parent")]).await;
    assert!(layout.remove_manifest(child.digest).await.unwrap());
    // Another value for the folder loads the index again, as another process or the next start does.
    for layout in [layout.clone(), Layout::at(folder.path())] {
        assert!(!layout.is_manifest(child.digest).await.unwrap());
        assert!(!layout.remove_manifest(child.digest).await.unwrap());
        assert_eq!(layout.size(&child.digest).await.unwrap(), Some(child.size));
        assert_eq!(Listing::tags(&layout).await.unwrap(), [tag("parent")]);
    }
    // The same if the manifest that lists it comes later.
    let other = put(&layout, &empty_index(2), &[]).await;
    layout.remove_manifest(other.digest).await.unwrap();
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [child, other]}).to_string();
    let later = Descriptor::of(MediaType::OCI_INDEX, list.as_bytes());
    let missing =
        layout.put_complete(&later, list.clone().into(), &[], vec![(other.digest, other.size)]).await.unwrap();
    assert_eq!(missing, Some(Lack::Missing(other.digest)), "a strict server refuses it");
    let later = put(&layout, &list, &[]).await;
    assert!(!Layout::at(folder.path()).is_manifest(other.digest).await.unwrap());
    layout.remove_manifest(later.digest).await.unwrap();
    put(&layout, &empty_index(1), &[]).await;
    assert!(Layout::at(folder.path()).is_manifest(child.digest).await.unwrap(), "what is put again is there");
    layout.remove_manifest(child.digest).await.unwrap();
    layout.remove_manifest(parent.digest).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("index.json")).unwrap().matches("sha256").count(), 0);
}

#[tokio::test]
async fn a_layout_whose_list_comes_a_moment_after_the_rest_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::at(folder.path());
    put(&layout, &empty_index(1), &[tag("a")]).await;
    let sweep = |layout: &Layout| {
        let layout = layout.clone();
        let rules = GcRules { older_than: Duration::ZERO, kept: KeptManifests::All, effect: Effect::Counted };
        blocking(move || layout.sweep(&rules, &mut LinkCounts::default(), &mut Swept::default()))
    };
    let (list, aside) = (folder.path().join("index.json"), folder.path().join("aside"));
    fs::rename(&list, &aside).unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_millis(120)).await;
        fs::rename(&aside, &list).unwrap();
    };
    let (swept, ()) = tokio::join!(sweep(&layout), late);
    swept.unwrap();
    fs::remove_file(&list).unwrap();
    assert_eq!(sweep(&layout).await.unwrap_err().kind(), Kind::Invalid, "a list that does not come is damage");
}
