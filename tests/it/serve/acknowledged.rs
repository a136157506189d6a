//! Acknowledged content stays: beside another server on the same folder, beside deletes, beside garbage collection.

use std::fs;
use std::path::Path;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Collection, Effect, Profile, collect};
use reqwest::Method;
use serde_json::json;

use crate::kit::asking::{Asking, header};

async fn pair(folder: &Path) -> [Testbed; 2] {
    [Testbed::over(folder, Profile::default()).await, Testbed::over(folder, Profile::default()).await]
}

#[tokio::test]
async fn a_blob_that_one_server_has_acknowledged_is_not_changed_through_another() {
    let folder = tempfile::tempdir().unwrap();
    let servers = pair(folder.path()).await;
    let [ours, theirs] = [0, 1].map(|n| Asking::of(&servers[n], "app"));
    let location = ours.begin().await;
    ours.send(Method::PATCH, &location, &[], b"first, ").await;
    // The other server knows the session too, as after a restart, and both continue it.
    let other = theirs.send(Method::PATCH, &location, &[], b"second, ").await;
    assert_eq!((other.status().as_u16(), header(&other, "range")), (202, "0-14".to_owned()));
    assert_eq!(header(&ours.get(&location).await, "range"), "0-14");
    let digest = Digest::sha256(b"first, second, third");
    let closed = ours.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b"third").await;
    assert_eq!(closed.status(), 201);
    for (asking, method) in [(&theirs, Method::PATCH), (&theirs, Method::GET), (&ours, Method::PATCH)] {
        assert_eq!(asking.send(method, &location, &[], b"more").await.status(), 404);
    }
    let again = theirs.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b"more").await;
    assert_eq!(again.status(), 404);
    assert_eq!(theirs.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "first, second, third");
    assert_eq!(fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
}

/// The other server has the file open, in the middle of a body, when this one closes the upload.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_not_finished_while_another_server_writes_to_it() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let servers = pair(folder.path()).await;
    let [ours, theirs] = [0, 1].map(|n| Asking::of(&servers[n], "app"));
    let location = ours.begin().await;
    ours.send(Method::PATCH, &location, &[], b"first, ").await;
    let mut writer = std::net::TcpStream::connect(servers[1].host()).unwrap();
    write!(writer, "PATCH {location} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 8\r\n\r\nsec")
        .unwrap();
    let upload = folder.path().join("uploads").join(location.rsplit('/').next().unwrap());
    let locked = fs::File::open(&upload).unwrap();
    while locked.try_lock().is_ok() {
        locked.unlock().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let early = Digest::sha256(b"first, ");
    let path = format!("{location}?digest={early}");
    let closing = ours.send(Method::PUT, &path, &[], b"");
    let writing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        writer.write_all(b"ond, ").unwrap();
        let mut answer = String::new();
        writer.read_to_string(&mut answer).unwrap();
        answer
    };
    let (closed, written) = tokio::join!(closing, writing);
    assert!(written.starts_with("HTTP/1.1 202"), "{written}");
    assert_eq!(closed.status(), 400, "it is not what the digest says any more");
    assert_eq!(theirs.get(&format!("blobs/{early}")).await.status(), 404);
}

#[tokio::test]
async fn deleting_a_manifest_keeps_bytes_that_another_manifest_needs() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let inner = asking.push_image("inner", "x", None).await;
    let layer = Descriptor::new(MediaType::OCI_LAYER, inner.digest, inner.size);
    let config = asking.push_blob(b"{}").await;
    let config = Descriptor::new(MediaType::OCI_CONFIG, config, 2);
    let outer = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer]});
    assert_eq!(asking.put_manifest("outer", &MediaType::OCI_MANIFEST, &outer.to_string()).await.status(), 201);
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [inner]});
    assert_eq!(asking.put_manifest("index", &MediaType::OCI_INDEX, &index.to_string()).await.status(), 201);

    let path = format!("manifests/{}", inner.digest);
    assert_eq!(asking.send(Method::DELETE, &path, &[], b"").await.status(), 202);
    for gone in [path.as_str(), "manifests/inner"] {
        assert_eq!(asking.get(gone).await.status(), 404, "{gone}");
    }
    let everything = Collection { older_than: Duration::from_secs(3600), ..Collection::new(server.data_dir()) };
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    for entry in fs::read_dir(server.layout("app").folder().join("blobs/sha256")).unwrap() {
        fs::File::open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    collect(everything).await.unwrap();
    assert_eq!(asking.get(&format!("blobs/{}", inner.digest)).await.status(), 200, "a layer of the other one");
    // Reads the folder anew, as after a restart: it is still deleted.
    let again = Testbed::over(server.data_dir(), Profile::default()).await;
    assert_eq!(Asking::of(&again, "app").get(&path).await.status(), 404);
}

