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

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::oci::Reference;
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::{Client, Options};

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

/// What one run took: seconds, seconds, MiB.
struct Cost {
    wall: f64,
    cpu: f64,
    peak: f64,
}

fn print(name: &str, costs: &[Cost]) {
    let all = |pick: fn(&Cost) -> f64| spread(costs.iter().map(pick));
    println!("{name:<9} wall {} s  cpu {} s  peak {} MiB", all(|c| c.wall), all(|c| c.cpu), all(|c| c.peak));
}

/// `median (least to most)`.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Runs a program to its end and reads what it took from `/proc` until nothing is left of it but its exit code.
fn measure(command: &mut Command) -> Cost {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
    let folder = format!("/proc/{}", child.id());
    let mut peak = 0.0_f64;
    let (wall, cpu) = loop {
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = high.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()) {
            peak = peak.max(kib / 1024.0);
        }
        if status.contains("State:\tZ") {
            break (begun.elapsed().as_secs_f64(), processor_seconds(&folder));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(child.wait().unwrap().success(), "{command:?}");
    Cost { wall, cpu, peak }
}

/// User and system time, from fields 14 and 15 of `stat`, which the kernel keeps until the process is waited for.
fn processor_seconds(folder: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

struct Server {
    host: String,
    child: Child,
    home: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let folder = home.path().display();
        let config = home.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\nhttp:\n  addr: {host}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(&host).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { host, child, home }
    }

    /// Forgets everything, so that memory lasts for many rounds.
    fn empty(&self) {
        let _ = std::fs::remove_dir_all(self.home.path().join("data"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn publish(reference: &str) {
    let reference: Reference = reference.parse().unwrap();
    let client = Client::new(Options { allow_plain_http: true, ..Options::default() }).unwrap();
    let sink = Registry::new(&client, &reference.repository, Role::Sink);
    let sizes = LAYERS.map(|mib| mib << 20);
    shape::three_platforms(1, &sizes).put(&sink, &[reference.tag.unwrap()]).await;
}
