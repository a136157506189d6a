//! Does a program that seeds for an hour over bad links grow, and does a wrong digest ever pass?
//!
//! Run `cargo bench --bench soak [-- MINUTES [PERCENT [SEED]]]`; by default 60 minutes and 2 %. One process seeds
//! endlessly, through one client, from one embedded registry to another; each request to either fails with the given
//! chance: refused, reset, cut, damaged, delayed, or answered by a portal. This process runs the registries and judges: it
//! reads each destination on the disk, from outside, and removes it. Every minute it prints the memory of the other process
//! and the results of its seeds.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::copy::Events;
use autonomy_registry::oci::{Digest, Name};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::store::Store as _;
use autonomy_registry::transport::Native;
use autonomy_registry::trust::{artifact, simple_signing};
use autonomy_registry::verify::{Demands, PublicKey, SigningKey, signature_tag};
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{self, Seed, Trust};
use testkit::images::shape;

/// Images that take turns: of two platforms each, from a few KiB to a few MiB.
const IMAGES: u64 = 8;
/// Concurrent seeds.
const JOBS: usize = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.as_slice() {
        [mode, from, to, key] if mode == "seeder" => runtime.block_on(seed_without_end(from, to, key)),
        numbers => {
            let number = |at: usize, default: f64| numbers.get(at).map_or(default, |text| text.parse().unwrap());
            runtime.block_on(judge(number(0, 60.0), number(1, 2.0) / 100.0, number(2, 1.0) as u64));
        }
    }
}

/// The expected content, and the results so far.
struct Judge {
    sink: Testbed,
    roots: Vec<Digest>,
    seeder: Child,
    /// How the seeds ended, by kind.
    ended: BTreeMap<String, u64>,
    /// Done, but wrong; or a file on disk that does not match its name.
    wrong: Vec<String>,
    retries: u64,
}

async fn judge(minutes: f64, chance: f64, seed: u64) {
    let (source, sink) = (Testbed::start().await, Testbed::start().await);
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("cosign.pub");
    let roots = publish(&source, &key).await;
    source.weather(chance, seed);
    sink.weather(chance, seed + 1);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["seeder", source.host(), sink.host()]).arg(&key).stdout(Stdio::piped());
    let mut seeder = command.spawn().unwrap();
    let told = lines(seeder.stdout.take().unwrap());
    let (ended, wrong) = (BTreeMap::new(), Vec::new());
    let mut judge = Judge { sink, roots, seeder, ended, wrong, retries: 0 };
    println!("minute  resident MiB  highest MiB  seeds  done  retries  failed by kind");
    let begun = Instant::now();
    let (mut minute, mut sizes) = (1.0, Vec::new());
    while minute <= minutes {
        let left = Duration::from_secs_f64(60.0 * minute).saturating_sub(begun.elapsed());
        match told.recv_timeout(left) {
            Ok(line) => judge.look(&line).await,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                sizes.push(judge.report(minute));
                minute += 1.0;
                // Counted requests are no longer needed, and would grow.
                source.clear_log();
                judge.sink.clear_log();
            }
            Err(why) => panic!("the seeder has ended: {why}, {:?}", judge.seeder.wait()),
        }
    }
    judge.end(&sizes);
}

/// The lines of the seeder, each as soon as it arrives.
fn lines(stdout: ChildStdout) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || BufReader::new(stdout).lines().try_for_each(|line| sender.send(line.unwrap())));
    receiver
}

/// Puts the images on the source's disk, signed.
async fn publish(source: &Testbed, public: &Path) -> Vec<Digest> {
    let key = SigningKey::generate().unwrap();
    std::fs::write(public, key.public_pem().unwrap()).unwrap();
    let mut roots = Vec::new();
    for number in 0..IMAGES {
        let path = format!("app/{number}");
        let layout = source.layout(&path);
        let image = shape::two_platforms(number + 1, &[4 << 10, 64 << 10, 40_000 << number]);
        let root = image.put(&layout, &["v1".parse().unwrap()]).await;
        let signed = simple_signing::legacy(&source.repository(&path), &root.digest, Some(jiff::Timestamp::now()));
        let signature = key.sign(&signed).unwrap();
        let attached = artifact::legacy_manifest(&[], &[(signed, signature)]);
        for (node, bytes) in attached.blobs {
            let body = autonomy_registry::store::Body::bytes(node.clone(), bytes);
            layout.put(&node, &body, &[]).await.unwrap();
        }
        let body = autonomy_registry::store::Body::bytes(attached.node.clone(), attached.manifest);
        layout.put(&attached.node, &body, &[signature_tag(&root.digest).unwrap()]).await.unwrap();
        roots.push(root.digest);
    }
    roots
}

