//! Decisions and records that are handed in: admission and the access log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use autonomy_registry::oci::{Digest, MediaType, Name};
use autonomy_registry::serve::{AccessLog, AccessRecord, Admission, Pull, PullRefusal, PulledContent, Route};
use reqwest::Method;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::kit::asking::{Asking, image, json};
use crate::kit::serve_bed::{PATIENCE, Running};

const PASSWORD: &str = "open sesame";

/// Refuses the repository `closed`, the tag `late` and HEAD of the tag `seen`; cannot decide about the tag `unclear`.
#[derive(Debug)]
struct Policy;

#[async_trait]
impl Admission for Policy {
    async fn pull(&self, pull: &Pull<'_>) -> Result<(), PullRefusal> {
        let tag = match pull.content {
            PulledContent::Manifest(Name::Tag(tag), _) => tag.as_str(),
            PulledContent::Manifest(_, node) if node.digest == Digest::sha256(sealed().as_bytes()) => "late",
            _ => "",
        };
        match (pull.repository.as_str(), tag, pull.is_head) {
            ("closed", ..) if pull.user != Some("ann") => {
                Err(PullRefusal::denied("image policy: not signed").detail(serde_json::json!({"class": "UNSIGNED"})))
            }
            (_, "late", _) | (_, "seen", true) => Err(PullRefusal::denied("too late")),
            (_, "unclear", _) => Err(PullRefusal::undecided("the policy cannot be read")),
            _ => Ok(()),
        }
    }
}

/// Sends everything to the test. A flush is None.
#[derive(Debug)]
struct Log(UnboundedSender<Option<AccessRecord>>);

#[async_trait]
impl AccessLog for Log {
    fn record(&self, record: &AccessRecord) {
        self.0.send(Some(record.clone())).unwrap_or_default();
    }

    async fn flush(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.send(None).unwrap_or_default();
    }
}

type Records = UnboundedReceiver<Option<AccessRecord>>;

async fn serve(folder: &Path, users: bool) -> (Running, Records) {
    let (sender, records) = mpsc::unbounded_channel();
    let file = folder.join("users");
    std::fs::write(&file, format!("ann:{}\n", bcrypt::hash(PASSWORD, 4).unwrap())).unwrap();
    let server = Running::start(&folder.join("data"), |options| {
        options.htpasswd = users.then_some(file);
        options.hooks.admission = Some(Arc::new(Policy));
        options.hooks.access_log = Some(Arc::new(Log(sender)));
    })
    .await;
    (server, records)
}

/// The next record of a request that reads: it may come a moment after the answer.
async fn next(records: &mut Records) -> AccessRecord {
    let received = tokio::time::timeout(PATIENCE, records.recv()).await.expect("a record comes");
    received.unwrap().expect("no request that writes came before")
}

/// The record of a request that writes, which has been answered: it is there, and durable.
fn written(records: &mut Records) -> AccessRecord {
    let record = records.try_recv().unwrap().unwrap();
    assert_eq!(records.try_recv().unwrap(), None, "the log is flushed before the answer");
    record
}

fn skip(records: &mut Records) {
    while records.try_recv().is_ok() {}
}

fn at(server: &Running, name: &str) -> Asking {
    Asking::at(&server.host, name)
}

async fn push_image(asking: &Asking, tag: &str) -> Digest {
    asking.push_blob(b"{}").await;
    let text = image(&[("config", b"{}")], tag, None);
    assert_eq!(asking.put_manifest(tag, &MediaType::OCI_MANIFEST, &text).await.status(), 201);
    Digest::sha256(text.as_bytes())
}

