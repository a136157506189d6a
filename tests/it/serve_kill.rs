//! `autonomy registry serve`, killed with SIGKILL in the middle of pushes: what was acknowledged is there and whole after the
//! next start, and nothing else can be seen.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_registry::oci::{Digest, MediaType};
use reqwest::Client;
use serde_json::{Value, json};

use crate::images::shape::noise;
use crate::serve::client;

const ROUNDS: u64 = 4;
const PUSHERS: u64 = 6;
/// Longest that anything may take here: a server that hangs is a failure with a name, not a test run without an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was tried, by digest, and what of it was acknowledged.
#[derive(Default)]
struct Book {
    blobs: HashMap<Digest, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    acknowledged_blobs: Vec<Digest>,
    acknowledged_tags: Vec<String>,
}

/// A running server, killed when the value goes.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A server over `folder`, and the repository's root on it.
fn start(folder: &Path) -> (Served, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(["registry", "serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let root = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (Served(child), format!("{root}/v2/site/app"))
}

/// Pushes images until the server is gone: blobs in one request, in chunks, or in a session of its own; then a manifest.
async fn push(client: Client, root: String, book: Arc<Mutex<Book>>, seed: u64) -> Option<()> {
    for number in 0.. {
        let size = [1_000, 700_000, 90_000, 0][usize::try_from(number % 4).unwrap()];
        let blob = [seed.to_le_bytes().as_slice(), &noise(seed * 1_000 + number, size)].concat();
        let digest = Digest::sha256(&blob);
        book.lock().unwrap().blobs.insert(digest, blob.clone());
        upload(&client, &root, &blob, digest, number % 2 == 0).await?;
        book.lock().unwrap().acknowledged_blobs.push(digest);

        let tag = format!("t{seed}-{number}");
        let layer = json!({"mediaType": MediaType::OCI_LAYER, "digest": digest, "size": blob.len()});
        let annotations = json!({"tag": tag});
        let manifest = json!({"schemaVersion": 2, "layers": [layer], "annotations": annotations}).to_string();
        book.lock().unwrap().manifests.insert(tag.clone(), manifest.clone().into_bytes());
        let put = client.put(format!("{root}/manifests/{tag}"));
        let put = put.header("content-type", MediaType::OCI_MANIFEST.as_str()).body(manifest);
        if put.send().await.ok()?.status() == 201 {
            book.lock().unwrap().acknowledged_tags.push(tag);
        }
    }
    None
}

/// Returns once so many tags were acknowledged, while the pushers go on: how long that takes is the machine's matter.
async fn acknowledged(book: &Mutex<Book>, tags: usize) {
    let enough = async {
        while book.lock().unwrap().acknowledged_tags.len() < tags {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, enough).await.expect("tags are acknowledged");
}

async fn upload(client: &Client, root: &str, blob: &[u8], digest: Digest, in_chunks: bool) -> Option<()> {
    let session = client.post(format!("{root}/blobs/uploads/")).send().await.ok()?;
    let place = session.headers().get("location")?.to_str().ok()?.to_owned();
    let place = format!("{}{place}", root.split("/v2/").next()?);
    let (first, rest) = if in_chunks { blob.split_at(blob.len() / 2) } else { (&[][..], blob) };
    if in_chunks {
        client.patch(&place).body(first.to_vec()).send().await.ok()?;
    }
    let done = client.put(format!("{place}?digest={digest}")).body(rest.to_vec()).send().await.ok()?;
    (done.status() == 201).then_some(())
}

async fn get(client: &Client, url: String) -> Option<Vec<u8>> {
    let answer = client.get(url).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Some(answer.bytes().await.unwrap().to_vec()),
        404 => None,
        other => panic!("{other}"),
    }
}

/// Everything that was acknowledged is there and whole; of the rest, each thing is whole or not there.
async fn check(client: &Client, root: &str, book: &Book) {
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
        let pushed = book.manifests.get(tag).unwrap_or_else(|| panic!("{tag} was never pushed"));
        let found = get(client, format!("{root}/manifests/{tag}")).await;
        assert_eq!(found.as_ref(), Some(pushed), "{tag}");
        let by_digest = get(client, format!("{root}/manifests/{}", Digest::sha256(pushed))).await;
        assert_eq!(by_digest.as_ref(), Some(pushed), "{tag} by digest");
        let manifest: Value = serde_json::from_slice(pushed).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert!(get(client, format!("{root}/blobs/{layer}")).await.is_some(), "{tag} has lost its layer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_kill_9_whole_and_nothing_else_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let book = Arc::new(Mutex::new(Book::default()));
    for round in 0..ROUNDS {
        let (server, root) = start(folder.path());
        let before = book.lock().unwrap().acknowledged_tags.len();
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| tokio::spawn(push(client(), root.clone(), Arc::clone(&book), 1 + round * PUSHERS + pusher)))
            .collect();
        // Another number each round, so that the kill does not always meet the same sizes.
        acknowledged(&book, before + 10 + 7 * usize::try_from(round).unwrap()).await;
        drop(server);
        for pusher in pushers {
            tokio::time::timeout(PATIENCE, pusher).await.expect("a pusher notices that its server is gone").unwrap();
        }

        let (server, root) = start(folder.path());
        let tried = std::mem::take(&mut *book.lock().unwrap());
        check(&client(), &root, &tried).await;
        *book.lock().unwrap() = tried;
        drop(server);
    }
    // By the files themselves: every one is what its name says.
    let blobs = folder.path().join("repositories/site/app/_layout/blobs/sha256");
    for entry in std::fs::read_dir(blobs).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let is_whole = Digest::sha256(&std::fs::read(entry.path()).unwrap()).hex() == name;
        assert!(is_whole || name.starts_with(".tmp-"), "{name}");
    }
}
