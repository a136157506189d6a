//! How does each tool end when the line is away for a while? Exit code, bytes that move again, and time.
//!
//! Run `cargo bench --bench outage [-- [--seconds 3,20,120] [--only autonomy,crane] [--to 2.8.2,3.1.2,embedded]
//! [--at source-blob,sink-blob,manifest,restart] [--how closed,silent]]` with the programs of `tests/peers` in
//! `AUTONOMY_PEERS_BIN`. One image with a layer of 96 MiB goes from distribution 3 to each registry. A line to each side
//! is cut once, in the middle of the layer or when the manifest is put, for so many seconds; or the destination is killed
//! and started again. `closed` closes connections and refuses new ones, `silent` keeps them and lets nothing pass.
//! Fails if autonomy does not end with exit code 0 and the right digest.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::oci::{Digest, Name, Reference};
use autonomy_registry::store::{Registry, Role, Store};
use autonomy_registry::wire::{Client, ClientOptions};
use testkit::cut_line::{Cut, CutLine, Moment, Way};
use testkit::images::shape::{self, Image};
use testkit::registry::{Kind, Server, find};

/// This program, as built for the bench.
const AUTONOMY: &str = env!("CARGO_BIN_EXE_autonomy");

const LAYER: u64 = 96 << 20;

/// The line is cut after this many bytes.
const CUT_AT: u64 = 60 << 20;

/// A tool that is still running so long after the line has come back is ended.
const PATIENCE: Duration = Duration::from_secs(90);

const TOOLS: [&str; 5] = ["autonomy", "skopeo", "crane", "regctl", "oras"];

/// The moment of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    SourceBlob,
    SinkBlob,
    Manifest,
    Restart,
}

const MOMENTS: [(&str, At); 4] = [
    ("source-blob", At::SourceBlob),
    ("sink-blob", At::SinkBlob),
    ("manifest", At::Manifest),
    ("restart", At::Restart),
];

