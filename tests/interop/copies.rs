//! Seeds between every pair of registries, of images of every shape, read back with crane.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use autonomy_registry::oci::{Descriptor, Digest, Reference};
use autonomy_registry::store::{Registry, Role, Store};
use autonomy_registry::wire::{Client, ClientOptions};
use testkit::images;
use testkit::images::shape;

use crate::Case;
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "every shape of image arrives whole between every pair of registries",
        needs: &["crane", "docker-registry", "registry3"],
        run: every_pair,
    },
    Case { name: "every shape of image arrives whole at and from zot", needs: &["crane", "zot"], run: zot_pairs },
    Case {
        name: "skopeo as the transport brings the same digests",
        needs: &["crane", "skopeo", "docker-registry"],
        run: by_skopeo,
    },
];

/// Every shape of image, by name.
fn every_shape() -> Vec<(&'static str, shape::Image)> {
    vec![
        ("three-platforms", shape::three_platforms(1, &[100, 5000, 70_000])),
        ("docker-list", shape::docker_list(2, &[500, 3000])),
        ("single-manifest", shape::single_manifest(3, &[1000, 2000])),
        ("attestations", shape::with_attestations(4, &[2000])),
        ("artifact", shape::artifact_with_empty_config(5, 700)),
        ("nested-index", shape::nested_index(6, &[900])),
        ("shared-layer", shape::shared_layer_everywhere(7, 4000)),
        ("zero-byte-blob", shape::zero_byte_blob(8)),
        ("two-hundred-layers", shape::two_hundred_layers(9)),
    ]
}

/// A store for publishing test images, through this program's own client.
pub(crate) fn repository(host: &str, path: &str) -> Registry {
    let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
    let reference: Reference = format!("{host}/{path}:v1").parse().unwrap();
    Registry::new(&client, &reference.repository, Role::Sink)
}

/// Runs the future to completion on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// `autonomy registry seed` with its record in `out`.
pub(crate) fn seed(out: &Path, from: &str, to: &str, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(AUTONOMY);
    command.args(["registry", "seed", "--allow-insecure-registry", "--progress", "none", "--from", from, "--to", to]);
    command.arg("--out").arg(out).args(more).output().unwrap()
}

/// All blobs of a layout on disk, by digest; each is checked against its file name.
fn blobs(layout: &Path) -> BTreeMap<String, u64> {
    let folder = layout.join("blobs/sha256");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(Digest::sha256(&bytes).hex(), name);
            (name, bytes.len() as u64)
        })
        .collect()
}

/// The set of blobs that crane finds below `reference`.
fn pulled(peers: &Peers, reference: &str) -> BTreeMap<String, u64> {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    peers.run("crane", ["pull", "--insecure", "--format", "oci", reference, layout.to_str().unwrap()]);
    blobs(&layout)
}

fn pairs(peers: &Peers, sources: &[Kind], sinks: &[Kind]) {
    let every = every_shape();
    println!("table: {} shapes of image, each seeded between every pair", every.len());
    for &from in sources {
        let source = Server::start(peers, from);
        let mut published: Vec<(&str, Descriptor)> = Vec::new();
        for (name, image) in &every {
            let store = repository(&source.host, &format!("shapes/{name}"));
            published.push((name, block_on(image.put(&store, &["v1".parse().unwrap()]))));
        }
        for &to in sinks {
            let sink = Server::start(peers, to);
            let mut seconds = 0.0;
            for (name, root) in &published {
                let (source, sink) =
                    (format!("{}/shapes/{name}:v1", source.host), format!("{}/site/{name}:v1", sink.host));
                let out = tempfile::tempdir().unwrap();
                let done = seed(out.path(), &source, &sink, &["--skip-verify"]);
                assert!(done.status.success(), "{name} from {} to {}: {}", from.name(), to.name(), text(&done));
                let digest = root.digest.to_string();
                assert_eq!(peers.run("crane", ["digest", "--insecure", &sink]), digest, "{name}");
                assert_eq!(peers.run("crane", ["digest", "--insecure", &source]), digest, "{name}");
                assert_eq!(
                    pulled(peers, &sink),
                    pulled(peers, &source),
                    "{name} from {} to {}",
                    from.name(),
                    to.name()
                );
                let record: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(out.path().join("seed-manifest.json")).unwrap()).unwrap();
                assert_eq!(record["dest_digest"], digest);
                seconds += record["transfer"]["seconds"].as_f64().unwrap();
            }
            println!(
                "table: {:>16} -> {:<16} {} images equal, {seconds:.2} s",
                from.name(),
                to.name(),
                published.len()
            );
        }
    }
}

fn every_pair(peers: &Peers) {
    let kinds = [Kind::Embedded, Kind::Distribution2, Kind::Distribution3];
    pairs(peers, &kinds, &kinds);
}

fn zot_pairs(peers: &Peers) {
    let others = [Kind::Embedded, Kind::Distribution2, Kind::Distribution3, Kind::Zot];
    let there: Vec<_> = others.into_iter().filter(|kind| Kind::all(peers).contains(kind)).collect();
    pairs(peers, &[Kind::Zot], &there);
    pairs(peers, &there, &[Kind::Zot]);
}

fn by_skopeo(peers: &Peers) {
    let (source, sink) = (Server::start(peers, Kind::Distribution2), Server::start(peers, Kind::Embedded));
    let store = repository(&source.host, "app");
    let root = block_on(shape::three_platforms(7, &[1 << 12, 1 << 14]).put(&store, &[]));
    let out = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host), format!("{}/app:v1", sink.host));
    block_on(images::tag(&store, &root, "v1"));
    let path = std::env::join_paths([peers.path("skopeo").parent().unwrap().to_owned(), "/usr/bin".into()]).unwrap();
    let mut command = Command::new(AUTONOMY);
    command.env("PATH", path).args([
        "registry",
        "seed",
        "--allow-insecure-registry",
        "--skip-verify",
        "--transport",
        "skopeo",
    ]);
    let done = command.args(["--from", &from, "--to", &to, "--out"]).arg(out.path()).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(peers.run("crane", ["digest", "--insecure", &to]), root.digest.to_string());
    assert_eq!(pulled(peers, &to), pulled(peers, &from));
    let record = std::fs::read_to_string(out.path().join("seed-manifest.json")).unwrap();
    assert!(record.contains("\"engine\": \"skopeo\""), "{record}");
    let is_same = block_on(repository(&sink.host, "app").contains(&root)).unwrap();
    assert!(is_same);
}
