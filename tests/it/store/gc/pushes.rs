//! Concurrent pushes: content stays if a client just put it or got an answer about it.

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::{Collected, Collection, KeptManifests, collect};
use autonomy_registry::store::Layout;
use reqwest::StatusCode;
use serde_json::json;

use super::{DAY, age, blob_path, folder_of, put, site};
use crate::kit::asking::client;
use crate::kit::serve_bed::Running;

#[tokio::test]
async fn content_confirmed_to_a_client_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let (_, blob) = site(data.path(), "a").await;
    let text = json!({"schemaVersion": 2, "layers": []}).to_string();
    let untagged = put(&Layout::at(folder_of(data.path(), "a")), MediaType::OCI_MANIFEST, text.as_bytes(), &[]).await;
    let server = Running::start(data.path(), |_| {}).await;
    let (blob, manifest) = (blob.digest, untagged.digest);
    let file = |repository: &str, digest: &Digest| blob_path(data.path(), repository, digest);
    let url = |path: String| format!("{}/v2/{path}", server.url);
    let head = async |path: String| client().head(url(path)).send().await.unwrap().status();
    let take =
        async || collect(Collection { kept: KeptManifests::Named, ..Collection::new(data.path()) }).await.unwrap();
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
    // An upload whose last bytes are old makes a young blob when it is closed.
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
async fn changes_during_the_wait_for_the_lock_are_seen() {
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
    let held = File::open(folder.join(".lock")).unwrap();
    held.lock().unwrap();
    let collecting = tokio::spawn(collect(Collection::new(data.path())));
    // Long enough for the collection to choose its garbage; on a slower machine this test checks less and still passes.
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

/// Number of blobs and manifests that collection and pushes contend for.
const CONTENDED: usize = 160;
const PUSHERS: usize = 4;

/// A pusher's request for a blob before it puts a manifest that needs it.
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
        // Assumes that the blob is there.
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
                    // An existing manifest need not be sent before the index that lists it.
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
                let collected =
                    collect(Collection { kept: KeptManifests::Named, ..Collection::new(&path) }).await.unwrap();
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
