//! A server that only reads: refuses writes, and writes nothing itself.

use std::time::Duration;

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Profile, ServeOptions, ServedContent, Server};
use reqwest::Method;

use crate::kit::asking::{Asking, code, json};

#[tokio::test]
async fn a_read_only_server_refuses_writes_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let digest = {
        let server = Testbed::over(folder.path(), Profile::default()).await;
        Asking::of(&server, "app").push_blob(b"kept").await
    };
    let content = ServedContent::ReadOnlyDataDir(folder.path().to_owned());
    let server = Server::bind(ServeOptions::serving(content, ([127, 0, 0, 1], 0).into())).await.unwrap();
    let asking = Asking::at(server.address(), "app");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { stopped.await.unwrap_or_default() }));
    assert_eq!(asking.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "kept");
    for (method, path) in [
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::PUT, "manifests/v1".to_owned()),
        (Method::DELETE, format!("blobs/{digest}")),
        (Method::PATCH, "blobs/uploads/x".to_owned()),
    ] {
        assert_eq!(code(asking.send(method, &path, &[], b"").await).await, (405, "UNSUPPORTED".into()), "{path}");
    }
    assert_eq!(asking.get("/healthz").await.status(), 200);
    let metrics = asking.get("/metrics").await.text().await.unwrap();
    for line in [
        r#"autonomy_registry_requests_total{method="GET",status="2xx"} 2"#,
        r#"autonomy_registry_requests_total{method="PUT",status="4xx"} 1"#,
        "autonomy_registry_sent_bytes_total 4",
        "autonomy_registry_uploads 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    drop(asking);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_read_only_server_writes_nothing_itself() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let content = ServedContent::ReadOnlyDataDir(absent.clone());
    let server = Server::bind(ServeOptions::serving(content, ([127, 0, 0, 1], 0).into())).await.unwrap();
    let asking = Asking::at(server.address(), "app");
    tokio::spawn(server.run(std::future::pending()));
    for path in ["manifests/v1", "tags/list", "blobs/uploads/x"] {
        assert_eq!(asking.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(json(asking.get("/v2/_catalog").await).await["repositories"], serde_json::json!([]));
    let subject = Digest::sha256(b"x");
    assert_eq!(asking.get(&format!("referrers/{subject}")).await.status(), 200);
    assert!(!absent.exists());
}