#[tokio::test]
async fn a_refused_pull_gets_403_with_the_reason_and_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), false).await;
    let (open, closed) = (at(&server, "open"), at(&server, "closed"));
    for tag in ["v1", "late", "seen", "unclear"] {
        push_image(&open, tag).await;
    }
    let digest = push_image(&closed, "v1").await;
    skip(&mut records);

    let answer = closed.get("manifests/v1").await;
    assert_eq!(answer.status(), 403);
    let expected = serde_json::json!({"errors": [
        {"code": "DENIED", "message": "image policy: not signed", "detail": {"class": "UNSIGNED"}}
    ]});
    assert_eq!(json(answer).await, expected);
    let record = next(&mut records).await;
    assert_eq!((record.method.as_str(), record.status, record.user), ("GET", Some(403), None));
    let route = Route::Manifest("closed".parse().unwrap(), Name::Tag("v1".parse().unwrap()));
    assert_eq!(record.route, Some(route));

    let blob = Digest::sha256(b"{}");
    for (asking, path, get, head) in [
        (&closed, format!("manifests/{digest}"), 403, 403),
        (&closed, format!("blobs/{blob}"), 403, 403),
        (&closed, "manifests/absent".to_owned(), 404, 404),
        (&open, "manifests/v1".to_owned(), 200, 200),
        (&open, format!("blobs/{blob}"), 200, 200),
        (&open, "manifests/late".to_owned(), 403, 403),
        (&open, "manifests/seen".to_owned(), 200, 403),
        (&open, "manifests/unclear".to_owned(), 503, 503),
    ] {
        for (method, expected) in [(Method::GET, get), (Method::HEAD, head)] {
            assert_eq!(asking.send(method.clone(), &path, &[], b"").await.status(), expected, "{method} {path}");
            let record = next(&mut records).await;
            assert_eq!((record.method.as_str(), record.status), (method.as_str(), Some(expected)), "{path}");
        }
    }
}

/// A manifest that the policy knows by its digest.
fn sealed() -> String {
    image(&[("config", b"{}")], "sealed", None)
}

#[tokio::test]
async fn a_manifest_that_is_asked_for_as_a_blob_is_decided_on_as_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _records) = serve(folder.path(), false).await;
    let open = at(&server, "open");
    let (sealed, other) = (push_image(&open, "sealed").await, push_image(&open, "v1").await);
    for (digest, expected) in [(sealed, 403), (other, 200), (Digest::sha256(b"{}"), 200)] {
        for method in [Method::GET, Method::HEAD] {
            let answer = open.send(method, &format!("blobs/{digest}"), &[], b"").await;
            assert_eq!(answer.status(), expected, "{digest}");
        }
    }
}

#[tokio::test]
async fn a_write_that_is_refused_is_recorded_without_waiting_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), true).await;
    for (method, path) in [(Method::POST, "blobs/uploads/"), (Method::PATCH, "nowhere"), (Method::DELETE, "/")] {
        assert_eq!(at(&server, "app").send(method.clone(), path, &[], b"").await.status(), 401, "{method} {path}");
        assert_eq!(next(&mut records).await.status, Some(401));
        assert_eq!(records.len(), 0, "no flush");
    }
}

#[tokio::test]
async fn the_name_of_an_upload_is_not_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), false).await;
    let asking = at(&server, "app");
    let location = asking.begin().await;
    skip(&mut records);
    assert_eq!(asking.send(Method::PATCH, &location, &[], b"part").await.status(), 202);
    let record = written(&mut records);
    let name = location.rsplit('/').next().unwrap();
    assert_eq!(name.len(), 36);
    let Some(Route::Upload(repository, told)) = &record.route else { panic!("{record:?}") };
    assert_eq!((repository.as_str(), told.as_str()), ("app", &Digest::sha256(name.as_bytes()).hex()[..12]));
    assert!(!format!("{record:?}").contains(name));
}

#[tokio::test]
async fn a_mount_from_a_refused_repository_becomes_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _records) = serve(folder.path(), false).await;
    let blob = at(&server, "closed").push_blob(b"secret").await;
    let other = at(&server, "open").push_blob(b"known").await;
    for (blob, from, expected) in [(blob, "closed", 202), (other, "open", 201)] {
        let path = format!("blobs/uploads/?mount={blob}&from={from}");
        assert_eq!(at(&server, "new").send(Method::POST, &path, &[], b"").await.status(), expected, "{from}");
    }
}

