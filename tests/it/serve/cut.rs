//! Blobs whose files have another length than manifests say.

use std::path::PathBuf;
use std::process::Command;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use reqwest::Method;

use crate::kit::asking::{Asking, client, code, image};
use crate::kit::serve_bed::Program;

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"the bytes of a layer, which a cut makes shorter";

fn file(server: &Testbed, digest: &Digest) -> PathBuf {
    server.layout("app").folder().join("blobs/sha256").join(digest.hex())
}

/// Pushes an image with a layer; returns the digest of the layer.
async fn push(server: &Testbed) -> Digest {
    let asking = Asking::of(server, "app");
    asking.push_blob(CONFIG).await;
    let layer = asking.push_blob(LAYER).await;
    let text = image(&[("config", CONFIG), ("layer", LAYER)], "whole", None);
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await.status(), 201);
    layer
}

async fn statuses(asking: &Asking, layer: &Digest) -> [u16; 3] {
    let path = format!("blobs/{layer}");
    let head = asking.send(Method::HEAD, &path, &[], b"").await;
    let part = asking.send(Method::GET, &path, &[("range", "bytes=1-2")], b"").await;
    [head.status().as_u16(), asking.get(&path).await.status().as_u16(), part.status().as_u16()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_cut_is_not_served_and_a_push_puts_it_right() {
    let server = Testbed::start().await;
    let layer = push(&server).await;
    let asking = Asking::of(&server, "app");
    assert_eq!(statuses(&asking, &layer).await, [200, 200, 206]);
    for length in [LAYER.len() as u64 - 1, 3, LAYER.len() as u64 + 1] {
        let cut = std::fs::OpenOptions::new().write(true).open(file(&server, &layer)).unwrap();
        cut.set_len(length).unwrap();
        drop(cut);
        // A server that has just started knows no list yet.
        let new = Testbed::over(server.data_dir(), Profile::default()).await;
        for asking in [&asking, &Asking::of(&new, "app")] {
            assert_eq!(statuses(asking, &layer).await, [404; 3], "{length} bytes");
            let got = asking.get(&format!("blobs/{layer}")).await;
            assert_eq!(code(got).await, (404, "BLOB_UNKNOWN".into()));
        }
        for (repository, from) in [("app", "app"), ("other", "app")] {
            let mount = format!("blobs/uploads/?mount={layer}&from={from}");
            let answer = Asking::of(&server, repository).send(Method::POST, &mount, &[], b"").await;
            assert_eq!(answer.status(), 202, "{repository}: the client sends the bytes");
        }
        asking.push_blob(LAYER).await;
        assert_eq!(statuses(&asking, &layer).await, [200, 200, 206]);
        assert_eq!(std::fs::read(file(&server, &layer)).unwrap(), LAYER);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_a_wrong_size_takes_no_blob_away() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let layer = asking.push_blob(LAYER).await;
    asking.push_blob(CONFIG).await;
    let nodes = [Descriptor::of(MediaType::OCI_CONFIG, CONFIG), Descriptor::new(MediaType::OCI_LAYER, layer, 7)];
    let lie = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": nodes[0], "layers": nodes[1..],
    })
    .to_string();
    let refused = asking.put_manifest("lie", &MediaType::OCI_MANIFEST, &lie).await;
    assert_eq!(code(refused).await, (400, "SIZE_INVALID".into()));
    // An index may list what is not there yet. Sent as a blob, it is not checked as a manifest would be.
    let child = Descriptor::of(MediaType::OCI_MANIFEST, lie.as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [child]});
    assert_eq!(asking.put_manifest("index", &MediaType::OCI_INDEX, &index.to_string()).await.status(), 201);
    asking.push_blob(lie.as_bytes()).await;
    let new = Testbed::over(server.data_dir(), Profile::default()).await;
    let asking = Asking::of(&new, "app");
    assert_eq!(asking.get(&format!("manifests/{}", child.digest)).await.status(), 200, "the lie is a manifest now");
    assert_eq!(statuses(&asking, &layer).await, [200, 200, 206]);
    let mount = format!("blobs/uploads/?mount={layer}&from=app");
    assert_eq!(Asking::of(&new, "other").send(Method::POST, &mount, &[], b"").await.status(), 201);
    // Two manifests that differ hide no damage either.
    let text = image(&[("config", CONFIG), ("layer", LAYER)], "whole", None);
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await.status(), 201);
    assert_eq!(statuses(&asking, &layer).await, [200, 200, 206]);
    std::fs::OpenOptions::new().write(true).open(file(&server, &layer)).unwrap().set_len(7).unwrap();
    assert_eq!(statuses(&asking, &layer).await, [404; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_warns_once_of_a_blob_that_was_cut() {
    let server = Testbed::start().await;
    let layer = push(&server).await;
    let cut = file(&server, &layer);
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(3).unwrap();
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomy"));
    command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(server.data_dir());
    command.stderr(told.reopen().unwrap());
    let program = Program::run(command);
    for _ in 0..3 {
        let url = format!("{}/v2/app/blobs/{layer}", program.url);
        assert_eq!(client().get(url).send().await.unwrap().status(), 404);
    }
    let told = std::fs::read_to_string(told.path()).unwrap();
    for text in [&cut.display().to_string(), &format!("Bytes({})", LAYER.len()), "length=3", "registry check"] {
        assert_eq!(told.matches(text).count(), 1, "{text} in {told}");
    }
}
