//! Entries in a data folder that are neither plain file nor folder: the check names them, and a blob can still be put.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Collection, KeptManifests, Profile, collect};
use autonomy_registry::store::read_manifest;
use reqwest::Method;
use serde_json::Value;
use testkit::images;

use super::data_check::{Scene, flip};
use crate::kit::asking::Asking;
use crate::kit::command::{assert_code, autonomy, publisher, text};
use crate::kit::files::pipe;

type Make = fn(&Path);

fn socket(path: &Path) {
    // The path may be longer than a socket's may be.
    let home = tempfile::tempdir().unwrap();
    UnixListener::bind(home.path().join("s")).unwrap();
    fs::rename(home.path().join("s"), path).or_else(|_| UnixListener::bind(path).map(drop)).unwrap();
}

fn empty_folder(path: &Path) {
    fs::create_dir(path).unwrap();
}

fn full_folder(path: &Path) {
    fs::create_dir_all(path.join("deep")).unwrap();
    fs::write(path.join("deep/precious"), "precious").unwrap();
}

fn link(path: &Path) {
    symlink("/nonexistent", path).unwrap();
}

/// Replaces the entry at `path` with another one.
fn instead(path: &Path, make: Make) {
    if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
        fs::rename(path, path.with_extension("away")).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    make(path);
}

const ALL: [(&str, Make); 5] =
    [("symbolic link", link), ("pipe", pipe), ("socket", socket), ("folder", empty_folder), ("folder", full_folder)];