#[tokio::test]
async fn a_refused_push_makes_no_repository() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "refused/app");
    let lost = Descriptor::of(MediaType::OCI_CONFIG, b"lost");
    let text =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": lost, "layers": []}).to_string();
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await.status(), 404);
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, "{").await.status(), 400);
    let location = asking.begin().await;
    let wrong = asking.send(Method::PUT, &format!("{location}?digest={}", lost.digest), &[], b"other").await;
    assert_eq!(wrong.status(), 400);
    let mount = format!("blobs/uploads/?mount={}&from=nowhere", lost.digest);
    assert_eq!(asking.send(Method::POST, &mount, &[], b"").await.status(), 202);
    assert_eq!(fs::read_dir(server.data_dir().join("repositories")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_repository_in_which_nothing_is_left_is_removed_and_can_be_pushed_to_again() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "a/b/c");
    let neighbour = Asking::of(&server, "a/d");
    let node = asking.push_image("v1", "x", None).await;
    neighbour.push_image("v1", "x", None).await;
    assert_eq!(asking.send(Method::DELETE, &format!("manifests/{}", node.digest), &[], b"").await.status(), 202);
    let repositories = server.data_dir().join("repositories");
    let make_old = |path: &Path| {
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    };
    let layout = repositories.join("a/b/c/_layout");
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        make_old(&entry.unwrap().path());
    }
    let young = Collection { older_than: Duration::from_secs(3600), ..Collection::new(server.data_dir()) };
    let removed = |collected: &autonomy_registry::serve::Collected| {
        collected.repositories.iter().filter(|one| one.is_removed).map(|one| one.repository.clone()).collect::<Vec<_>>()
    };
    assert!(removed(&collect(young.clone()).await.unwrap()).is_empty(), "its list has just been changed");
    assert!(layout.join("oci-layout").exists());
    make_old(&layout.join("index.json"));
    let counted = collect(Collection { effect: Effect::Counted, ..young.clone() }).await.unwrap();
    assert_eq!((removed(&counted), layout.exists()), (vec!["a/b/c".to_owned()], true));
    assert_eq!(removed(&collect(young).await.unwrap()), ["a/b/c"]);
    assert!(!repositories.join("a/b").exists() && repositories.join("a/d").exists());
    assert_eq!(asking.get("tags/list").await.status(), 404);
    asking.push_image("v2", "y", None).await;
    assert_eq!(asking.get("manifests/v2").await.status(), 200);
    assert_eq!(neighbour.get("manifests/v1").await.status(), 200);
}

/// Pushes, deletes and collections contend for one repository. Collection may remove it whenever it is empty.
#[tokio::test(flavor = "multi_thread")]
async fn collection_beside_pushes_and_deletes_calls_nothing_damaged_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let servers = pair(folder.path()).await;
    let data = folder.path().to_owned();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let collecting = tokio::spawn(async move {
        let mut runs = 0;
        while !*stopped.borrow() {
            // Ages below ten minutes are refused beside a server, so the test makes everything old.
            make_everything_old(&data);
            let kept = autonomy_registry::serve::KeptManifests::Named;
            let rules = Collection { kept, older_than: Duration::from_secs(3600), ..Collection::new(&data) };
            let collected = collect(rules).await.unwrap();
            assert_eq!(collected.left_alone(), 0, "{collected:?}");
            runs += 1;
        }
        runs
    });
    let work = (0..4).map(|n| {
        let asking = Asking::of(&servers[n % 2], "one");
        async move {
            for round in 0..12 {
                let text = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [],
                    "annotations": {"n": format!("{n}-{round}")}});
                let tag = format!("t{n}");
                let put = asking.put_manifest(&tag, &MediaType::OCI_INDEX, &text.to_string()).await;
                assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
                let got = asking.get(&format!("manifests/{tag}")).await;
                assert_eq!(got.status(), 200, "{n} {round}");
                let digest = header(&got, "docker-content-digest");
                let deleted = asking.send(Method::DELETE, &format!("manifests/{digest}"), &[], b"").await;
                assert_eq!(deleted.status(), 202, "{n} {round}");
            }
        }
    });
    futures_util::future::join_all(work).await;
    stop.send(true).unwrap();
    assert!(collecting.await.unwrap() > 0);
}

/// Every file of the layouts, their index.json too.
fn make_everything_old(folder: &Path) {
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => make_everything_old(&entry.path()),
            // Another task may have removed it meanwhile.
            _ => drop(fs::File::open(entry.path()).map(|file| file.set_modified(old))),
        }
    }
}
