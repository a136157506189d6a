//! Garbage collection: removes exactly the model's garbage, loses nothing to concurrent pushes, leaves damage alone.

mod command;
mod damage;
mod listed;
mod model;
mod pushes;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::store::{Body, Layout, Store as _};
use serde_json::json;

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

async fn put(layout: &Layout, media_type: MediaType, bytes: &[u8], tags: &[&str]) -> Descriptor {
    let node = Descriptor::of(media_type, bytes);
    let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    layout.put(&node, &Body::bytes(node.clone(), bytes.to_vec()), &tags).await.unwrap();
    node
}

/// A repository with a tagged image and an old unreferenced blob.
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

async fn gc(data: &Path, more: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
    let done = command.args(["registry", "gc", "--data-dir"]).arg(data).args(more).output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), text)
}
