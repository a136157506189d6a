//! `--deep` and `--deep=bytes`: damage at rest is found and repaired, and the output names what was not checked.

use std::path::PathBuf;
use std::process::Output;

use autonomy_registry::oci::{Descriptor, Digest, Manifest, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Store as _, read_manifest};
use reqwest::Method;
use testkit::images;

use crate::kit::asking::Asking;
use crate::kit::command::{assert_code, publisher, seed, text};
use crate::kit::site_bed::behaviours;

/// An image of two platforms at a source, and at a destination too.
struct Scene {
    source: Testbed,
    sink: Testbed,
    out: tempfile::TempDir,
    image: Descriptor,
    child: Descriptor,
    layer: Descriptor,
}

impl Scene {
    async fn new() -> Self {
        Self::at(Testbed::start().await).await
    }

    async fn at(sink: Testbed) -> Self {
        let source = Testbed::start().await;
        let store = publisher(&source, "app");
        let image = images::two_platforms(&store, 1, &[100_000, 2000]).await;
        images::tag(&store, &image, "v1").await;
        let children = |bytes: bytes::Bytes, node: &Descriptor| {
            Manifest::parse(&bytes, &node.media_type).unwrap().children().cloned().collect::<Vec<_>>()
        };
        let child = children(read_manifest(&store, &image).await.unwrap(), &image)[0].clone();
        let layer = children(read_manifest(&store, &child).await.unwrap(), &child);
        let layer = layer.into_iter().find(|node| node.size >= 100_000).unwrap();
        let scene = Self { source, sink, out: tempfile::tempdir().unwrap(), image, child, layer };
        assert_code(&scene.seed(&[]).await, 0);
        scene.sink.clear_log();
        scene
    }

    async fn seed(&self, more: &[&str]) -> Output {
        let (from, to) = (format!("{}/app:v1", self.source.host()), format!("{}/app:v1", self.sink.host()));
        let fixed = ["--skip-verify", "--accessories", "none"];
        seed(&from, &to, self.out.path(), &[&fixed, more].concat()).await
    }

    /// The file of `digest` at the destination.
    fn file(&self, digest: &Digest) -> PathBuf {
        self.sink.layout("app").folder().join("blobs").join("sha256").join(digest.hex())
    }

    fn cut(&self, node: &Descriptor, length: u64) {
        std::fs::OpenOptions::new().write(true).open(self.file(&node.digest)).unwrap().set_len(length).unwrap();
    }

    fn flip(&self, node: &Descriptor) {
        let mut bytes = std::fs::read(self.file(&node.digest)).unwrap();
        bytes[17] ^= 4;
        std::fs::write(self.file(&node.digest), bytes).unwrap();
    }

