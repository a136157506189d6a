//! An index may list anything as a manifest: it is not damage if the server holds no manifest of that digest.

use autonomy_registry::oci::MediaType;
use autonomy_registry::serve::{Collection, KeptManifests, collect};
use autonomy_registry::store::Layout;
use serde_json::json;

use super::{DAY, age, blob_path, folder_of, put, site};

#[tokio::test]
async fn a_blob_that_an_index_lists_as_a_manifest_stays_and_does_not_end_the_collection() {
    for (name, blob) in [("empty", Vec::new()), ("text", b"no manifest".to_vec()), ("large", vec![b' '; 5 << 20])] {
        let data = tempfile::tempdir().unwrap();
        let (_, garbage) = site(data.path(), name).await;
        let layout = Layout::at(folder_of(data.path(), name));
        let blob = put(&layout, MediaType::OCI_LAYER, &blob, &[]).await;
        let child = json!({"mediaType": MediaType::OCI_MANIFEST, "digest": blob.digest, "size": blob.size});
        let index = json!({"schemaVersion": 2, "manifests": [child, child]}).to_string();
        let index = put(&layout, MediaType::OCI_INDEX, index.as_bytes(), &["odd"]).await;
        for node in [&blob, &index] {
            age(&blob_path(data.path(), name, &node.digest), DAY * 2);
        }
        for kept in [KeptManifests::All, KeptManifests::Named] {
            let collected = collect(Collection { kept, ..Collection::new(data.path()) }).await.unwrap();
            assert_eq!(collected.left_alone(), 0, "{collected:?}");
        }
        assert!(blob_path(data.path(), name, &blob.digest).exists(), "{name}");
        assert!(!blob_path(data.path(), name, &garbage.digest).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_child_that_has_rotted_is_damage_whatever_it_was() {
    for rotten in [&b"{}"[..], &[b' '; 5 << 20]] {
        let data = tempfile::tempdir().unwrap();
        let (image, garbage) = site(data.path(), "app").await;
        let layout = Layout::at(folder_of(data.path(), "app"));
        let index = json!({"schemaVersion": 2, "manifests": [image]}).to_string();
        put(&layout, MediaType::OCI_INDEX, index.as_bytes(), &["all"]).await;
        // Without an entry of its own, as in layouts by other programs.
        layout_forgets(data.path(), &image.digest.to_string());
        std::fs::write(blob_path(data.path(), "app", &image.digest), rotten).unwrap();
        let collected = collect(Collection::new(data.path())).await.unwrap();
        assert_eq!(collected.left_alone(), 1, "{collected:?}");
        assert!(blob_path(data.path(), "app", &garbage.digest).exists());
    }
}

/// Removes a manifest from `index.json`.
fn layout_forgets(data: &std::path::Path, digest: &str) {
    let path = folder_of(data, "app").join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().retain(|node| node["digest"] != digest);
    std::fs::write(path, index.to_string()).unwrap();
}
