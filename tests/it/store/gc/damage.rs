//! Damage: a repository that cannot be parsed loses nothing.

use std::fs;
use std::path::Path;

use autonomy_registry::serve::{Collection, KeptManifests, collect};

use super::{blob_path, files, folder_of, gc, site};

#[tokio::test]
async fn a_damaged_repository_is_named_and_loses_nothing_and_the_others_are_collected() {
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 6] = [
        ("manifest-lost", |_, image| fs::remove_file(image).unwrap()),
        ("manifest-rotten", |_, image| fs::write(image, "{}").unwrap()),
        ("manifest-huge", |_, image| fs::write(image, vec![b' '; 5 << 20]).unwrap()),
        ("index-lost", |folder, _| fs::remove_file(folder.join("index.json")).unwrap()),
        ("index-broken", |folder, _| fs::write(folder.join("index.json"), "{\"manifests\": 7}").unwrap()),
        ("layout-file-lost", |folder, _| fs::remove_file(folder.join("oci-layout")).unwrap()),
    ];
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "whole").await;
    for (name, damage) in damages {
        let (image, _) = site(data.path(), name).await;
        damage(&folder_of(data.path(), name), &blob_path(data.path(), name, &image.digest));
    }
    for kept in [KeptManifests::All, KeptManifests::Named] {
        let before: Vec<_> = damages.iter().map(|(name, _)| files(&folder_of(data.path(), name))).collect();
        let collected = collect(Collection { kept, ..Collection::new(data.path()) }).await.unwrap();
        assert_eq!(collected.left_alone(), damages.len());
        for (n, (name, _)) in damages.iter().enumerate() {
            assert_eq!(files(&folder_of(data.path(), name)), before[n], "{name}");
            let told = collected.repositories.iter().find(|repository| repository.repository == *name).unwrap();
            assert!(told.left_alone.as_ref().unwrap().contains(name), "the file is named: {told:?}");
        }
    }
    assert!(!blob_path(data.path(), "whole", &garbage.digest).exists());
    let done = gc(data.path(), &[]).await;
    assert_eq!(done.0, 5, "{}", done.1);
    assert!(done.1.contains("manifest-rotten") && done.1.contains("left alone"), "{}", done.1);
}
