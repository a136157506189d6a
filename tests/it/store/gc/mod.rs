//! Garbage collection: removes exactly the model's garbage, loses nothing to concurrent pushes, leaves damage alone.

mod command;
mod damage;
mod listed;
mod model;
mod pushes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::store::{Body, Layout, Store as _};
use serde_json::json;

use crate::kit::command::{autonomy, text};
use crate::kit::files::{age, files_below};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn folder_of(data: &Path, repository: &str) -> PathBuf {
    data.join("repositories").join(repository).join("_layout")
}

fn blob_path(data: &Path, repository: &str, digest: &Digest) -> PathBuf {
    folder_of(data, repository).join("blobs/sha256").join(digest.hex())
}

/// Every file under `folder` but index.json, by its path.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    files_below(folder, "").into_iter().filter(|path| !path.ends_with("index.json")).collect()
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
    let fixed = ["registry", "gc", "--data-dir", data.to_str().unwrap()];
    let done = autonomy(&[&fixed, more].concat()).await;
    (done.status.code().unwrap(), text(&done))
}
