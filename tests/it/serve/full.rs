//! A full disk: pushes are refused so that clients stop and report the reason, nothing is harmed, and pushes work again
//! with room.

use std::path::Path;
use std::process::Command;

use autonomy_registry::oci::{Digest, MediaType};
use reqwest::Response;
use serde_json::{Value, json};
use testkit::images::shape::noise;

use crate::kit::asking::client;
use crate::kit::serve_bed::Program;

const MIB: u64 = 1 << 20;

/// A server on a disk of this size, in a mount of its own that ends with it. None where this user may not mount.
fn on_a_small_disk(folder: &Path, bytes: u64) -> Option<Program> {
    let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$1\"");
    let run = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {then}")]);
        command.arg(env!("CARGO_BIN_EXE_autonomy")).arg(folder);
        command
    };
    let may_mount = run("exit 0").output().is_ok_and(|done| done.status.success());
    may_mount.then(|| Program::run(run("exec \"$0\" registry serve --listen 127.0.0.1:0 --data-dir \"$1\" --quiet")))
}

/// A server with a file size limit: used where mounting is not possible.
fn with_short_files(folder: &Path, bytes: u64) -> Program {
    let serve = "exec \"$0\" registry serve --listen 127.0.0.1:0 --data-dir \"$1\" --quiet";
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; {serve}", bytes / 512)]);
    Program::run({
        command.arg(env!("CARGO_BIN_EXE_autonomy")).arg(folder);
        command
    })
}

async fn push(root: &str, bytes: Vec<u8>, in_chunks: bool) -> Response {
    let digest = Digest::sha256(&bytes);
    if !in_chunks {
        return client().post(format!("{root}/blobs/uploads/?digest={digest}")).body(bytes).send().await.unwrap();
    }
    let begun = client().post(format!("{root}/blobs/uploads/")).send().await.unwrap();
    if begun.status() != 202 {
        return begun;
    }
    let place = begun.headers()["location"].to_str().unwrap();
    let place = format!("{}{place}", root.split("/v2/").next().unwrap());
    let taken = client().patch(&place).body(bytes).send().await.unwrap();
    if taken.status() != 202 {
        return taken;
    }
    client().put(format!("{place}?digest={digest}")).send().await.unwrap()
}

async fn put(root: &str, tag: &str, layer: Option<&[u8]>) -> Response {
    let layers: Vec<_> = layer
        .iter()
        .map(|bytes| json!({"mediaType": MediaType::OCI_LAYER, "digest": Digest::sha256(bytes), "size": bytes.len()}))
        .collect();
    let text = json!({"schemaVersion": 2, "layers": layers, "annotations": {"tag": tag}}).to_string();
    let put = client().put(format!("{root}/manifests/{tag}"));
    put.header("content-type", MediaType::OCI_MANIFEST.as_str()).body(text).send().await.unwrap()
}

async fn assert_no_room(answer: Response) {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 507, "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let message = told["errors"][0]["message"].as_str().unwrap();
    assert!(told["errors"][0]["code"] == "UNKNOWN" && message.contains("no room left"), "{text}");
}

/// Pushes blobs until one is refused; returns the accepted ones.
async fn fill(root: &str, seed: u64, size: u64) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    for n in 0..200 {
        let bytes = noise(seed + n, size);
        let answer = push(root, bytes.clone(), n % 2 == 1).await;
        if answer.status() != 201 {
            assert_no_room(answer).await;
            return taken;
        }
        taken.push(bytes);
    }
    panic!("200 blobs of {size} bytes fit on this disk");
}

async fn delete(root: &str, bytes: &[u8]) {
    let path = format!("{root}/blobs/{}", Digest::sha256(bytes));
    assert_eq!(client().delete(path).send().await.unwrap().status(), 202);
}

async fn assert_whole(root: &str, blobs: &[Vec<u8>]) {
    for bytes in blobs {
        let got = client().get(format!("{root}/blobs/{}", Digest::sha256(bytes))).send().await.unwrap();
        assert!(got.status() == 200 && got.bytes().await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_pushes_harms_nothing_and_takes_them_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = on_a_small_disk(folder.path(), 8 * MIB) else {
        return files_that_may_not_grow(folder.path()).await;
    };
    let root = format!("{}/v2/site/app", server.url);
    let mut blobs = fill(&root, 1, MIB).await;
    assert!((5..=8).contains(&blobs.len()), "{} of 8 MiB", blobs.len());
    // A refused push leaves nothing behind: the room of one blob fits one blob, repeatedly.
    for round in 0..3 {
        delete(&root, &blobs.pop().unwrap()).await;
        let again = fill(&root, 1_000 * (round + 1), MIB).await;
        assert_eq!(again.len(), 1, "round {round}");
        blobs.extend(again);
    }
    // Far larger than the room left: the answer comes while the client still sends.
    assert_no_room(push(&root, noise(7, 40 * MIB), false).await).await;
    assert_eq!(put(&root, "v1", Some(&blobs[0])).await.status(), 201, "there is room for something small");
    // To the last page.
    for size in [64 << 10, 4 << 10] {
        blobs.extend(fill(&root, 10_000 + size, size).await);
    }
    assert_no_room(put(&root, "v2", Some(&blobs[1])).await).await;
    assert_no_room(put(&root, "v1", Some(&blobs[1])).await).await;
    let tags: Value =
        client().get(format!("{root}/tags/list")).send().await.unwrap().text().await.unwrap().parse().unwrap();
    assert_eq!(tags["tags"], json!(["v1"]));
    let image: Value =
        client().get(format!("{root}/manifests/v1")).send().await.unwrap().text().await.unwrap().parse().unwrap();
    assert_eq!(image["layers"][0]["digest"], Digest::sha256(&blobs[0]).to_string(), "the tag is where it was");
    assert_whole(&root, &blobs).await;
    delete(&root, &blobs.remove(2)).await;
    assert_eq!(put(&root, "v2", Some(&blobs[1])).await.status(), 201);
    let last = noise(77_777, MIB / 2);
    assert_eq!(push(&root, last.clone(), true).await.status(), 201);
    blobs.push(last);
    assert_whole(&root, &blobs).await;
}

/// The same as far as possible without a disk of its own.
async fn files_that_may_not_grow(folder: &Path) {
    let server = with_short_files(folder, MIB);
    let root = format!("{}/v2/site/app", server.url);
    let small = noise(1, MIB / 2);
    for in_chunks in [false, true] {
        assert_no_room(push(&root, noise(2, 3 * MIB), in_chunks).await).await;
        assert_eq!(push(&root, small.clone(), in_chunks).await.status(), 201);
    }
    assert_eq!(put(&root, "v1", Some(&small)).await.status(), 201);
    assert_whole(&root, &[small]).await;
    assert_eq!(std::fs::read_dir(folder.join("uploads")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_allowed_is_told_like_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    files_that_may_not_grow(folder.path()).await;
}