fn main() {
    let chosen = |flag: &str, all: &str| -> Vec<String> {
        let mut arguments = std::env::args().skip_while(|argument| argument != flag).skip(1);
        arguments.next().unwrap_or_else(|| all.to_owned()).split(',').map(str::to_owned).collect()
    };
    let seconds = chosen("--seconds", "3,20,120");
    let (tools, sinks) = (chosen("--only", &TOOLS.join(",")), chosen("--to", "2.8.2,3.1.2,embedded"));
    let (moments, ways) = (chosen("--at", "source-blob,sink-blob,manifest,restart"), chosen("--how", "closed,silent"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = Server::start(Kind::Distribution3, AUTONOMY);
    let image = shape::single_manifest(1, &[LAYER]);
    runtime.block_on(publish(&image, &source.host));
    println!(
        "| tool | to | cut | for | ends with | MiB again from source, to destination | s after the line is back |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut is_right = true;
    for kind in [Kind::Distribution2, Kind::Distribution3, Kind::Embedded] {
        for (name, at) in MOMENTS {
            for (how_name, how) in [("closed", Cut::Closed), ("silent", Cut::Silent)] {
                let is_wanted = sinks.iter().any(|sink| sink == kind.name())
                    && moments.iter().any(|moment| moment == name)
                    && ways.iter().any(|way| way == how_name)
                    && (at, how) != (At::Restart, Cut::Silent);
                if !is_wanted || kind.program(AUTONOMY).is_none() {
                    continue;
                }
                for away in seconds.iter().map(|seconds| Duration::from_secs(seconds.parse().unwrap())) {
                    for tool in tools.iter().filter(|tool| *tool == "autonomy" || find(tool).is_some()) {
                        let trial = Trial { tool, kind, at, how, away };
                        let ended = trial.run(&source, &image, &runtime);
                        println!(
                            "| {tool} | {} | {name}, {how_name} | {} s | {} | {:.1}, {:.1} | {} |",
                            kind.name(),
                            away.as_secs(),
                            ended.what,
                            ended.again[0],
                            ended.again[1],
                            ended.after.map_or("–".to_owned(), |after| format!("{:.1}", after.as_secs_f64())),
                        );
                        is_right &= tool != "autonomy" || ended.is_done;
                    }
                }
            }
        }
    }
    assert!(is_right, "autonomy did not survive every cut");
}

/// One run of one tool.
struct Trial<'a> {
    tool: &'a str,
    kind: Kind,
    at: At,
    how: Cut,
    away: Duration,
}

/// How it ended.
struct Ended {
    is_done: bool,
    what: String,
    /// MiB that came from the source, and went to the destination, more than once.
    again: [f64; 2],
    /// Time from the return of the line to the end.
    after: Option<Duration>,
}

impl Trial<'_> {
    fn run(&self, source: &Server, image: &Image, runtime: &tokio::runtime::Runtime) -> Ended {
        let mut sink = Server::start(self.kind, AUTONOMY);
        let (from, to) = (CutLine::to(&source.host), CutLine::to(&sink.host));
        let forever = Duration::from_secs(86_400);
        match self.at {
            At::SourceBlob => from.plan(Moment::After(Way::FromServer, CUT_AT), self.how, self.away),
            At::SinkBlob => to.plan(Moment::After(Way::ToServer, CUT_AT), self.how, self.away),
            At::Manifest => to.plan(Moment::At("PUT /v2/app/manifests/".into()), self.how, self.away),
            At::Restart => to.plan(Moment::After(Way::ToServer, CUT_AT), self.how, forever),
        }
        let home = tempfile::tempdir().unwrap();
        let mut child = start(self.tool, &from.host, &to.host, home.path());
        let mut cut = None;
        let mut status = None;
        while status.is_none() && cut.is_none_or(|cut: Instant| cut.elapsed() < self.away + PATIENCE) {
            if from.cuts() + to.cuts() > 0 && cut.is_none() {
                cut = Some(Instant::now());
                if self.at == At::Restart {
                    sink.restart(self.away);
                    to.join(None);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
            status = child.try_wait().unwrap();
        }
        let ended = Instant::now();
        let _ = child.kill();
        let _ = child.wait();
        let has_arrived = runtime.block_on(arrived(&sink.host)) == Some(image.root.digest);
        let again = [from.carried(Way::FromServer), to.carried(Way::ToServer)]
            .map(|bytes| bytes.saturating_sub(image.size()) as f64 / f64::from(1 << 20));
        let back = cut.map(|cut| cut + self.away);
        let what = match status.map(|status| (status.success(), status.code())) {
            Some((true, _)) if has_arrived => "done".to_owned(),
            Some((true, _)) => "exit 0 without the image".to_owned(),
            Some((false, code)) => {
                let when = cut.map_or(Duration::ZERO, |cut| ended.duration_since(cut));
                format!("exit {} after {:.1} s", code.unwrap_or(-1), when.as_secs_f64())
            }
            None => format!("hangs, ended {} s after the line was back", PATIENCE.as_secs()),
        };
        let is_done = what == "done" && cut.is_some();
        Ended {
            is_done,
            what,
            again,
            after: back.filter(|_| is_done).map(|back| ended.saturating_duration_since(back)),
        }
    }
}

fn start(tool: &str, from: &str, to: &str, home: &Path) -> Child {
    let program = if tool == "autonomy" { PathBuf::from(AUTONOMY) } else { find(tool).unwrap() };
    let (from, to) = (format!("{from}/app:v1"), format!("{to}/app:v1"));
    let mut command = Command::new(program);
    match tool {
        "autonomy" => {
            command.args([
                "registry",
                "seed",
                "--allow-insecure-registry",
                "--skip-verify",
                "--accessories=none",
                "-q",
            ]);
            command.args(["--from", &from, "--to", &to]).arg("--out").arg(home);
        }
        "skopeo" => {
            command.args(["--insecure-policy", "copy", "-q", "--all", "--preserve-digests"]);
            command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
            command.args([format!("docker://{from}"), format!("docker://{to}")]);
        }
        "crane" => {
            command.args(["copy", "--insecure", &from, &to]);
        }
        "regctl" => {
            let hosts =
                [&from, &to].map(|reference| format!("reg={},tls=disabled", reference.split('/').next().unwrap()));
            command.args(["--host", &hosts[0], "--host", &hosts[1], "image", "copy", &from, &to]);
        }
        _ => {
            command.args(["cp", "--from-plain-http", "--to-plain-http", &from, &to]);
        }
    }
    command.env("HOME", home).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

fn client() -> Client {
    Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap()
}

async fn publish(image: &Image, host: &str) {
    let reference: Reference = format!("{host}/app:v1").parse().unwrap();
    let sink = Registry::new(&client(), &reference.repository, Role::Sink);
    image.put(&sink, &[reference.tag.unwrap()]).await;
}

/// The digest of the image's tag at the destination.
async fn arrived(host: &str) -> Option<Digest> {
    let reference: Reference = format!("{host}/app:v1").parse().unwrap();
    let sink = Registry::new(&client(), &reference.repository, Role::Source);
    sink.resolve(&Name::Tag(reference.tag.unwrap())).await.ok().map(|node| node.digest)
}