    fn is_right(&self, node: &Descriptor) -> bool {
        std::fs::read(self.file(&node.digest)).is_ok_and(|bytes| node.digest.matches(&bytes))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_repairs_what_is_missing_or_cut_at_the_destination() {
    for deep in ["--deep", "--deep=true", "--deep=bytes"] {
        let scene = Scene::new().await;
        for (node, length) in [(&scene.layer, 99), (&scene.layer, 0), (&scene.child, 20), (&scene.image, 20)] {
            scene.cut(node, length);
            let done = scene.seed(&[deep]).await;
            assert_code(&done, 0);
            assert!(scene.is_right(node), "{deep}: {} cut to {length}", node.media_type);
        }
        std::fs::remove_file(scene.file(&scene.layer.digest)).unwrap();
        assert_code(&scene.seed(&[deep]).await, 0);
        assert!(scene.is_right(&scene.layer), "{deep}: removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_is_named() {
    let scene = Scene::new().await;
    scene.flip(&scene.layer);
    let done = scene.seed(&["--deep=bytes"]).await;
    assert!(text(&done).contains(&format!("{} was damaged and is repaired", scene.layer.digest)), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_that_turned_over_are_found_by_reading_back_alone_and_the_other_way_says_that_it_reads_nothing() {
    let scene = Scene::new().await;
    for node in [&scene.layer, &scene.child] {
        scene.flip(node);
        let done = scene.seed(&["--deep"]).await;
        assert_code(&done, 0);
        assert!(text(&done).contains("not read back"), "{}", text(&done));
        scene.sink.clear_log();
        let done = scene.seed(&["--deep=bytes"]).await;
        assert_code(&done, 0);
        assert!(!text(&done).contains("not read back"), "{}", text(&done));
        assert!(scene.is_right(node), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_an_image_that_is_sound_costs_one_question_a_node_and_moves_nothing() {
    let scene = Scene::new().await;
    assert_code(&scene.seed(&["--deep"]).await, 0);
    let asked = [Kind::ManifestHead, Kind::BlobHead].map(|kind| scene.sink.count(kind));
    assert_eq!((asked, scene.sink.requests()), ([1 + 3, 6], 10), "the tag, then each node");
    scene.sink.clear_log();
    assert_code(&scene.seed(&["--deep=bytes"]).await, 0);
    let read = [Kind::ManifestGet, Kind::BlobGet].map(|kind| scene.sink.count(kind));
    assert_eq!((read, scene.sink.requests()), ([3, 6], 10));
    scene.sink.clear_log();
    assert_code(&scene.seed(&["--deep=false"]).await, 0);
    assert_eq!(scene.sink.requests(), 1);
    assert_code(&scene.seed(&["--deep=half"]).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_keeps_its_damage_ends_in_exit_4_with_the_digest() {
    let scene = Scene::new().await;
    let hex = scene.layer.digest.hex().to_owned();
    scene.sink.fault(Fault::always(Kind::BlobGet, What::FlipBit { at: 5 }).at(hex.clone()));
    let done = scene.seed(&["--deep=bytes"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains(&hex) && text(&done).contains("some registries keep a blob"), "{}", text(&done));
    scene.sink.heal();
    scene.sink.fault(Fault::always(Kind::BlobHead, What::Truncate { to: 5 }).at(hex.clone()));
    let done = scene.seed(&["--deep"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains(&hex), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_shares_a_cut_layer_with_the_former_one_repairs_it_by_itself() {
    for behaviour in behaviours() {
        let scene = Scene::at(Testbed::with(behaviour.clone()).await).await;
        let store = publisher(&scene.source, "app");
        let next = images::with_one_layer_changed(&store, 1, &[100_000, 2000]).await;
        images::tag(&store, &next, "v1").await;
        let shared = layer_shared(&scene, &next).await;
        scene.cut(&shared, 1000);
        assert_code(&scene.seed(&[]).await, 0);
        assert!(scene.is_right(&shared), "{behaviour:?}");
    }
}

/// A layer of the second image of `next` that the previous release has too.
async fn layer_shared(scene: &Scene, next: &Descriptor) -> Descriptor {
    let store = publisher(&scene.source, "app");
    let children = async |node: &Descriptor| {
        let bytes = read_manifest(&store, node).await.unwrap();
        Manifest::parse(&bytes, &node.media_type).unwrap().children().cloned().collect::<Vec<_>>()
    };
    let changed = children(next).await[1].clone();
    let layers = children(&changed).await;
    layers.into_iter().find(|layer| layer.size > 1000 && scene.file(&layer.digest).exists()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_vouches_neither_for_an_empty_file_nor_for_a_manifest_that_was_cut() {
    let scene = Scene::new().await;
    let asking = Asking::of(&scene.sink, "app");
    scene.cut(&scene.layer, 0);
    scene.cut(&scene.child, 20);
    for (method, path, status) in [
        (Method::HEAD, format!("blobs/{}", scene.layer.digest), 404),
        (Method::GET, format!("blobs/{}", scene.layer.digest), 404),
        (Method::HEAD, format!("manifests/{}", scene.child.digest), 404),
        // Damage is not absence: a reader of a sidecar or a signature must not continue without it.
        (Method::GET, format!("manifests/{}", scene.child.digest), 500),
    ] {
        assert_eq!(asking.send(method.clone(), &path, &[], b"").await.status(), status, "{method} {path}");
    }
    let mount = format!("blobs/uploads/?mount={}&from=app", scene.layer.digest);
    assert_eq!(asking.send(Method::POST, &mount, &[], b"").await.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_refused_while_a_file_that_it_lists_has_another_length() {
    let scene = Scene::new().await;
    let root = scene.sink.layout("app").fetch(&Name::Digest(scene.child.digest)).await.unwrap();
    scene.cut(&scene.layer, 99);
    let asking = Asking::of(&scene.sink, "app");
    let headers = [("content-type", scene.child.media_type.as_str())];
    let put = asking.send(Method::PUT, "manifests/v2", &headers, &root.bytes).await;
    assert_eq!(put.status(), 400);
    assert!(put.text().await.unwrap().contains(&scene.layer.digest.to_string()));
}
