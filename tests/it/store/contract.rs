//! The contract of every store, tested on each of them. A new store is one more line at the end.

use std::sync::Arc;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name, Tag};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{self, Body, Cached, Layout, Listing, ListingStore, Memory, PagedStore, Put, Store};
use autonomy_registry::{Kind, Result};
use futures_util::{StreamExt, TryStreamExt, future};

fn blob(bytes: &[u8]) -> (Descriptor, Body) {
    let node = Descriptor::of(MediaType::OCI_LAYER, bytes);
    (node.clone(), Body::bytes(node, bytes.to_vec()))
}

fn manifest(media_type: MediaType, text: &str) -> (Descriptor, Body) {
    let node = Descriptor::of(media_type, text.as_bytes());
    (node.clone(), Body::bytes(node, text.as_bytes().to_vec()))
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

async fn read(store: &dyn ListingStore, node: &Descriptor, from: u64) -> Result<Vec<u8>> {
    let pieces = store.open(node, from).await?;
    pieces.try_fold(Vec::new(), |all, piece| future::ready(Ok([all, piece.to_vec()].concat()))).await
}

/// An image of one layer, put bottom-up; another `salt` makes another image.
async fn image(store: &dyn ListingStore, salt: &str, subject: Option<&Descriptor>, tags: &[Tag]) -> Descriptor {
    let (config, config_body) = blob(format!("{{\"salt\":\"{salt}\"}}").as_bytes());
    let (layer, layer_body) = blob(format!("layer of {salt}").as_bytes());
    store.put(&config, &config_body, &[]).await.unwrap();
    store.put(&layer, &layer_body, &[]).await.unwrap();
    let subject = subject.map(|node| format!(r#""subject":{},"#, serde_json::to_string(node).unwrap()));
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",{}"artifactType":"application/x.{salt}","annotations":{{"salt":"{salt}"}},"config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        subject.unwrap_or_default(),
        serde_json::to_string(&config).unwrap(),
        serde_json::to_string(&layer).unwrap(),
    );
    let (node, body) = manifest(MediaType::OCI_MANIFEST, &text);
    store.put(&node, &body, tags).await.unwrap();
    node
}

/// Runs the whole contract on an empty store.
async fn holds(store: &dyn ListingStore) {
    assert!(!store.label().is_empty());
    absent_content_is_not_found(store).await;
    stored_content_is_read_back_from_any_offset(store).await;
    wrong_sizes_are_corrupt(store).await;
    wrong_bytes_never_become_visible(store).await;
    a_second_put_reads_nothing(store).await;
    many_puts_of_one_node_agree(store).await;
    tags_name_manifests_and_move(store).await;
    manifests_come_back_as_they_were(store).await;
    referrers_appear_with_type_and_annotations(store).await;
}

async fn absent_content_is_not_found(store: &dyn ListingStore) {
    let (node, _) = blob(b"never put");
    assert!(!store.contains(&node).await.unwrap());
    assert_eq!(store.open(&node, 0).await.err().map(|e| e.kind()), Some(Kind::NotFound));
    for name in [Name::Tag(tag("absent")), Name::Digest(node.digest)] {
        assert_eq!(store.resolve(&name).await.unwrap_err().kind(), Kind::NotFound, "{name}");
        assert_eq!(store.fetch(&name).await.unwrap_err().kind(), Kind::NotFound, "{name}");
    }
    assert!(store.tags().await.unwrap().is_empty());
    assert!(store.referrers(&node.digest).await.unwrap().is_empty(), "nothing attached is no failure");
}

async fn stored_content_is_read_back_from_any_offset(store: &dyn ListingStore) {
    // Larger than the pieces that stores read and write in, and of no round length.
    let large: Vec<u8> = (0..1_300_001_u32).flat_map(|n| (n % 251).to_le_bytes()[..1].to_vec()).collect();
    for bytes in [&large[..], b"small", b""] {
        let (node, body) = blob(bytes);
        let first = store.put(&node, &body, &[]).await.unwrap();
        assert_eq!(first, Put::Sent(node.size));
        assert!(store.contains(&node).await.unwrap());
        for from in [0, node.size / 2, node.size.saturating_sub(1), node.size] {
            let found = read(store, &node, from).await.unwrap();
            assert!(found == bytes[usize::try_from(from).unwrap()..], "{} bytes from {from}", node.size);
        }
    }
}

async fn wrong_sizes_are_corrupt(store: &dyn ListingStore) {
    let (node, body) = blob(b"exactly so long");
    store.put(&node, &body, &[]).await.unwrap();
    for size in [node.size - 1, node.size + 1] {
        let lie = Descriptor { size, ..node.clone() };
        let outcome = read(store, &lie, 0).await.map_err(|error| error.kind());
        assert_eq!(outcome, Err(Kind::Corrupt), "{size} in place of {}", node.size);
    }
}

async fn wrong_bytes_never_become_visible(store: &dyn ListingStore) {
    let good = b"bytes as promised".to_vec();
    let node = Descriptor::of(MediaType::OCI_LAYER, &good);
    let image = Descriptor { media_type: MediaType::OCI_MANIFEST, ..node.clone() };
    for bad in [&b"bytes as promiseD"[..], b"bytes", b"bytes as promised and more", b""] {
        let outcome = store.put(&node, &Body::bytes(node.clone(), bad.to_vec()), &[]).await;
        assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
        assert!(!store.contains(&node).await.unwrap());
        assert_eq!(store.open(&node, 0).await.err().map(|e| e.kind()), Some(Kind::NotFound));
        let tags = [tag("wrong")];
        let outcome = store.put(&image, &Body::bytes(image.clone(), bad.to_vec()), &tags).await;
        assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
        assert!(store.resolve(&Name::Tag(tag("wrong"))).await.is_err());
    }
    store.put(&node, &Body::bytes(node.clone(), good.clone()), &[]).await.unwrap();
    assert_eq!(read(store, &node, 0).await.unwrap(), good, "a failed put must not be in the way of a good one");
}

async fn a_second_put_reads_nothing(store: &dyn ListingStore) {
    let (node, body) = blob(b"put twice");
    assert_eq!(store.put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
    assert_eq!(body.meter().fetched(), node.size);
    let (_, again) = blob(b"put twice");
    assert_eq!(store.put(&node, &again, &[]).await.unwrap(), Put::Present);
    assert_eq!(again.meter().fetched(), 0, "what is held must not be fetched");
    // The bytes may come from another store, and are read only once.
    let origin = Memory::default();
    let (node, body) = blob(b"kept elsewhere");
    origin.put(&node, &body, &[]).await.unwrap();
    let body = Body::stored(node.clone(), Arc::new(origin));
    assert_eq!(store.put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
    assert_eq!(store.put(&node, &body, &[]).await.unwrap(), Put::Present);
    assert_eq!(body.meter().fetched(), node.size);
}

async fn many_puts_of_one_node_agree(store: &dyn ListingStore) {
    let bytes = vec![7; 700_000];
    let (node, _) = blob(&bytes);
    let puts = (0..8).map(|_| async {
        let (node, body) = blob(&bytes);
        store.put(&node, &body, &[]).await.unwrap();
    });
    future::join_all(puts).await;
    assert!(read(store, &node, 0).await.unwrap() == bytes);
    let images = (0..8).map(|n| async move { image(store, &format!("many{n}"), None, &[tag(&format!("m{n}"))]).await });
    let images = future::join_all(images).await;
    for (n, node) in images.iter().enumerate() {
        let root = store.resolve(&Name::Tag(tag(&format!("m{n}")))).await.unwrap();
        assert_eq!(root.digest, node.digest, "no tag may be lost to a writer beside it");
    }
}

async fn tags_name_manifests_and_move(store: &dyn ListingStore) {
    let (node, body) = blob(b"not a manifest");
    let refused = store.put(&node, &body, &[tag("blob")]).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Usage);
    let old = image(store, "old", None, &[tag("moving"), tag("staying")]).await;
    let new = image(store, "new", None, &[]).await;
    let by_tag = async |name: &str| store.resolve(&Name::Tag(tag(name))).await.unwrap();
    assert_eq!(by_tag("moving").await, old.clone());
    let body = Body::bytes(new.clone(), store::read_manifest(store, &new).await.unwrap());
    store.put(&new, &body, &[tag("moving")]).await.unwrap();
    assert_eq!((by_tag("moving").await.digest, by_tag("staying").await.digest), (new.digest, old.digest));
    let again = store.resolve(&Name::Digest(old.digest)).await.unwrap();
    assert_eq!(again.digest, old.digest, "what a tag has left is still there");
    let mut tags = store.tags().await.unwrap();
    tags.retain(|tag| !tag.as_str().starts_with('m') || tag.as_str() == "moving");
    tags.sort();
    assert_eq!(tags, [tag("moving"), tag("staying")]);
}

async fn manifests_come_back_as_they_were(store: &dyn ListingStore) {
    // Odd spacing must survive, and a type that the bytes do not contain must come back as it was put.
    let text = "{ \"schemaVersion\": 2,\n\t\"manifests\": [] }";
    let (node, body) = manifest(MediaType::DOCKER_LIST, text);
    store.put(&node, &body, &[tag("list")]).await.unwrap();
    assert!(store.contains(&node).await.unwrap());
    for name in [Name::Tag(tag("list")), Name::Digest(node.digest)] {
        let root = store.fetch(&name).await.unwrap();
        assert_eq!(root.node, node);
        assert_eq!(root.bytes, text.as_bytes());
        assert_eq!(store.resolve(&name).await.unwrap(), node);
    }
    let stored = read(store, &node, 0).await.unwrap();
    assert_eq!(stored, text.as_bytes(), "a manifest opens like any node");
    assert_eq!(&store::read_manifest(store, &node).await.unwrap()[..], text.as_bytes());
}

async fn referrers_appear_with_type_and_annotations(store: &dyn ListingStore) {
    let absent = Descriptor::of(MediaType::OCI_MANIFEST, b"put later, or never");
    let subject = image(store, "subject", None, &[]).await;
    let first = image(store, "signature", Some(&subject), &[]).await;
    let second = image(store, "sbom", Some(&subject), &[]).await;
    let early = image(store, "early", Some(&absent), &[]).await;
    let mut found = store.referrers(&subject.digest).await.unwrap();
    found.sort_by_key(|node| node.artifact_type.clone());
    let digests: Vec<Digest> = found.iter().map(|node| node.digest).collect();
    assert_eq!(digests, [second.digest, first.digest]);
    assert_eq!(found[0].artifact_type, Some(MediaType::new("application/x.sbom")));
    assert_eq!(found[0].annotations.get("salt").map(String::as_str), Some("sbom"));
    assert_eq!((found[0].size, &found[0].media_type), (second.size, &MediaType::OCI_MANIFEST));
    let found = store.referrers(&absent.digest).await.unwrap();
    assert_eq!(found.len(), 1, "a subject need not be there");
    assert_eq!(found[0].digest, early.digest);
}

/// Runs the contract of pages on an empty store.
async fn pages_hold_what_the_lists_hold(store: &(impl PagedStore + Listing)) {
    let names = ["c", "a", "d", "b"].map(tag);
    let subject = image(store, "subject", None, &names).await;
    for salt in ["sbom", "signature", "scan", "vex"] {
        image(store, salt, Some(&subject), &[]).await;
    }
    let (mut tags, mut last) = (Vec::new(), None::<String>);
    loop {
        let page = store.tags_after(last.as_deref(), 3, 2).await.unwrap();
        assert!(!page.names.is_empty() && page.names.len() <= 2);
        tags.extend(page.names);
        last = tags.last().cloned();
        if !page.has_more {
            break;
        }
    }
    assert_eq!(tags, ["a", "b", "c", "d"]);
    let (mut found, mut last) = (Vec::<Descriptor>::new(), None);
    loop {
        let page = store.referrers_after(&subject.digest, last, None, 1).await.unwrap();
        found.push(serde_json::from_slice(&page.text).unwrap());
        last = page.next;
        if last.is_none() {
            break;
        }
    }
    let mut expected = store.referrers(&subject.digest).await.unwrap();
    expected.sort_by_key(|node| node.digest);
    assert_eq!(found, expected);
    let wanted = MediaType::new("application/x.sbom");
    let page = store.referrers_after(&subject.digest, None, Some(&wanted), usize::MAX).await.unwrap();
    let found: Descriptor = serde_json::from_slice(&page.text).unwrap();
    assert_eq!((found.artifact_type, page.next), (Some(wanted), None));
}

#[tokio::test]
async fn pages_of_memory_and_of_a_layout_hold_what_the_lists_hold() {
    let folder = tempfile::tempdir().unwrap();
    pages_hold_what_the_lists_hold(&Memory::default()).await;
    pages_hold_what_the_lists_hold(&Layout::at(folder.path())).await;
}

#[tokio::test]
async fn memory_holds_the_contract() {
    holds(&Memory::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_layout_holds_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    holds(&Layout::at(folder.path().join("not/there/yet"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_holds_the_contract_with_and_without_the_referrers_api() {
    for behaviour in [Profile::default(), Profile::distribution_2(), Profile::distribution_3()] {
        let bed = Testbed::with(behaviour).await;
        holds(&crate::kit::command::publisher(&bed, "contract")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_remembers_holds_the_contract() {
    holds(&Cached::new(Arc::new(Memory::default()))).await;
}

#[tokio::test]
async fn a_layout_is_the_same_after_it_was_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (subject, referrer);
    {
        let layout = Layout::at(folder.path());
        subject = image(&layout, "root", None, &[tag("v1"), tag("v2")]).await;
        referrer = image(&layout, "attached", Some(&subject), &[]).await;
    }
    let layout = Layout::open(folder.path()).await.unwrap();
    let root = layout.fetch(&Name::Tag(tag("v2"))).await.unwrap();
    assert_eq!(root.node.digest, subject.digest);
    let found = layout.referrers(&subject.digest).await.unwrap();
    assert_eq!(found.iter().map(|node| node.digest).collect::<Vec<_>>(), [referrer.digest]);
    let mut pieces = Store::open(&layout, &referrer, 0).await.unwrap();
    assert!(pieces.next().await.unwrap().is_ok());
}
