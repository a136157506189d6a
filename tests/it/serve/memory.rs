//! The memory of a server whose connections all do their worst, measured by the kernel.
#![cfg(target_os = "linux")]

use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::attacked::connect;
use crate::kit::asking::client;
use crate::kit::serve_bed::{PATIENCE, Program};

const MEBIBYTE: u64 = 1 << 20;

/// Bytes that a server may have resident.
const MOST: u64 = 256 * MEBIBYTE;

struct Attacked {
    server: Program,
    host: String,
    _folder: tempfile::TempDir,
}

impl Attacked {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Program::start(folder.path(), [""; 0]);
        let host = server.url.strip_prefix("http://").unwrap().to_owned();
        Self { server, host, _folder: folder }
    }

    /// Peak resident memory so far.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The maximum number of connections, from four addresses; each sends `text` of its number.
    async fn connect(&self, text: impl Fn(usize) -> String) -> Vec<TcpStream> {
        let mut all = Vec::new();
        for n in 0..400 {
            all.push(connect(&self.host, u8::try_from(n % 4 + 1).unwrap(), &text(n)).await);
        }
        all
    }

    async fn push(&self, reference: &str, text: &str) -> u16 {
        let url = format!("{}/v2/app/manifests/{reference}", self.server.url);
        let request = client().put(url).header("content-type", MediaType::OCI_MANIFEST.as_str());
        request.body(text.to_owned()).send().await.unwrap().status().as_u16()
    }

    async fn push_config(&self) -> Descriptor {
        let node = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        let url = format!("{}/v2/app/blobs/uploads/?digest={}", self.server.url, node.digest);
        assert_eq!(client().post(url).body("{}").send().await.unwrap().status(), 201);
        node
    }

    /// Waits until the server has closed all connections.
    async fn emptied(&self) {
        let open = async || {
            let text = client().get(format!("{}/metrics", self.server.url)).send().await.unwrap().text().await.unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("autonomy_registry_connections ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        let emptied = async {
            while open().await > 5 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, emptied).await.expect("connections end");
    }

    fn check(&self, what: &str) {
        let peak = self.peak();
        assert!(peak < MOST, "{what}: {} MiB resident", peak / MEBIBYTE);
    }
}

/// A manifest with this many bytes of annotations.
fn manifest(config: &Descriptor, subject: Option<&Descriptor>, bytes: usize, salt: usize) -> String {
    let annotations: serde_json::Map<String, serde_json::Value> =
        (0..bytes / 1000).map(|n| (format!("{salt} {n}"), "x".repeat(985).into())).collect();
    let mut text = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [], "annotations": annotations,
    });
    if let Some(subject) = subject {
        text["subject"] = serde_json::to_value(subject).unwrap();
    }
    text.to_string()
}

/// Waits until each has the beginning of a response.
async fn answered(all: &mut [TcpStream], expected: &str) {
    for stream in all {
        let mut text = vec![0; expected.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut text)).await.expect("an answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_nobody_reads_and_that_do_not_end_stay_within_the_memory() {
    let attacked = Attacked::start();
    let config = attacked.push_config().await;
    let text = manifest(&config, None, 3_700_000, 0);
    assert_eq!(attacked.push("v1", &text).await, 201);
    let get = |_| "GET /v2/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let mut readers = attacked.connect(get).await;
    answered(&mut readers, "HTTP/1.1 200").await;
    attacked.check("400 readers of one manifest");
    drop(readers);
    attacked.emptied().await;

    let put = |n: usize| {
        let length = if n < 200 { 3_700_000 } else { 32_000 };
        format!(
            "PUT /v2/app/manifests/t{n} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {length}\r\n\r\n",
            MediaType::OCI_MANIFEST
        )
    };
    let mut writers = attacked.connect(put).await;
    // All but the end, as far as the server reads it.
    let writing = writers.iter_mut().enumerate().map(|(n, stream)| {
        let bytes = vec![b' '; if n < 200 { 3_699_999 } else { 31_999 }];
        async move {
            let _ = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&bytes)).await;
        }
    });
    futures_util::future::join_all(writing).await;
    attacked.check("400 manifests that do not end");
    // Small manifests are still accepted.
    assert_eq!(attacked.push("v2", &manifest(&config, None, 2000, 1)).await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_referrers_stay_within_the_memory() {
    let attacked = Attacked::start();
    let config = attacked.push_config().await;
    let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"subject");
    for n in 0..12 {
        let text = manifest(&config, Some(&subject), 3_900_000, n);
        assert_eq!(attacked.push(&Digest::sha256(text.as_bytes()).to_string(), &text).await, 201);
    }
    for n in 0..300 {
        let text = manifest(&config, Some(&subject), 7_000, n);
        assert_eq!(attacked.push(&Digest::sha256(text.as_bytes()).to_string(), &text).await, 201);
    }
    let get = format!("GET /v2/app/referrers/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", subject.digest);
    let mut readers = attacked.connect(|_| get.clone()).await;
    answered(&mut readers, "HTTP/1.1 200").await;
    attacked.check("400 lists of referrers");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_downloads_of_blobs_stay_within_the_memory() {
    let attacked = Attacked::start();
    let mut places = Vec::new();
    for _ in 0..400 {
        let url = format!("{}/v2/app/blobs/uploads/", attacked.server.url);
        places.push(client().post(url).send().await.unwrap().headers()["location"].to_str().unwrap().to_owned());
    }
    // Half of them in pieces of one byte.
    let patch = |n: usize| {
        let length = if n % 8 < 4 { "Content-Length: 10000000" } else { "Transfer-Encoding: chunked" };
        format!("PATCH {} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n", places[n])
    };
    let mut writers = attacked.connect(patch).await;
    let writing = writers.iter_mut().enumerate().map(|(n, stream)| {
        let bytes = if n % 8 < 4 { vec![7; 300_000] } else { b"1\r\nx\r\n".repeat(5_000) };
        async move { stream.write_all(&bytes).await.unwrap() }
    });
    futures_util::future::join_all(writing).await;
    attacked.check("400 uploads");
    drop(writers);
    attacked.emptied().await;

    let blob = vec![7; 4 << 20];
    let digest = Digest::sha256(&blob);
    let url = format!("{}/v2/app/blobs/uploads/?digest={digest}", attacked.server.url);
    assert_eq!(client().post(url).body(blob).send().await.unwrap().status(), 201);
    let get = format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut readers = attacked.connect(|_| get.clone()).await;
    answered(&mut readers, "HTTP/1.1 200").await;
    attacked.check("400 downloads");
}
