//! What does a catalog cost, beside skopeo in parallel? Images of twelve layers, six of which all of them share.
//!
//! Run `cargo bench --bench catalog [-- ROUNDS [IMAGES]]` with `docker-registry` (distribution 2.8) and `skopeo` in `PATH`.
//! 100 images, layers from 4 KiB to 4 MiB, go from one registry to another on this machine: cold, and again with nothing
//! changed, by one `registry seed-catalog` and by `xargs -P4 skopeo copy --all`. The programs take turns; quote the ratios.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

#[expect(dead_code, unused_imports, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/images/shape/mod.rs"]
mod shape;
mod side_by_side;

use std::path::Path;
use std::process::Command;

use autonomy_registry::oci::Reference;
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, Options};

use side_by_side::{Cost, Server, measure, print, spread};

/// Sizes of the shared layers, and of each image's own.
const LAYERS: [u64; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let (rounds, images) = (numbers.next().unwrap_or(3), numbers.next().unwrap_or(100));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (source, sink) = (Server::start(), Server::start());
    runtime.block_on(publish(&source.host, images));
    let home = tempfile::tempdir().unwrap();
    let [mut cold, mut again, mut theirs, mut theirs_again] = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        let catalog = catalog(home.path(), &source.host, &sink.host, images);
        cold.push(measure(&mut ours(home.path(), &catalog, round)));
        again.push(measure(&mut ours(home.path(), &catalog, round)));
        sink.empty();
        let mut command = skopeo(home.path(), &source.host, &sink.host, images);
        theirs.push(measure(&mut command));
        theirs_again.push(measure(&mut command));
        sink.empty();
    }
    // The first round warms caches of files and pages; it does not count.
    print("autonomy", &cold[1..]);
    print(" again", &again[1..]);
    println!("skopeo    wall {} s", spread(theirs[1..].iter().map(|cost| cost.wall)));
    println!(" again    wall {} s", spread(theirs_again[1..].iter().map(|cost| cost.wall)));
    let ratio = |ours: &[Cost], theirs: &[Cost]| {
        spread(ours[1..].iter().zip(&theirs[1..]).map(|(ours, theirs)| ours.wall / theirs.wall))
    };
    println!("ratio     cold {}  again {}", ratio(&cold, &theirs), ratio(&again, &theirs_again));
}

fn ours(home: &Path, catalog: &Path, round: u64) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomy"));
    command.args(["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--accessories", "none"]);
    command.args(["--progress", "none", "--catalog"]).arg(catalog);
    command.arg("--out").arg(home.join(format!("out{round}")));
    command.stderr(std::process::Stdio::null());
    command
}

fn catalog(home: &Path, from: &str, to: &str, images: u64) -> std::path::PathBuf {
    let entry = |number| format!("  - from: {from}/fleet/{number}:v1\n    to: {to}/fleet/{number}:v1\n");
    let path = home.join("catalog.yaml");
    let entries: String = (0..images).map(entry).collect();
    std::fs::write(&path, format!("version: 1\nentries:\n{entries}")).unwrap();
    path
}

fn skopeo(home: &Path, from: &str, to: &str, images: u64) -> Command {
    let line = |number| format!("docker://{from}/fleet/{number}:v1 docker://{to}/fleet/{number}:v1\n");
    let list = home.join("list");
    std::fs::write(&list, (0..images).map(line).collect::<String>()).unwrap();
    let mut command = Command::new("xargs");
    command.arg("-a").arg(list).args(["-P4", "-n2", "skopeo", "copy", "--all", "--quiet"]);
    command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
    command
}

async fn publish(host: &str, images: u64) {
    let client = Client::new(Options { allow_plain_http: true, ..Options::default() }).unwrap();
    for number in 0..images {
        let reference: Reference = format!("{host}/fleet/{number}:v1").parse().unwrap();
        let sink = Registry::new(&client, &reference.repository, Role::Sink);
        shape::on_a_base(1, &LAYERS, 1000 + number, &LAYERS).put(&sink, &[reference.tag.unwrap()]).await;
    }
}
