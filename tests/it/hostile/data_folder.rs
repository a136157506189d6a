//! A data folder from an untrusted source: nothing in it leads out of it, stops the server, or fills its memory.
#![cfg(unix)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Collection, KeptManifests, Profile, ServeOptions, Server, collect};
use reqwest::Method;

use crate::kit::asking::Asking;
use crate::kit::files::{age, pipe};
use crate::kit::serve_bed::{PATIENCE, Running};

const LONG_AGO: Duration = Duration::from_secs(30 * 24 * 3600);

/// A data folder with an image `app:v1`, and a folder outside of it with one very old file.
struct Lure {
    home: tempfile::TempDir,
    blob: Digest,
}

impl Lure {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let server = Testbed::over(&data, Profile::default()).await;
        let asking = Asking::of(&server, "app");
        asking.push_image("v1", "x", None).await;
        let blob = asking.push_blob(b"layer").await;
        fs::create_dir(home.path().join("outside")).unwrap();
        fs::write(home.path().join("outside/secret"), "precious").unwrap();
        age(&home.path().join("outside/secret"), LONG_AGO);
        Self { home, blob }
    }

    fn data(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }

    fn layout(&self) -> std::path::PathBuf {
        self.data().join("repositories/app/_layout")
    }

    fn blob(&self) -> std::path::PathBuf {
        self.layout().join("blobs/sha256").join(self.blob.hex())
    }

    fn outside(&self) -> std::path::PathBuf {
        self.home.path().join("outside")
    }

    fn secret(&self) -> std::path::PathBuf {
        self.outside().join("secret")
    }

    /// Asserts that nothing outside was read into an answer, changed, added or removed.
    fn is_untouched(&self, what: &str) {
        assert_eq!(fs::read_to_string(self.secret()).unwrap(), "precious", "{what}");
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1, "{what}");
    }
}

/// Replaces a folder with a link to `to`; the content moves to another name.
fn relink(folder: &Path, to: &Path) {
    fs::rename(folder, folder.with_extension("away")).unwrap();
    symlink(to, folder).unwrap();
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("nothing hangs")
}

