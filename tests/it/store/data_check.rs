//! `registry check`: names damage in a data folder, and fetches damaged content again.

use std::path::{Path, PathBuf};

use autonomy_registry::oci::{Descriptor, Digest, Manifest};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Store as _, read_manifest};
use serde_json::Value;
use testkit::images;

use crate::kit::command::{assert_code, autonomy, publisher, text};

/// A server's folder with an image in two repositories, which share its layers, and a registry that has the image too.
pub(crate) struct Scene {
    pub(crate) site: Testbed,
    pub(crate) origin: Testbed,
    pub(crate) image: Descriptor,
    pub(crate) child: Descriptor,
    pub(crate) layer: Descriptor,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let (site, origin) = (Testbed::start().await, Testbed::start().await);
        let store = publisher(&origin, "app");
        let image = images::two_platforms(&store, 1, &[100_000, 2000]).await;
        for (repository, tag) in [("app", "v1"), ("team/copy", "stable")] {
            images::two_platforms(&publisher(&site, repository), 1, &[100_000, 2000]).await;
            images::tag(&publisher(&site, repository), &image, tag).await;
        }
        let children = async |node: &Descriptor| {
            let bytes = read_manifest(&store, node).await.unwrap();
            Manifest::parse(&bytes, &node.media_type).unwrap().children().cloned().collect::<Vec<_>>()
        };
        let child = children(&image).await[0].clone();
        let layer = children(&child).await.into_iter().find(|node| node.size >= 100_000).unwrap();
        let scene = Self { site, origin, image, child, layer };
        // One file with two names, as a mount makes it.
        let (one, other) = (scene.file("app", &scene.layer.digest), scene.file("team/copy", &scene.layer.digest));
        std::fs::remove_file(&other).unwrap();
        std::fs::hard_link(one, other).unwrap();
        scene
    }

    pub(crate) fn data(&self) -> &Path {
        self.site.data_dir()
    }

    pub(crate) fn file(&self, repository: &str, digest: &Digest) -> PathBuf {
        self.site.layout(repository).folder().join("blobs").join("sha256").join(digest.hex())
    }

    pub(crate) async fn check(&self, more: &[&str]) -> (i32, Value) {
        let data = self.data().to_str().unwrap();
        let done = autonomy(&[&["registry", "check", "--data-dir", data, "--output", "json"], more].concat()).await;
        let told = serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{why}: {}", text(&done)));
        (done.status.code().unwrap(), told)
    }

    pub(crate) async fn repair(&self) -> (i32, Value) {
        let from = format!("{}/app", self.origin.host());
        self.check(&["--repair-from", &from, "--allow-insecure-registry"]).await
    }

    pub(crate) fn is_right(&self, node: &Descriptor) -> bool {
        let right = |repository| {
            std::fs::read(self.file(repository, &node.digest)).is_ok_and(|bytes| node.digest.matches(&bytes))
        };
        right("app") && right("team/copy")
    }
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[17] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_folder_is_read_whole_and_found_so() {
    let scene = Scene::new().await;
    let (code, told) = scene.check(&[]).await;
    assert_eq!((code, &told["faults"]), (0, &serde_json::json!([])), "{told:#}");
    assert_eq!((&told["repositories"], &told["manifests"]), (&2.into(), &6.into()));
    assert_eq!(told["files"], 2 * 9 - 1, "one that two repositories share is read once");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_and_missing_content_are_named_with_the_file_and_its_tags() {
    type Damage = fn(&Path);
    let damages: [(Damage, &str); 4] = [
        (flip, "damaged"),
        (|path| cut(path, 99), "damaged"),
        (|path| cut(path, 0), "damaged"),
        (|path| std::fs::remove_file(path).unwrap(), "missing"),
    ];
    for (damage, fault) in damages {
        for which in ["image", "child", "layer"] {
            let scene = Scene::new().await;
            let node = match which {
                "image" => &scene.image,
                "child" => &scene.child,
                _ => &scene.layer,
            };
            // An index may lack an entry's content; a child that was put is listed in index.json too.
            damage(&scene.file("team/copy", &node.digest));
            let (code, told) = scene.check(&[]).await;
            assert_eq!(code, 3, "{which} {fault}: {told:#}");
            let faults: Vec<_> = told["faults"].as_array().unwrap().iter().collect();
            let found = faults.iter().find(|found| found["digest"] == node.digest.to_string()).unwrap();
            assert_eq!(found["fault"], fault, "{told:#}");
            let below = format!("repositories/team/copy/_layout/blobs/sha256/{}", node.digest.hex());
            assert!(found["paths"].as_array().unwrap().contains(&below.into()), "{told:#}");
            let user = serde_json::json!({"repository": "team/copy", "tags": ["stable"]});
            assert!(found["used_by"].as_array().unwrap().contains(&user), "{told:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_fetched_again_by_its_digest_and_put_in_place_everywhere() {
    type Damage = fn(&Path);
    let damages: [Damage; 3] = [flip, |path| cut(path, 99), |path| std::fs::remove_file(path).unwrap()];
    for damage in damages {
        let scene = Scene::new().await;
        for node in [&scene.image, &scene.child, &scene.layer] {
            damage(&scene.file("app", &node.digest));
            // A file with two names is damaged already.
            let other = scene.file("team/copy", &node.digest);
            if std::fs::read(&other).is_ok_and(|bytes| node.digest.matches(&bytes)) {
                damage(&other);
            }
        }
        let (code, told) = scene.repair().await;
        assert_eq!(code, 0, "{told:#}");
        assert_eq!(told["repaired"].as_array().unwrap().len(), 3, "{told:#}");
        for node in [&scene.image, &scene.child, &scene.layer] {
            assert!(scene.is_right(node), "{}", node.media_type);
        }
        assert_eq!(scene.check(&[]).await.0, 0);
        assert_eq!(scene.origin.count(Kind::BlobGet), 1, "fetched once for both");
        let pulled = read_manifest(&publisher(&scene.site, "app"), &scene.child).await;
        assert!(pulled.is_ok(), "the server that runs serves it");
        let held = publisher(&scene.site, "team/copy").contains(&scene.layer).await;
        assert!(held.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_nobody_has_or_that_comes_damaged_stays_and_is_named() {
    let scene = Scene::new().await;
    flip(&scene.file("app", &scene.layer.digest));
    for what in [What::FlipBit { at: 5 }, What::Status(404)] {
        scene.origin.fault(Fault::always(Kind::BlobGet, what));
        let (code, told) = scene.repair().await;
        assert_eq!(code, 3, "{told:#}");
        assert!(told["faults"][0]["not_repaired"].is_string(), "{told:#}");
        assert!(!scene.is_right(&scene.layer));
        scene.origin.heal();
    }
    assert_eq!(scene.repair().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_read_and_a_folder_that_is_none_are_told() {
    let scene = Scene::new().await;
    let list = scene.site.layout("app").folder().join("index.json");
    std::fs::write(&list, "{").unwrap();
    let (code, told) = scene.check(&[]).await;
    assert_eq!(code, 3, "{told:#}");
    assert_eq!(told["faults"][0]["paths"][0], "repositories/app/_layout/index.json");
    let nowhere = scene.data().join("nowhere");
    assert_code(&autonomy(&["registry", "check", "--data-dir", nowhere.to_str().unwrap()]).await, 4);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_link_or_a_pipe_in_the_place_of_a_file_is_damage_and_is_never_followed() {
    let scene = Scene::new().await;
    let path = scene.file("app", &scene.layer.digest);
    let elsewhere = scene.data().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert_eq!(scene.check(&[]).await.0, 3);
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(scene.check(&[]).await.0, 3);
    assert_eq!(scene.repair().await.0, 0);
    assert!(scene.is_right(&scene.layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_the_same() {
    let scene = Scene::new().await;
    flip(&scene.file("app", &scene.layer.digest));
    let done = autonomy(&["registry", "check", "--data-dir", scene.data().to_str().unwrap()]).await;
    assert_code(&done, 3);
    let said = text(&done);
    for words in [format!("damaged   {}", scene.layer.digest), "used by  team/copy: stable".into(), "1 damaged".into()]
    {
        assert!(said.contains(&words), "{words}: {said}");
    }
}
