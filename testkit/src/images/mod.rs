//! Test images, put into any store. `shape` makes their content.

pub mod shape;

use autonomy_registry::oci::{Descriptor, MediaType, Tag, empty_json};
use autonomy_registry::store::{Body, Store, read_manifest};
use serde_json::json;

/// Puts `bytes` and describes them.
pub async fn put(store: &dyn Store, media_type: MediaType, bytes: impl Into<bytes::Bytes>) -> Descriptor {
    let bytes = bytes.into();
    let node = Descriptor::of(media_type, &bytes);
    store.put(&node, &Body::bytes(node.clone(), bytes), &[]).await.unwrap();
    node
}

/// Tags `node` as `name`; the store must hold its bytes.
pub async fn tag(store: &dyn Store, node: &Descriptor, name: &str) {
    let bytes = read_manifest(store, node).await.unwrap();
    let name: Tag = name.parse().unwrap();
    store.put(node, &Body::bytes(node.clone(), bytes), &[name]).await.unwrap();
}

/// Puts an index of two images that share no layer.
pub async fn two_platforms(store: &dyn Store, seed: u64, sizes: &[u64]) -> Descriptor {
    shape::two_platforms(seed, sizes).put(store, &[]).await
}

/// Puts the image of [`two_platforms`] with another last layer in its second image.
pub async fn with_one_layer_changed(store: &dyn Store, seed: u64, sizes: &[u64]) -> Descriptor {
    shape::with_one_layer_changed(seed, sizes).put(store, &[]).await
}

/// Puts a manifest beside `subject`, like a lock or a policy.
pub async fn sidecar(store: &dyn Store, subject: &Descriptor, media_type: &str, content: &[u8]) -> Descriptor {
    let (node, bytes) = empty_json();
    let config = put(store, node.media_type, bytes).await;
    let layer = put(store, MediaType::new(media_type), content.to_vec()).await;
    let subject = Descriptor::new(subject.media_type.clone(), subject.digest, subject.size);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": media_type,
        "config": config, "layers": [layer], "subject": subject,
    });
    put(store, MediaType::OCI_MANIFEST, manifest.to_string()).await
}