#[tokio::test]
async fn a_link_in_the_place_of_a_blob_hands_out_nothing_and_a_push_takes_its_place() {
    let lure = Lure::new().await;
    let behaviours: [fn(&Lure); 3] = [
        |lure| symlink(lure.secret(), lure.blob()).unwrap(),
        |lure| symlink("../../../../../../outside/secret", lure.blob()).unwrap(),
        |lure| pipe(&lure.blob()),
    ];
    for damage in behaviours {
        fs::remove_file(lure.blob()).unwrap();
        damage(&lure);
        let server = Testbed::over(&lure.data(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let path = format!("blobs/{}", lure.blob);
        for method in [Method::GET, Method::HEAD] {
            let answer = within(asking.send(method, &path, &[], b"")).await;
            assert_eq!(answer.status(), 404);
            assert!(!answer.text().await.unwrap().contains("precious"));
        }
        let mounted = format!("blobs/uploads/?mount={}&from=app", lure.blob);
        assert_eq!(within(Asking::of(&server, "b").send(Method::POST, &mounted, &[], b"")).await.status(), 202);
        asking.push_blob(b"layer").await;
        assert_eq!(asking.get(&path).await.text().await.unwrap(), "layer");
        lure.is_untouched("a link as a blob");
    }
}

#[tokio::test]
async fn a_linked_folder_of_blobs_gives_nothing_and_takes_nothing() {
    for name in ["blobs/sha256", "blobs"] {
        let lure = Lure::new().await;
        fs::write(lure.outside().join(Digest::sha256(b"precious").hex()), "precious").unwrap();
        relink(&lure.layout().join(name), &lure.outside());
        let server = Testbed::over(&lure.data(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let digest = Digest::sha256(b"precious");
        let read = asking.get(&format!("blobs/{digest}")).await;
        assert!(!read.status().is_success(), "{name}");
        let (location, digest) = (asking.begin().await, Digest::sha256(b"pushed"));
        let pushed = asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b"pushed").await;
        assert!(!pushed.status().is_success(), "{name}");
        let manifest = asking
            .put_manifest("v2", &autonomy_registry::oci::MediaType::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#)
            .await;
        assert!(!manifest.status().is_success(), "{name}");
        fs::remove_file(lure.outside().join(Digest::sha256(b"precious").hex())).unwrap();
        lure.is_untouched(name);
    }
}

#[tokio::test]
async fn a_linked_folder_of_uploads_or_repositories_is_no_data_folder() {
    for name in ["uploads", "repositories", "serving"] {
        let lure = Lure::new().await;
        let place = lure.data().join(name);
        if name == "serving" {
            fs::remove_file(&place).unwrap()
        } else {
            fs::rename(&place, lure.data().join("away")).unwrap()
        }
        symlink(if name == "serving" { lure.secret() } else { lure.outside() }, &place).unwrap();
        let options = ServeOptions::new(lure.data(), ([127, 0, 0, 1], 0).into());
        let error = within(Server::bind(options)).await.unwrap_err();
        assert!(error.chain().contains(name) && error.chain().contains("link"), "{}", error.chain());
        let collected =
            within(collect(Collection { older_than: Duration::ZERO, ..Collection::new(lure.data()) })).await;
        assert!(collected.is_err(), "{name}: {collected:?}");
        lure.is_untouched(name);
    }
}

#[tokio::test]
async fn an_upload_session_that_is_a_link_a_second_name_or_a_pipe_is_none() {
    let lure = Lure::new().await;
    let id = "00000000-0000-4000-8000-000000000000";
    let place = lure.data().join("uploads").join(id);
    let damages: [fn(&Lure, &Path); 3] = [
        |lure, place| symlink(lure.secret(), place).unwrap(),
        |lure, place| fs::hard_link(lure.blob(), place).unwrap(),
        |_, place| pipe(place),
    ];
    for damage in damages {
        damage(&lure, &place);
        let server = Testbed::over(&lure.data(), Profile::default()).await;
        let asking = Asking::of(&server, "app");
        let session = format!("blobs/uploads/{id}");
        for (method, query) in [(Method::GET, ""), (Method::PATCH, ""), (Method::DELETE, "")] {
            let answer = within(asking.send(method.clone(), &format!("{session}{query}"), &[], b"more")).await;
            assert_eq!(answer.status(), 404, "{method}");
        }
        let digest = Digest::sha256(b"preciousmore");
        let closed = within(asking.send(Method::PUT, &format!("{session}?digest={digest}"), &[], b"more")).await;
        assert_eq!(closed.status(), 404);
        assert_eq!(fs::read_to_string(lure.blob()).unwrap(), "layer");
        lure.is_untouched("a session");
        drop(server);
        fs::remove_file(&place).unwrap();
    }
}

#[tokio::test]
async fn a_pipe_anywhere_stops_neither_the_start_nor_a_request_nor_a_collection() {
    for name in ["repositories/app/_layout/index.json", "repositories/app/_layout/oci-layout", "serving"] {
        let lure = Lure::new().await;
        let place = lure.data().join(name);
        fs::remove_file(&place).unwrap();
        pipe(&place);
        let options = ServeOptions::new(lure.data(), ([127, 0, 0, 1], 0).into());
        let bound = within(Server::bind(options)).await;
        assert_eq!(bound.is_err(), name == "serving", "{name}");
        drop(bound);
        if name != "serving" {
            let server = Testbed::over(&lure.data(), Profile::default()).await;
            let asking = Asking::of(&server, "app");
            for path in ["manifests/v1", "tags/list"] {
                assert!(!within(asking.get(path)).await.status().is_success(), "{name}");
            }
            let index = r#"{"schemaVersion":2,"manifests":[]}"#;
            let put = asking.put_manifest("v2", &autonomy_registry::oci::MediaType::OCI_INDEX, index);
            assert!(!within(put).await.status().is_success(), "{name}");
        }
        let _ = within(collect(Collection::new(lure.data()))).await;
        assert!(fs::symlink_metadata(&place).is_ok(), "{name} is not ours to remove");
    }
}

#[tokio::test]
async fn a_repository_that_is_a_link_is_none_and_collection_does_not_go_through_links() {
    let lure = Lure::new().await;
    let other = Lure::new().await;
    // Another data folder's repositories, each at another depth.
    symlink(other.data().join("repositories/app"), lure.data().join("repositories/linked")).unwrap();
    fs::create_dir_all(lure.data().join("repositories/deep")).unwrap();
    symlink(other.layout(), lure.data().join("repositories/deep/_layout")).unwrap();
    age(&other.blob(), LONG_AGO);
    let server = Testbed::over(&lure.data(), Profile::default()).await;
    for name in ["linked", "deep"] {
        let asking = Asking::of(&server, name);
        assert!(!asking.get("manifests/v1").await.status().is_success(), "{name}");
        assert!(!asking.get(&format!("blobs/{}", other.blob)).await.status().is_success(), "{name}");
        let answer = asking
            .put_manifest("v2", &autonomy_registry::oci::MediaType::OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#)
            .await;
        assert!(!answer.status().is_success(), "{name}");
    }
    drop(server);
    for kept in [KeptManifests::All, KeptManifests::Named] {
        let _ = collect(Collection { kept, older_than: Duration::ZERO, ..Collection::new(lure.data()) }).await;
    }
    assert!(other.blob().exists() && other.layout().join("index.json").exists());
    assert_eq!(fs::read_dir(other.layout().join("blobs/sha256")).unwrap().count(), 3);
}

#[tokio::test]
async fn the_data_folder_itself_may_be_a_link_that_the_operator_named() {
    let lure = Lure::new().await;
    symlink(lure.data(), lure.home.path().join("named")).unwrap();
    let server = Testbed::over(&lure.home.path().join("named"), Profile::default()).await;
    assert_eq!(Asking::of(&server, "app").get("manifests/v1").await.status(), 200);
}

#[tokio::test]
async fn locks_and_unfinished_uploads_are_for_their_owner_alone_and_content_is_as_readable_as_its_folder() {
    let lure = Lure::new().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // An earlier version left it like this.
    fs::set_permissions(lure.data().join("serving"), fs::Permissions::from_mode(0o644)).unwrap();
    let server = Testbed::over(&lure.data(), Profile::default()).await;
    let location = Asking::of(&server, "app").begin().await;
    let upload = lure.data().join("uploads").join(location.rsplit('/').next().unwrap());
    for path in [lure.data().join("serving"), lure.layout().join(".lock"), upload] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let readable = mode(&lure.layout().join("blobs/sha256")) & 0o666;
    for path in [lure.blob(), lure.layout().join("oci-layout"), lure.layout().join("index.json")] {
        assert_eq!(mode(&path), readable, "{}", path.display());
    }
}

#[tokio::test]
async fn a_lock_on_a_file_that_everybody_can_read_holds_nobody_up() {
    let lure = Lure::new().await;
    let held: Vec<File> = ["oci-layout", "index.json"].map(|name| File::open(lure.layout().join(name)).unwrap()).into();
    held.iter().for_each(|file| file.lock().unwrap());
    let server = Running::start(&lure.data(), |_| {}).await;
    let put = crate::kit::asking::client()
        .put(format!("{}/v2/app/manifests/v2", server.url))
        .header("content-type", "application/vnd.oci.image.index.v1+json")
        .body(r#"{"schemaVersion":2,"manifests":[]}"#)
        .send();
    assert_eq!(within(put).await.unwrap().status(), 201);
    drop(held);
}
