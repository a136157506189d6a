//! What does one large image cost, beside skopeo? Wall time, processor time and peak memory of whole processes.
//!
//! Run `cargo bench --bench one_gib [-- ROUNDS]` with `docker-registry` (distribution 2.8) and `skopeo` in `PATH`. One
//! index of 3 platforms with 8 layers each, 1 GiB in all, goes from one registry to another on this machine, both with
//! their storage in memory, into a fresh repository each time. The programs take turns, so that the machine's moods
//! meet both; quote the ratios. Layers are valid tar in gzip, of bytes that do not compress.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

#[expect(dead_code, unused_imports, reason = "shared with the tests, which need more of it")]
#[path = "../tests/it/images/shape/mod.rs"]
mod shape;
mod side_by_side;

use std::process::Command;

use autonomy_registry::oci::Reference;
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, Options};

use side_by_side::{Cost, Server, measure, print, spread};

/// Sizes of a platform's layers, in MiB; log-normal in spirit, 341 in all.
const LAYERS: [u64; 8] = [1, 3, 7, 15, 30, 45, 80, 160];

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (source, sink) = (Server::start(), Server::start());
    let from = format!("{}/w1:v1", source.host);
    runtime.block_on(publish(&from));
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let to = format!("{}/ours{round}:v1", sink.host);
        let arguments = ["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--progress", "none"];
        ours.push(measure(
            Command::new(env!("CARGO_BIN_EXE_autonomy"))
                .args(arguments)
                .args(["--from", &from, "--to", &to, "--out", out]),
        ));
        let (from, to) = (format!("docker://{from}"), format!("docker://{}/theirs{round}:v1", sink.host));
        theirs.push(measure(Command::new("skopeo").args([
            "copy",
            "--all",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &from,
            &to,
        ])));
        sink.empty();
    }
    // The first round warms caches of files and pages; it does not count.
    print("autonomy", &ours[1..]);
    print("skopeo", &theirs[1..]);
    let ratio = |pick: fn(&Cost) -> f64| spread(ours[1..].iter().zip(&theirs[1..]).map(|(a, b)| pick(a) / pick(b)));
    println!("ratio     wall {}  cpu {}  peak {}", ratio(|c| c.wall), ratio(|c| c.cpu), ratio(|c| c.peak));
}

async fn publish(reference: &str) {
    let reference: Reference = reference.parse().unwrap();
    let client = Client::new(Options { allow_plain_http: true, ..Options::default() }).unwrap();
    let sink = Registry::new(&client, &reference.repository, Role::Sink);
    let sizes = LAYERS.map(|mib| mib << 20);
    shape::three_platforms(1, &sizes).put(&sink, &[reference.tag.unwrap()]).await;
}
