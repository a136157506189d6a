//! One client that takes more than its share leaves the others theirs: memory, and upload sessions.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use autonomy_registry::oci::MediaType;
use tokio::io::AsyncWriteExt as _;

use super::attacked::connect;
use crate::kit::asking::client;
use crate::kit::serve_bed::Running;

/// Pushes an index of this size from `127.0.0.<source>`.
async fn push(server: &Running, source: u8, bytes: usize) -> u16 {
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, source));
    let client = reqwest::Client::builder().local_address(from).no_proxy().build().unwrap();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{}"}}}}"#, "x".repeat(bytes));
    let request = client.put(format!("{}/v2/app/manifests/v1", server.url));
    let request = request.header("content-type", MediaType::OCI_INDEX.as_str()).timeout(Duration::from_secs(20));
    request.body(text).send().await.map_or(0, |answer| answer.status().as_u16())
}

fn put(n: usize) -> String {
    format!(
        "PUT /v2/app/manifests/t{n} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: 4000000\r\n\r\n",
        MediaType::OCI_INDEX
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_are_only_announced_take_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |_| {}).await;
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(connect(&server.host, 1, &put(n)).await);
    }
    assert_eq!(push(&server, 1, 100_000).await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_one_network_that_do_not_end_leave_half_of_the_memory_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |_| {}).await;
    let mut held = Vec::new();
    for n in 0..20 {
        let mut stream = connect(&server.host, 1, &put(n)).await;
        stream.write_all(&vec![b' '; 100_000]).await.unwrap();
        held.push(stream);
    }
    assert_eq!(push(&server, 2, 3_000_000).await, 201);
}

async fn begin(server: &Running) -> (u16, String) {
    let answer = client().post(format!("{}/v2/app/blobs/uploads/", server.url)).send().await.unwrap();
    let place = answer.headers().get("location").map(|place| place.to_str().unwrap().to_owned());
    (answer.status().as_u16(), place.unwrap_or_default())
}

fn file(data: &Path, place: &str) -> File {
    let name = place.rsplit_once('/').unwrap().1;
    File::options().write(true).open(data.join("uploads").join(name)).unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_bound_a_client_gives_up_the_oldest_upload_that_it_has_abandoned_and_none_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| options.limits.sessions_of_one = 3).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(begin(&server).await.1);
    }
    assert_eq!(begin(&server).await.0, 429, "all are young");
    // The first is in flight.
    let patch = format!("PATCH {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx", places[0]);
    let mut flight = connect(&server.host, 1, &patch).await;
    let arrived = async || {
        let answer = client().get(format!("{}{}", server.url, places[2])).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(arrived().await, 204);
    while !matches!(file(folder.path(), &places[0]).try_lock(), Err(fs::TryLockError::WouldBlock)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for place in &places[..2] {
        file(folder.path(), place).set_modified(SystemTime::now() - hours(1)).unwrap();
    }
    assert_eq!(begin(&server).await.0, 202);
    let status = async |n: usize| {
        let answer = client().get(format!("{}{}", server.url, places[n])).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!((status(0).await, status(1).await, status(2).await), (204, 404, 204));
    assert_eq!(begin(&server).await.0, 429);
    flight.write_all(b"y").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_were_left_with_holes_or_from_the_future_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = folder.path().join("uploads");
    fs::create_dir_all(&uploads).unwrap();
    let names = ["0", "1"].map(|digit| format!("{digit}0000000-0000-4000-8000-000000000000"));
    for (name, ahead) in names.iter().zip([hours(1), hours(30)]) {
        let file = File::options().write(true).create_new(true).mode(0o600).open(uploads.join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        file.set_modified(SystemTime::now() + ahead).unwrap();
    }
    let server = Running::start(folder.path(), |options| options.limits.session_bytes = Some(1 << 20)).await;
    assert!(uploads.join(&names[0]).exists(), "the clock may have been an hour wrong");
    assert!(!uploads.join(&names[1]).exists());
    let place = begin(&server).await.1;
    let patch = client().patch(format!("{}{place}", server.url)).body("x");
    assert_eq!(patch.send().await.unwrap().status(), 202);
}