fn paths(told: &Value, list: &str) -> Vec<String> {
    let entries = told[list].as_array().unwrap().iter();
    let paths = |entry: &Value| match &entry["paths"] {
        Value::Array(paths) => paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        _ => vec![entry["path"].as_str().unwrap().to_owned()],
    };
    entries.flat_map(paths).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_keeps_something_from_being_served_or_put() {
    let file: Make = |path| fs::write(path, "x").unwrap();
    let damages: [(&str, Make, &str); 17] = [
        ("repositories/linked", link, "symbolic link"),
        ("repositories/team/pipe", pipe, "pipe"),
        ("repositories/socket", socket, "socket"),
        ("repositories/file", file, "plain file"),
        ("repositories/app/_layout", link, "symbolic link"),
        ("repositories/app/_layout", file, "plain file"),
        ("repositories/app/_layout/oci-layout", pipe, "pipe"),
        ("repositories/app/_layout/oci-layout", empty_folder, "folder"),
        ("repositories/app/_layout/index.json", full_folder, "not a plain file"),
        ("repositories/app/_layout/.lock", link, "symbolic link"),
        ("repositories/app/_layout/blobs", link, "symbolic link"),
        ("repositories/app/_layout/blobs/sha256", link, "symbolic link"),
        ("repositories/app/_layout/blobs/sha512", file, "plain file"),
        ("uploads", link, "symbolic link"),
        ("uploads", file, "plain file"),
        ("serving", pipe, "pipe"),
        ("serving", full_folder, "folder"),
    ];
    let scene = Scene::new().await;
    // The running server continues with its open files.
    let sound = scene.check(&[]).await;
    assert_eq!((sound.0, &sound.1["notes"]), (0, &serde_json::json!([])), "{:#}", sound.1);
    for (name, make, word) in damages {
        let path = scene.data().join(name);
        let aside = scene.data().with_extension("kept");
        let was = path.symlink_metadata().is_ok();
        if was {
            fs::rename(&path, &aside).unwrap();
        }
        make(&path);
        let (code, told) = scene.check(&[]).await;
        assert_eq!(code, 3, "{name}: {told:#}");
        assert!(paths(&told, "faults").contains(&name.to_owned()), "{name}: {told:#}");
        let faults = told["faults"].as_array().unwrap();
        let found = faults.iter().find(|found| found["paths"][0] == name).unwrap();
        assert!(found["digest"].is_null() && found["why"].as_str().unwrap().contains(word), "{name}: {found:#}");
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        if was {
            fs::rename(&aside, &path).unwrap();
        }
    }
    assert_eq!(scene.check(&[]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_notes_what_does_no_harm_and_says_that_the_folder_is_sound() {
    let file: Make = |path| fs::write(path, "x").unwrap();
    let notes: [(&str, Make); 9] = [
        ("repositories/lost+found", full_folder),
        ("repositories/README", file),
        ("repositories/app/UPPER", link),
        ("repositories/app/_layout/ingest", full_folder),
        ("repositories/app/_layout/blobs/md5", full_folder),
        ("repositories/app/_layout/blobs/sha256/0123", pipe),
        ("repositories/app/_layout/blobs/sha256/.aside-0123", full_folder),
        ("uploads/lost+found", full_folder),
        ("uploads/00000000-0000-4000-8000-000000000000", pipe),
    ];
    let scene = Scene::new().await;
    for (name, make) in notes {
        make(&scene.data().join(name));
    }
    // Temporary files are as they should be.
    for name in ["repositories/app/_layout/.tmp-1", "repositories/app/_layout/blobs/sha256/.tmp-2"] {
        fs::write(scene.data().join(name), "half").unwrap();
    }
    let (code, told) = scene.check(&[]).await;
    assert_eq!((code, &told["faults"]), (0, &serde_json::json!([])), "{told:#}");
    let mut expected: Vec<_> = notes.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(paths(&told, "notes"), expected, "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_its_layout_file_is_named_and_one_that_is_only_begun_is_not() {
    let scene = Scene::new().await;
    for begun in ["begun/_layout", "begun/again/_layout/blobs/sha256", "begun/empty"] {
        fs::create_dir_all(scene.data().join("repositories").join(begun)).unwrap();
    }
    let begun = scene.data().join("repositories/begun/again/_layout");
    fs::write(begun.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    assert_eq!(scene.check(&[]).await.0, 0);
    fs::remove_file(scene.site.layout("app").folder().join("oci-layout")).unwrap();
    let (code, told) = scene.check(&[]).await;
    assert_eq!(code, 3, "{told:#}");
    let faults = told["faults"].as_array().unwrap();
    assert_eq!((faults.len(), &faults[0]["fault"]), (1, &"missing".into()), "{told:#}");
    assert_eq!(faults[0]["paths"], serde_json::json!(["repositories/app/_layout/oci-layout"]));
    assert_eq!(faults[0]["used_by"][0]["repository"], "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_progress_are_as_they_should_be() {
    let scene = Scene::new().await;
    let asking = Asking::of(&scene.site, "app");
    let location = asking.begin().await;
    assert_eq!(asking.send(Method::PATCH, &location, &[], b"half").await.status(), 202);
    let (code, told) = scene.check(&[]).await;
    assert_eq!(
        (code, &told["faults"], &told["notes"]),
        (0, &serde_json::json!([]), &serde_json::json!([])),
        "{told:#}"
    );
    let digest = Digest::sha256(b"half and half");
    let closed = asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b" and half").await;
    assert_eq!(closed.status(), 201);
    assert_eq!(scene.check(&[]).await.0, 0, "a blob that nothing refers to yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_the_same_and_no_name_acts_on_their_screen() {
    let scene = Scene::new().await;
    link(&scene.data().join("repositories/linked"));
    fs::write(scene.data().join("repositories/\u{1b}[2J\ndamaged   sha256:0"), "x").unwrap();
    let done = autonomy(&["registry", "check", "--data-dir", scene.data().to_str().unwrap()]).await;
    assert_code(&done, 3);
    let said = text(&done);
    assert!(said.contains("damaged   repositories/linked  a symbolic link"), "{said}");
    assert!(said.contains("note      repositories/\\u{1b}[2J\\ndamaged"), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("\ndamaged   sha256:0"), "{said}");
}

/// Runs the check without root's rights: permissions do not stop root. None if that user cannot run the program.
async fn check_as_nobody(data: &Path) -> Option<(i32, Value)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534);
    }
    command.args(["registry", "check", "--output", "json", "--data-dir"]).arg(data).env("HOME", "/");
    let done = command.output().await.ok()?;
    Some((done.status.code().unwrap(), serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_listed_and_a_blob_that_cannot_be_opened_are_named_and_the_rest_is_read() {
    let shut = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let scene = Scene::new().await;
    let blob = format!("repositories/app/_layout/blobs/sha256/{}", scene.child.digest.hex());
    let names = ["repositories/team", "repositories/app/_layout/blobs/sha256", "uploads", blob.as_str()];
    shut(scene.data(), 0o755);
    // One folder may be entered and not listed.
    for (name, mode) in names.into_iter().zip([0o000, 0o711, 0o000, 0o000]).rev() {
        shut(&scene.data().join(name), mode);
    }
    let checked = check_as_nobody(scene.data()).await;
    for name in names {
        shut(&scene.data().join(name), 0o755);
    }
    let Some((code, told)) = checked else { return };
    let mut named = paths(&told, "faults");
    named.sort();
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!((code, named), (3, expected), "{told:#}");
}

/// The blob's file in `app`, replaced by another kind of entry.
struct Taken {
    data: tempfile::TempDir,
    path: PathBuf,
}

impl Taken {
    async fn by(make: Make) -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Testbed::over(data.path(), Profile::default()).await;
        Asking::of(&server, "app").push_image("v1", "x", None).await;
        let digest = Asking::of(&server, "app").push_blob(b"layer").await;
        let blobs = data.path().join("repositories/app/_layout/blobs/sha256");
        let taken = Self { path: blobs.join(digest.hex()), data };
        instead(&taken.path, make);
        taken
    }

    /// Asserts that the content of a replaced folder is still beside it.
    fn keeps(&self, make: Make) {
        let aside: Vec<_> = fs::read_dir(self.path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_str().unwrap().starts_with('.'))
            .collect();
        if std::ptr::fn_addr_eq(make, full_folder as Make) {
            assert_eq!(aside.len(), 1);
            assert_eq!(fs::read_to_string(aside[0].path().join("deep/precious")).unwrap(), "precious");
        } else {
            assert!(aside.is_empty(), "nothing is left: {aside:?}");
        }
    }
}

#[tokio::test]
async fn a_push_takes_the_place_of_whatever_lies_there_and_the_content_of_a_folder_stays_beside_it() {
    for (what, make) in ALL {
        let taken = Taken::by(make).await;
        let server = Testbed::over(taken.data.path(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let path = format!("blobs/{}", Digest::sha256(b"layer"));
        assert_eq!(asking.send(Method::HEAD, &path, &[], b"").await.status(), 404, "{what}");
        asking.push_blob(b"layer").await;
        assert_eq!(asking.get(&path).await.text().await.unwrap(), "layer", "{what}");
        taken.keeps(make);
    }
}

#[tokio::test]
async fn a_mount_takes_the_place_of_whatever_lies_there() {
    for (what, make) in ALL {
        let taken = Taken::by(make).await;
        let server = Testbed::over(taken.data.path(), Profile::default()).await;
        let digest = Asking::of(&server, "b").push_blob(b"layer").await;
        let asking = Asking::of(&server, "app");
        let mounted = format!("blobs/uploads/?mount={digest}&from=b");
        assert_eq!(asking.send(Method::POST, &mounted, &[], b"").await.status(), 201, "{what}");
        assert_eq!(asking.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "layer", "{what}");
        taken.keeps(make);
    }
}

#[tokio::test]
async fn a_manifest_takes_the_place_of_whatever_lies_there() {
    for (what, make) in ALL {
        let taken = Taken::by(make).await;
        let server = Testbed::over(taken.data.path(), Profile::default()).await;
        let text = r#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b"}}"#;
        let node = Descriptor::of(MediaType::OCI_INDEX, text.as_bytes());
        let place = taken.path.with_file_name(node.digest.hex());
        fs::rename(&taken.path, &place).unwrap();
        let asking = Asking::of(&server, "app");
        assert_eq!(asking.put_manifest("v2", &MediaType::OCI_INDEX, text).await.status(), 201, "{what}");
        assert_eq!(asking.get("manifests/v2").await.text().await.unwrap(), text, "{what}");
        taken.keeps(make);
    }
}

#[tokio::test]
async fn something_in_the_place_of_a_blob_is_no_blob_for_a_manifest_and_for_a_deletion() {
    for (what, make) in ALL {
        let taken = Taken::by(make).await;
        let server = Testbed::over(taken.data.path(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let gone = asking.send(Method::DELETE, &format!("blobs/{}", Digest::sha256(b"layer")), &[], b"").await;
        assert_eq!(gone.status(), 404, "{what}");
        let manifest = crate::kit::asking::image(&[("config", b"layer")], "y", None);
        let refused = asking.put_manifest("v2", &MediaType::OCI_MANIFEST, &manifest).await;
        let (status, text) = (refused.status(), refused.text().await.unwrap());
        assert!(status == 404 && text.contains("MANIFEST_BLOB_UNKNOWN"), "{what}: {status} {text}");
        assert!(taken.path.symlink_metadata().is_ok(), "{what} stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_takes_the_place_of_whatever_lies_there() {
    for (what, make) in ALL {
        let scene = Scene::new().await;
        for node in [&scene.image, &scene.child, &scene.layer] {
            instead(&scene.file("app", &node.digest), make);
        }
        instead(&scene.file("team/copy", &scene.layer.digest), make);
        let (code, told) = scene.repair().await;
        assert_eq!(code, 0, "{what}: {told:#}");
        assert!(scene.is_right(&scene.layer) && scene.is_right(&scene.image) && scene.is_right(&scene.child));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_goes_on_after_what_cannot_be_fetched_or_put_in_place_and_tells_it_all() {
    let scene = Scene::new().await;
    let store = publisher(&scene.origin, "app");
    let bytes = read_manifest(&store, &scene.child).await.unwrap();
    let manifest = autonomy_registry::oci::Manifest::parse(&bytes, &scene.child.media_type).unwrap();
    let other = manifest.children().find(|node| node.digest != scene.layer.digest && node.size > 100).unwrap().clone();
    for repository in ["app", "team/copy"] {
        flip(&scene.file(repository, &scene.child.digest));
        flip(&scene.file(repository, &other.digest));
    }
    flip(&scene.file("app", &scene.layer.digest));
    // One of the two cannot be written, and the source lacks one blob.
    instead(&scene.site.layout("app").folder().join(".lock"), pipe);
    fs::remove_file(scene.origin.layout("app").folder().join("blobs/sha256").join(other.digest.hex())).unwrap();
    let (code, told) = scene.repair().await;
    assert_eq!(code, 3, "{told:#}");
    for node in [&scene.child, &scene.layer] {
        let file = scene.file("team/copy", &node.digest);
        assert!(node.digest.matches(&fs::read(file).unwrap()), "{}: {told:#}", node.media_type);
    }
    for node in [&scene.child, &scene.layer, &other] {
        let faults = told["faults"].as_array().unwrap();
        let found = faults.iter().find(|found| found["digest"] == node.digest.to_string()).unwrap();
        assert!(found["not_repaired"].is_string(), "{found:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_puts_the_bytes_of_a_deleted_manifest_back_and_leaves_it_deleted() {
    let scene = Scene::new().await;
    let app = Asking::of(&scene.site, "app");
    let child = format!("manifests/{}", scene.child.digest);
    assert_eq!(app.send(Method::DELETE, &child, &[], b"").await.status(), 202);
    // The index still lists it, so its bytes are kept like a blob's.
    flip(&scene.file("app", &scene.child.digest));
    flip(&scene.file("team/copy", &scene.child.digest));
    let list = fs::read(scene.site.layout("app").folder().join("index.json")).unwrap();
    let (code, told) = scene.repair().await;
    assert_eq!(code, 0, "{told:#}");
    assert!(scene.is_right(&scene.child));
    assert_eq!(fs::read(scene.site.layout("app").folder().join("index.json")).unwrap(), list);
    assert_eq!(app.get(&child).await.status(), 404, "it stays deleted");
    assert_eq!(Asking::of(&scene.site, "team/copy").get(&child).await.status(), 200);
    // No client can pull the manifest, so its layers may be gone.
    fs::remove_file(scene.file("app", &scene.layer.digest)).unwrap();
    assert_eq!(scene.check(&[]).await.0, 0);
    assert!(
        collect(Collection { kept: KeptManifests::All, ..Collection::new(scene.data()) }).await.unwrap().left_alone()
            == 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_of_an_index_in_a_folder_that_lists_its_roots_alone_deletes_none_of_its_children() {
    let scene = Scene::new().await;
    let list = scene.site.layout("app").folder().join("index.json");
    let root = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": scene.image.media_type, "digest": scene.image.digest, "size": scene.image.size,
            "annotations": {"org.opencontainers.image.ref.name": "v1"},
        }],
    });
    fs::write(&list, root.to_string()).unwrap();
    flip(&scene.file("app", &scene.image.digest));
    assert_eq!(scene.repair().await.0, 0);
    let app = Asking::of(&scene.site, "app");
    assert_eq!(app.get(&format!("manifests/{}", scene.child.digest)).await.status(), 200);
    assert_eq!(app.get("manifests/v1").await.status(), 200);
    let listed = fs::read_to_string(&list).unwrap();
    assert!(!listed.contains("unlisted"), "{listed}");
    let images = images::two_platforms(&publisher(&scene.site, "app"), 1, &[100_000, 2000]).await;
    assert_eq!(images, scene.image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_any_shape_is_named_and_keeps_no_other_repository_away() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
    let shapes = [
        nested("[", "]"),
        nested("{\"a\":", "}"),
        format!(r#"{{"schemaVersion":2,"manifests":[],"deep":{}}}"#, nested("[", "]")),
        r#"{"schemaVersion":1e999,"manifests":[]}"#.to_owned(),
        format!(r#"{{"schemaVersion":{},"manifests":[]}}"#, "9".repeat(100_000)),
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"x/y","digest":"sha256:0","size":-1}]}"#.to_owned(),
        r#"{"schemaVersion":2,"manifests":null}"#.to_owned(),
        "\u{0}".repeat(1000),
        String::new(),
    ];
    let scene = Scene::new().await;
    let list = scene.site.layout("app").folder().join("index.json");
    for shape in shapes {
        fs::write(&list, &shape).unwrap();
        let start = &shape[..shape.len().min(60)];
        let (code, told) = scene.check(&[]).await;
        assert!(
            code == 3 && paths(&told, "faults").iter().any(|path| path.ends_with("app/_layout/index.json")),
            "{start}"
        );
        assert!(!Asking::of(&scene.site, "app").get("manifests/v1").await.status().is_success(), "{start}");
        let other = Asking::of(&scene.site, "team/copy").get("manifests/stable").await;
        assert_eq!(other.status(), 200, "{start}");
    }
}

#[tokio::test]
async fn a_file_outside_that_has_a_second_name_as_a_blob_is_never_written_to() {
    let data = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new_in(data.path().parent().unwrap()).unwrap();
    let about = |path: &Path| {
        let about = fs::metadata(path).unwrap();
        (fs::read(path).unwrap(), about.mode(), about.uid(), about.nlink())
    };
    for (held, pushed) in [("precious", "precious"), ("precio", "precious"), ("", "precious")] {
        fs::write(outside.path(), held).unwrap();
        let before = about(outside.path());
        let server = Testbed::over(data.path(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let digest = asking.push_blob(pushed.as_bytes()).await;
        let blob = data.path().join("repositories/app/_layout/blobs/sha256").join(digest.hex());
        fs::remove_file(&blob).unwrap();
        fs::hard_link(outside.path(), &blob).unwrap();
        let path = format!("blobs/{digest}");
        assert!(asking.send(Method::HEAD, &path, &[], b"").await.status().as_u16() < 500);
        asking.push_blob(pushed.as_bytes()).await;
        assert_eq!(asking.get(&path).await.text().await.unwrap(), pushed);
        assert_eq!(about(outside.path()), before, "{held}");
        fs::remove_file(&blob).unwrap();
        fs::hard_link(outside.path(), &blob).unwrap();
        assert_eq!(asking.send(Method::DELETE, &path, &[], b"").await.status(), 202);
        assert_eq!(about(outside.path()), before, "{held}");
    }
}
