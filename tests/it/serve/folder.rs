//! The data folder: content that survives the server, its layout, and paths that must not lead out of it.

use std::io::Write as _;
use std::time::Duration;

use autonomy_registry::oci::{Digest, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::{Layout, Listing, Store};
use reqwest::Method;

use crate::kit::asking::{Asking, code, header, json};

#[tokio::test]
async fn acknowledged_content_survives_the_server_and_nothing_else_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let (node, location, blob);
    {
        let server = Testbed::over(folder.path(), Profile::default()).await;
        let asking = Asking::of(&server, "a/b");
        node = asking.push_image("v1", "kept", None).await;
        asking.push_image("", "attached", Some(&node)).await;
        location = asking.begin().await;
        asking.send(Method::PATCH, &location, &[], b"first half, ").await;
        blob = Digest::sha256(b"first half, second half");
    }
    let old = std::fs::File::create(folder.path().join("uploads/left-by-a-crash")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600)).unwrap();
    let server = Testbed::over(folder.path(), Profile::default()).await;
    let asking = Asking::of(&server, "a/b");
    assert!(!folder.path().join("uploads/left-by-a-crash").exists());
    let pulled = asking.get("manifests/v1").await;
    assert_eq!(header(&pulled, "docker-content-digest"), node.digest.to_string());
    assert_eq!(header(&pulled, "content-type"), MediaType::OCI_MANIFEST.as_str());
    let referrers = json(asking.get(&format!("referrers/{}", node.digest)).await).await;
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(asking.get(&format!("blobs/{blob}")).await.status(), 404);
    assert_eq!(header(&asking.get(&location).await, "range"), "0-11", "the session is still there");
    let closed = asking.send(Method::PUT, &format!("{location}?digest={blob}"), &[], b"second half").await;
    assert_eq!(closed.status(), 201);
    assert_eq!(asking.get(&format!("blobs/{blob}")).await.text().await.unwrap(), "first half, second half");
}

#[tokio::test]
async fn repositories_nest_without_meeting() {
    let server = Testbed::start().await;
    let names = ["a", "a/blobs", "a/blobs/sha256", "a/index.json", "a/b", "a/oci-layout", "blobs/uploads", "manifests"];
    for name in names {
        let asking = Asking::of(&server, name);
        asking.push_image("v1", &name.replace('/', "."), None).await;
    }
    for name in names {
        let asking = Asking::of(&server, name);
        let pulled = json(asking.get("manifests/v1").await).await;
        assert_eq!(pulled["annotations"]["salt"], name.replace('/', "."));
    }
    let all = json(Asking::of(&server, "a").get("/v2/_catalog").await).await;
    assert_eq!(all["repositories"].as_array().unwrap().len(), names.len());
}

#[tokio::test]
async fn the_folder_is_an_image_layout_and_content_put_there_is_served() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let node = asking.push_image("v1", "x", None).await;
    let layout = Layout::open(server.layout("app").folder()).await.unwrap();
    assert_eq!(layout.fetch(&Name::Tag("v1".parse().unwrap())).await.unwrap().node, node);
    assert_eq!(layout.tags().await.unwrap(), ["v1".parse().unwrap()]);
    let root = layout.fetch(&Name::Digest(node.digest)).await.unwrap();
    let body = autonomy_registry::store::Body::bytes(node.clone(), root.bytes);
    layout.put(&node, &body, &["carried".parse().unwrap()]).await.unwrap();
    assert_eq!(asking.get("manifests/carried").await.status(), 200, "another program's tag is seen at once");
}

#[tokio::test]
async fn no_path_leaves_the_data_folder() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let secret = server.data_dir().join("secret");
    std::fs::write(&secret, "x").unwrap();
    for path in [
        "/v2/app/../../secret",
        "/v2/..%2f..%2fsecret/manifests/v1",
        "/v2/app/manifests/..%2f..%2fsecret",
        "/v2/app/blobs/uploads/..%2f..%2fsecret",
        "/v2/app/blobs/uploads/....................................",
        "/v2/_layout/manifests/v1",
        "/v2/app/_layout/manifests/v1",
    ] {
        // Written by hand, because clients normalize such paths before they send them.
        let mut connection = std::net::TcpStream::connect(server.host()).unwrap();
        for method in ["GET", "DELETE", "PUT"] {
            write!(connection, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        write!(connection, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let answers = std::io::read_to_string(&connection).unwrap();
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(statuses.len(), 4, "{answers}");
        assert!(statuses[..3].iter().all(|status| status.starts_with('4')), "{path}: {statuses:?}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "x");
    assert_eq!(code(asking.get("/nowhere").await).await.0, 404);
}