impl Judge {
    /// Parses `<number> <how it ended> <retries>`, and checks the destination.
    async fn look(&mut self, line: &str) {
        let [number, ended, retries] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        *self.ended.entry(ended.to_owned()).or_default() += 1;
        self.retries += retries.parse::<u64>().unwrap();
        let root = self.roots[(number.parse::<u64>().unwrap() % IMAGES) as usize];
        let path = format!("site/{number}");
        let name = Name::Tag("v1".parse().unwrap());
        let named = self.sink.layout(&path).resolve(&name).await.ok().map(|found| found.digest);
        // A failed seed may have put its tag without getting the answer; a tag on anything else is wrong.
        if named.is_some_and(|named| named != root) || (ended == "done" && named.is_none()) {
            self.wrong.push(format!("seed {number}, {ended}: its tag names {named:?}, not {root}"));
        }
        let folder = self.sink.data_dir().join("repositories").join(path);
        for file in files(&folder) {
            let named = file.file_name().unwrap().to_string_lossy().into_owned();
            if file.parent().unwrap().ends_with("blobs/sha256") && named.len() == 64 {
                let found = Digest::sha256(&std::fs::read(&file).unwrap());
                if found.hex() != named {
                    self.wrong.push(format!("seed {number}: {named} holds {found}"));
                }
            }
        }
        let _ = std::fs::remove_dir_all(folder);
    }

    /// Prints a line and returns the seeder's memory, in KiB.
    fn report(&self, minute: f64) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.seeder.id())).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let (now, most) = (kib("VmRSS:"), kib("VmHWM:"));
        let (seeds, done) = (self.ended.values().sum::<u64>(), self.ended.get("done").copied().unwrap_or_default());
        let failed: Vec<_> = self.ended.iter().filter(|(kind, _)| *kind != "done").collect();
        let mib = |kib: u64| kib as f64 / 1024.0;
        let retries = self.retries;
        println!(
            "{minute:>6}  {:>12.1}  {:>11.1}  {seeds:>5}  {done:>4}  {retries:>7}  {failed:?}",
            mib(now),
            mib(most)
        );
        now
    }

    /// The verdict. Growth is the last quarter against the second: the first fills caches and pools.
    fn end(mut self, sizes: &[u64]) {
        let _ = self.seeder.kill();
        let _ = self.seeder.wait();
        let mean = |sizes: &[u64]| sizes.iter().sum::<u64>() as f64 / 1024.0 / sizes.len().max(1) as f64;
        let quarter = sizes.len().div_ceil(4);
        let early = sizes.get(quarter..2 * quarter).unwrap_or(sizes);
        let (early, late) = (mean(early), mean(&sizes[sizes.len() - quarter.min(sizes.len())..]));
        let seeds = self.ended.values().sum::<u64>();
        let done = self.ended.get("done").copied().unwrap_or_default();
        for wrong in &self.wrong {
            println!("WRONG: {wrong}");
        }
        let is_right = self.wrong.is_empty() && done > 0 && late < early * 1.25 + 4.0;
        println!(
            "verdict: {}: {seeds} seeds, {done} done, {} wrong digests or tags, resident {early:.1} MiB early and {late:.1} MiB late",
            if is_right { "passed" } else { "FAILED" },
            self.wrong.len(),
        );
        if !is_right {
            std::process::exit(1);
        }
    }
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// The observed process: seeds one image after the other, each into a repository of its own.
async fn seed_without_end(from: &str, to: &str, key: &str) {
    let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
    let demands = Demands::new(vec![PublicKey::from_pem(&std::fs::read(key).unwrap()).unwrap()]);
    let home = tempfile::tempdir().unwrap();
    let numbers = std::sync::atomic::AtomicU64::new(0);
    let line = || async {
        loop {
            let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let image = number % IMAGES;
            let folder = home.path().join(number.to_string());
            let from = format!("{from}/app/{image}:v1").parse().unwrap();
            let to = format!("{to}/site/{number}:v1").parse().unwrap();
            let trust = Trust::Verify { demands: Box::new(demands.clone()), key: key.to_owned() };
            let seed = Seed { folder: folder.clone(), ..Seed::new(from, to, trust) };
            let events = Events::none();
            let done = workflow::seed(&seed, &client, &workflow::Journal::none(), &Native, &events).await;
            let (ended, retries) = match &done {
                Ok(done) => ("done".to_owned(), done.seed.transfer.as_ref().map_or(0, |transfer| transfer.retries)),
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "seed {number}: {}", error.chain());
                    (error.kind().as_str().replace(' ', "-"), 0)
                }
            };
            let _ = std::fs::remove_dir_all(folder);
            // The reader has gone, so no more seeds are needed.
            if writeln!(std::io::stdout(), "{number} {ended} {retries}").is_err() {
                return;
            }
        }
    };
    futures_util::future::join_all((0..JOBS).map(|_| line())).await;
}