#[tokio::test]
async fn pushes_and_pulls_are_recorded_with_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), false).await;
    let asking = at(&server, "app");
    let repository = "app".parse().unwrap();

    let location = asking.begin().await;
    let record = written(&mut records);
    assert_eq!((record.method.as_str(), record.status), ("POST", Some(202)));
    assert_eq!(record.route, Some(Route::Uploads("app".parse().unwrap())));
    let blob = Digest::sha256(b"{}");
    asking.send(Method::PUT, &format!("{location}?digest={blob}"), &[], b"{}").await;
    let record = written(&mut records);
    assert_eq!((record.status, record.digest, record.bytes), (Some(201), Some(blob), 2));
    let text = image(&[("config", b"{}")], "v1", None);
    asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await;
    let (record, digest) = (written(&mut records), Digest::sha256(text.as_bytes()));
    assert_eq!((record.status, record.digest, record.bytes), (Some(201), Some(digest), text.len() as u64));
    assert!(record.from.is_loopback());

    asking.get("manifests/v1").await.bytes().await.unwrap();
    let record = next(&mut records).await;
    let route = Route::Manifest(repository, Name::Tag("v1".parse().unwrap()));
    assert_eq!((record.route, record.digest, record.bytes), (Some(route), Some(digest), text.len() as u64));
    asking.send(Method::HEAD, "manifests/v1", &[], b"").await;
    assert_eq!((next(&mut records).await.bytes, records.len()), (0, 0));
    asking.get("tags/list").await;
    assert_eq!(next(&mut records).await.bytes, r#"{"name":"app","tags":["v1"]}"#.len() as u64);
    asking.get("/nowhere").await;
    assert_eq!((next(&mut records).await.route, records.len()), (None, 0));
    asking.send(Method::DELETE, "manifests/v1", &[], b"").await;
    assert_eq!(written(&mut records).status, Some(202));
}

#[tokio::test]
async fn a_pull_that_breaks_is_recorded_with_the_bytes_that_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), false).await;
    let asking = at(&server, "app");
    let size = 64 << 20;
    let blob = asking.push_blob(&vec![7; size]).await;
    skip(&mut records);
    let mut answer = asking.get(&format!("blobs/{blob}")).await;
    answer.chunk().await.unwrap();
    drop(answer);
    let record = next(&mut records).await;
    assert_eq!(record.status, Some(200));
    assert!((1..size as u64).contains(&record.bytes), "{} bytes", record.bytes);
}

#[tokio::test]
async fn a_push_whose_client_leaves_is_recorded_without_a_status() {
    use tokio::io::AsyncWriteExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), false).await;
    let location = at(&server, "app").begin().await;
    skip(&mut records);
    let mut stream = tokio::net::TcpStream::connect(&server.host).await.unwrap();
    let text = format!("PATCH {location} HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\npart", server.host);
    stream.write_all(text.as_bytes()).await.unwrap();
    // Shut down in both directions: the server cannot answer.
    stream.set_zero_linger().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stream);
    let record = next(&mut records).await;
    assert_eq!((record.method.as_str(), record.bytes), ("PATCH", 4));
    assert!(record.status.is_none_or(|status| status >= 400), "{record:?}");
}

#[tokio::test]
async fn users_are_recorded_and_their_passwords_are_not() {
    use base64::Engine as _;

    let folder = tempfile::tempdir().unwrap();
    let (server, mut records) = serve(folder.path(), true).await;
    let asking = at(&server, "closed");
    let login = |user: &str, password: &str| {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    };
    let (right, wrong) = (login("ann", PASSWORD), login("bob", PASSWORD));

    asking.get(&format!("tags/list?password={PASSWORD}")).await;
    let record = next(&mut records).await;
    assert_eq!((record.status, &record.user, &record.refused_user), (Some(401), &None, &None));
    assert!(!format!("{record:?}").contains(PASSWORD));
    asking.send(Method::GET, "manifests/v1", &[("authorization", &wrong)], b"").await;
    let record = next(&mut records).await;
    assert_eq!((record.status, &record.user, record.refused_user.as_deref()), (Some(401), &None, Some("bob")));
    assert!(!format!("{record:?}").contains(PASSWORD));
    assert!(!format!("{record:?}").contains(&wrong[6..]));

    let text = image(&[("config", b"{}")], "v1", None);
    let headers = [("authorization", right.as_str()), ("content-type", "application/vnd.oci.image.manifest.v1+json")];
    asking.send(Method::POST, &format!("blobs/uploads/?digest={}", Digest::sha256(b"{}")), &headers, b"{}").await;
    assert_eq!(written(&mut records).user.as_deref(), Some("ann"));
    assert_eq!(asking.send(Method::PUT, "manifests/v1", &headers, text.as_bytes()).await.status(), 201);
    assert_eq!(written(&mut records).user.as_deref(), Some("ann"));
    assert_eq!(asking.send(Method::GET, "manifests/v1", &headers, b"").await.status(), 200, "admission knows the user");
    let record = next(&mut records).await;
    assert_eq!((record.user.as_deref(), record.refused_user, record.status), (Some("ann"), None, Some(200)));
}
