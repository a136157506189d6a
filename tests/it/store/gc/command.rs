//! The command: its output, and its behaviour beside a running server.

use std::time::Duration;

use autonomy_registry::serve::{Collection, Uploads, collect};
use serde_json::json;

use super::{DAY, age, blob_path, gc, site};
use crate::kit::asking::client;
use crate::kit::serve_bed::Program;

#[tokio::test]
async fn the_command_says_what_it_freed_and_a_dry_run_what_it_would() {
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "site/app").await;
    let path = blob_path(data.path(), "site/app", &garbage.digest);
    let (code, text) = gc(data.path(), &["--dry-run"]).await;
    assert!(code == 0 && text.contains("1 blobs, 10 B") && text.contains("would free 10 B of 10 B"), "{text}");
    assert!(path.exists());
    let (code, text) = gc(data.path(), &["--older-than", "72h"]).await;
    assert!(code == 0 && text.contains("freed 0 B of 0 B"), "{text}");
    let (code, text) = gc(data.path(), &["--output", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["totals"]["bytes_freed"], &told["dry_run"]), (0, &json!(10), &json!(false)), "{text}");
    assert_eq!(told["repositories"][0]["repository"], "site/app");
    assert_eq!(told["uploads"]["count"], 0);
    assert!(!path.exists());
    let (code, text) = gc(&data.path().join("nowhere"), &[]).await;
    assert!(code == 4 && text.contains("--data-dir"), "{text}");
}

#[tokio::test]
async fn beside_a_running_server_uploads_are_left_to_it_and_what_is_young_to_those_who_push() {
    let data = tempfile::tempdir().unwrap();
    let (_, garbage) = site(data.path(), "app").await;
    let server = Program::start::<&str>(data.path(), []);
    let begun = client().post(format!("{}/v2/app/blobs/uploads/", server.url)).send().await.unwrap();
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let upload = data.path().join("uploads").join(place.rsplit('/').next().unwrap());
    age(&upload, DAY * 2);
    let (code, text) = gc(data.path(), &["--older-than", "0"]).await;
    assert!(code == 2 && text.contains("a server is running") && text.contains("--older-than"), "{text}");
    let (code, text) = gc(data.path(), &["--older-than", "10m"]).await;
    assert!(code == 0 && text.contains("uploads are left to the server"), "{text}");
    assert!(upload.exists() && !blob_path(data.path(), "app", &garbage.digest).exists());
    drop(server);
    let collected = collect(Collection { older_than: Duration::ZERO, ..Collection::new(data.path()) }).await.unwrap();
    assert_eq!(collected.uploads.map(|Uploads { count, .. }| count), Some(1), "a killed server holds nothing");
    assert!(!upload.exists());
}
