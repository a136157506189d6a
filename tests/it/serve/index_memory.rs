//! The memory of a server over an untrusted data folder whose index.json files have the maximum length.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use autonomy_registry::oci::{Descriptor, MediaType};
use futures_util::future::join_all;

use crate::kit::asking::client;
use crate::kit::serve_bed::{Program, Running};

const MEBIBYTE: u64 = 1 << 20;
const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn layout(data: &Path, repository: &str, index: &str) {
    let folder = data.join("repositories").join(repository).join("_layout");
    let node = Descriptor::of(MediaType::OCI_INDEX, MANIFEST.as_bytes());
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("blobs/sha256").join(node.digest.hex()), MANIFEST).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), index).unwrap();
}

fn tagged(tags: usize) -> String {
    let node = Descriptor::of(MediaType::OCI_INDEX, MANIFEST.as_bytes());
    let entry = |n: usize| {
        let mut node = node.clone();
        node.annotations.insert("org.opencontainers.image.ref.name".into(), format!("tag-{n}"));
        serde_json::to_string(&node).unwrap()
    };
    let entries: Vec<_> = (0..tags).map(entry).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
}

fn peak(server: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_of_many_repositories_stay_within_the_memory_and_all_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let index = tagged(25_000);
    (0..8).for_each(|n| layout(folder.path(), &format!("r{n}"), &index));
    let server = Program::start(folder.path(), [""; 0]);
    let list = |n: usize| client().get(format!("{}/v2/r{}/tags/list?n=2", server.url, n % 8)).send();
    for answer in join_all((0..8).map(list)).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("link")), (200, true));
    }
    let put = |n: usize| {
        let request = client().put(format!("{}/v2/r{n}/manifests/new", server.url));
        request.header("content-type", MediaType::OCI_INDEX.as_str()).body(MANIFEST).send()
    };
    for answer in join_all((6..8).map(put)).await {
        assert_eq!(answer.unwrap().status(), 201);
    }
    let peak = peak(&server);
    assert!(peak < 256 * MEBIBYTE, "{} MiB resident", peak / MEBIBYTE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_damaged_is_a_failure_of_the_server_and_not_of_the_client() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path(), "broken", r#"{"schemaVersion":2,"manifests":[{"#);
    layout(folder.path(), "long", &" ".repeat((32 << 20) + 1));
    layout(folder.path(), "right", &tagged(1));
    let server = Running::start(folder.path(), |_| {}).await;
    for (repository, expected) in [("broken", 500), ("long", 500), ("right", 200)] {
        for path in ["tags/list", "manifests/tag-0"] {
            let answer = client().get(format!("{}/v2/{repository}/{path}", server.url)).send().await.unwrap();
            assert_eq!(answer.status(), expected, "{repository} {path}");
            assert!(expected == 200 || answer.text().await.unwrap().contains("UNKNOWN"));
        }
        let put = client().put(format!("{}/v2/{repository}/manifests/new", server.url));
        let put = put.header("content-type", MediaType::OCI_INDEX.as_str()).body(MANIFEST);
        assert_eq!(put.send().await.unwrap().status(), if expected == 200 { 201 } else { 500 });
    }
}
