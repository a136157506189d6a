//! `autonomy registry serve`, killed with SIGKILL at thirty points in the middle of pushes: acknowledged content is there
//! and whole after the next start, and nothing else is visible.
//!
//! A point is a number of acknowledged requests, drawn from a seed, counted over all concurrent pushers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_registry::oci::{Digest, MediaType};
use reqwest::Client;
use serde_json::{Value, json};
use testkit::images::shape::noise;

use crate::kit::asking::client;
use crate::kit::serve_bed::{PATIENCE, Program};

const POINTS: u64 = 30;
const PUSHERS: u64 = 5;
/// Another seed gives other points.
const SEED: u64 = 20_260_501;

/// Pushed content by digest, and the acknowledged part of it.
#[derive(Default)]
struct Book {
    blobs: HashMap<Digest, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    acknowledged_blobs: Vec<Digest>,
    acknowledged_tags: Vec<String>,
    /// Requests that were answered with success.
    answers: u64,
}

/// Pushes images until the server is killed: blobs in one request, in chunks, or in a session of its own; then a manifest.
async fn push(client: Client, root: String, book: Arc<Mutex<Book>>, seed: u64) -> Option<()> {
    for number in 0.. {
        let size = [1_000, 200_000, 30_000, 0][usize::try_from(number % 4).unwrap()];
        let blob = [seed.to_le_bytes().as_slice(), &noise(seed * 1_000 + number, size)].concat();
        let digest = Digest::sha256(&blob);
        book.lock().unwrap().blobs.insert(digest, blob.clone());
        upload(&client, &root, &blob, digest, number % 2 == 0, &book).await?;
        book.lock().unwrap().acknowledged_blobs.push(digest);

        let tag = format!("t{seed}-{number}");
        let layer = json!({"mediaType": MediaType::OCI_LAYER, "digest": digest, "size": blob.len()});
        let annotations = json!({"tag": tag});
        let manifest = json!({"schemaVersion": 2, "layers": [layer], "annotations": annotations}).to_string();
        book.lock().unwrap().manifests.insert(tag.clone(), manifest.clone().into_bytes());
        let put = client.put(format!("{root}/manifests/{tag}"));
        let put = put.header("content-type", MediaType::OCI_MANIFEST.as_str()).body(manifest);
        if put.send().await.ok()?.status() == 201 {
            let mut book = book.lock().unwrap();
            book.acknowledged_tags.push(tag);
            book.answers += 1;
        }
    }
    None
}

/// Returns after this many answers, while the pushers continue; no time limit but the patience.
async fn answered(book: &Mutex<Book>, answers: u64) {
    let enough = async {
        while book.lock().unwrap().answers < answers {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, enough).await.expect("requests are answered");
}

async fn upload(
    client: &Client,
    root: &str,
    blob: &[u8],
    digest: Digest,
    in_chunks: bool,
    book: &Mutex<Book>,
) -> Option<()> {
    let session = client.post(format!("{root}/blobs/uploads/")).send().await.ok()?;
    book.lock().unwrap().answers += 1;
    let place = session.headers().get("location")?.to_str().ok()?.to_owned();
    let place = format!("{}{place}", root.split("/v2/").next()?);
    let (first, rest) = if in_chunks { blob.split_at(blob.len() / 2) } else { (&[][..], blob) };
    if in_chunks {
        client.patch(&place).body(first.to_vec()).send().await.ok()?;
        book.lock().unwrap().answers += 1;
    }
    let done = client.put(format!("{place}?digest={digest}")).body(rest.to_vec()).send().await.ok()?;
    let is_taken = done.status() == 201;
    book.lock().unwrap().answers += u64::from(is_taken);
    is_taken.then_some(())
}

async fn get(client: &Client, url: String) -> Option<Vec<u8>> {
    let answer = client.get(url).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Some(answer.bytes().await.unwrap().to_vec()),
        404 => None,
        other => panic!("{other}"),
    }
}

/// Asserts that everything acknowledged is there and whole, and all other content is whole or missing.
async fn check(client: &Client, root: &str, book: &Book, all: &[Book]) {
    for (digest, bytes) in &book.blobs {
        let found = get(client, format!("{root}/blobs/{digest}")).await;
        assert!(found.as_ref().is_none_or(|found| found == bytes), "{digest} is not what was pushed");
        assert!(found.is_some() || !book.acknowledged_blobs.contains(digest), "{digest} was acknowledged and is lost");
    }
    let listed = get(client, format!("{root}/tags/list")).await.unwrap_or_else(|| br#"{"tags":[]}"#.to_vec());
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let listed: Vec<_> = listed["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    for tag in &book.acknowledged_tags {
        assert!(listed.contains(&tag.as_str()), "{tag} was acknowledged and is lost");
    }
    for tag in listed {
        assert!(all.iter().any(|book| book.manifests.contains_key(tag)), "{tag} was never pushed");
        let Some(pushed) = book.manifests.get(tag) else { continue };
        let found = get(client, format!("{root}/manifests/{tag}")).await;
        assert_eq!(found.as_ref(), Some(pushed), "{tag}");
        let by_digest = get(client, format!("{root}/manifests/{}", Digest::sha256(pushed))).await;
        assert_eq!(by_digest.as_ref(), Some(pushed), "{tag} by digest");
        let manifest: Value = serde_json::from_slice(pushed).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let asked = client.head(format!("{root}/blobs/{layer}")).send().await.unwrap();
        assert_eq!(asked.status(), 200, "{tag} has lost its layer");
    }
}

/// The next point: the number of answers of one server.
fn point(round: u64) -> u64 {
    let bytes = noise(SEED + round, 8);
    1 + u64::from_le_bytes(bytes.try_into().unwrap()) % 40
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_content_survives_kill_9_whole_and_nothing_else_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..=POINTS {
        let server = Program::start::<&str>(folder.path(), []);
        let root = format!("{}/v2/site/app", server.url);
        if let Some(last) = all.last() {
            check(&client(), &root, last, &all).await;
        }
        if round == POINTS {
            break;
        }
        let book = Arc::new(Mutex::new(Book::default()));
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| tokio::spawn(push(client(), root.clone(), Arc::clone(&book), 1 + round * PUSHERS + pusher)))
            .collect();
        answered(&book, point(round)).await;
        drop(server);
        for pusher in pushers {
            tokio::time::timeout(PATIENCE, pusher).await.expect("a pusher notices that its server is gone").unwrap();
        }
        all.push(std::mem::take(&mut *book.lock().unwrap()));
    }
    let tags: usize = all.iter().map(|book| book.acknowledged_tags.len()).sum();
    assert!(tags as u64 > POINTS, "{tags} images were acknowledged");
    // Checks the files: every one matches its name, and none went missing in a later round.
    let layout = folder.path().join("repositories/site/app/_layout");
    let mut names = HashSet::new();
    for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let is_whole = Digest::sha256(&std::fs::read(entry.path()).unwrap()).hex() == name;
        assert!(is_whole || name.starts_with(".tmp-"), "{name}");
        names.insert(name);
    }
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    for book in &all {
        assert!(book.acknowledged_blobs.iter().all(|digest| names.contains(&digest.hex())));
        for tag in &book.acknowledged_tags {
            let digest = Digest::sha256(&book.manifests[tag]);
            assert!(
                names.contains(&digest.hex()) && index.contains(&digest.hex()) && index.contains(&format!("\"{tag}\""))
            );
        }
    }
}
