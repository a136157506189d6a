//! How much does SIGKILL cost? Bytes of an image that cross the link twice when its seed is killed repeatedly.
//!
//! Run `cargo bench --bench kill [-- KILLS [MIB_PER_SECOND [SEED]]]` with distribution 2.8 as `docker-registry` in
//! `AUTONOMY_PEERS_BIN` (`tests/peers` prints that folder) or in `PATH`.
//! One index of 3 platforms with 8 layers each, 1 GiB in all, goes from one registry to another. The seed is killed at 30
//! random points and restarted, with `--spool` and without. The link between the source and the program counts the bytes,
//! at 100 MiB a second by default; the program's own figures are not used.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::oci::{Digest, Name, Reference};
use autonomy_registry::store::{Registry, Role, Store};
use autonomy_registry::wire::{Client, ClientOptions};
use testkit::images::shape::{self, Image};
use testkit::link::Link;
use testkit::registry::{Kind, Server};

/// This program, as built for the bench.
const AUTONOMY: &str = env!("CARGO_BIN_EXE_autonomy");

/// Sizes of a platform's layers, in MiB; log-normal in spirit, 341 in all.
const LAYERS: [u64; 8] = [1, 3, 7, 15, 30, 45, 80, 160];

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let (kills, mib_per_second, seed) =
        (numbers.next().unwrap_or(30), numbers.next().unwrap_or(100), numbers.next().unwrap_or(1));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = Server::start(Kind::Distribution2, AUTONOMY);
    let image = shape::three_platforms(1, &LAYERS.map(|mib| mib << 20));
    runtime.block_on(publish(&image, &source.host));
    let points = points(seed, kills, image.size());
    println!("{} bytes, {kills} kills, {mib_per_second} MiB/s", image.size());
    for is_spooled in [true, false] {
        let (link, sink) = (Link::to(&source.host, mib_per_second << 20), Server::start(Kind::Distribution2, AUTONOMY));
        let home = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        for &point in &points {
            let mut child = start(&link, &sink, home.path(), is_spooled);
            while link.delivered() < point && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            forget_uploads(&sink);
        }
        assert!(start(&link, &sink, home.path(), is_spooled).wait().unwrap().success());
        assert_eq!(runtime.block_on(arrived(&sink.host)), image.root.digest);
        let twice = link.delivered().saturating_sub(image.size());
        let percent = twice as f64 * 100.0 / image.size() as f64;
        let name = if is_spooled { "spool" } else { "none" };
        println!(
            "{name:<6} {twice} bytes came twice, {percent:.2} % of the image; {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
}

/// The kill points, in bytes received.
fn points(seed: u64, kills: u64, size: u64) -> Vec<u64> {
    let noise = shape::noise(seed, kills * 8);
    let mut points: Vec<_> =
        noise.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) % size).collect();
    points.sort_unstable();
    points
}

fn start(link: &Link, sink: &Server, home: &Path, is_spooled: bool) -> Child {
    let mut command = Command::new(AUTONOMY);
    command.args(["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--accessories=none", "-q"]);
    command.args(["--from", &format!("{}/app:v1", link.host), "--to", &format!("{}/app:v1", sink.host)]);
    command.arg("--out").arg(home.join("out"));
    if is_spooled {
        command.arg("--spool").arg(home.join("spool"));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

/// An interrupted upload at this registry is useless, and would fill the memory.
fn forget_uploads(sink: &Server) {
    let _ = std::fs::remove_dir_all(sink.data().join("docker/registry/v2/repositories/app/_uploads"));
}

fn client() -> Client {
    Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap()
}

async fn publish(image: &Image, host: &str) {
    let reference: Reference = format!("{host}/app:v1").parse().unwrap();
    let sink = Registry::new(&client(), &reference.repository, Role::Sink);
    image.put(&sink, &[reference.tag.unwrap()]).await;
}

async fn arrived(host: &str) -> Digest {
    let reference: Reference = format!("{host}/app:v1").parse().unwrap();
    let sink = Registry::new(&client(), &reference.repository, Role::Source);
    sink.resolve(&Name::Tag(reference.tag.unwrap())).await.unwrap().digest
}
