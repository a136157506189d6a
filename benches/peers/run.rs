//! Rounds: every tool in turn, A B C A B C, each at a new destination, so that variations of the machine affect all of
//! them.
//!
//! Round 0 warms caches of files and pages, and runs through counting proxies; its times are discarded.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::proxy::{Counting, Link, Proxy};
use testkit::registry::{self, Kind, Server};
use testkit::tls::Authority;
use tokio::runtime::Runtime;

use crate::AUTONOMY;
use crate::check::check;
use crate::process::{Cost, measure};
use crate::publish::Publisher;
use crate::record::{Log, Record};
use crate::tool::{Place, Tool};
use crate::workload::{Before, Transport, Workload};

/// Sources, the tools, and all measurements.
#[derive(Debug)]
pub(crate) struct Bench {
    runtime: Runtime,
    authority: Authority,
    from: Kind,
    source: Source,
    /// With TLS; started by the first workload that needs it.
    secured: Option<Source>,
    tools: Vec<Tool>,
    scratch: tempfile::TempDir,
    log: Log,
    pub(crate) records: Vec<Record>,
}

/// A registry that gets images when workloads need them.
#[derive(Debug)]
struct Source {
    server: Server,
    publisher: Publisher,
}

/// A destination, and the proxies before both sides.
#[derive(Debug)]
struct Stage {
    transport: Transport,
    destination: Server,
    /// Source and destination, where a proxy is used.
    proxies: Option<[Proxy; 2]>,
}

impl Bench {
    pub(crate) fn new(from: Kind, tools: Vec<Tool>, log: Log) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            authority: Authority::make(),
            from,
            source: Source { server: Server::start(from, AUTONOMY), publisher: Publisher::default() },
            secured: None,
            tools,
            scratch: registry::folder(),
            log,
            records: Vec::new(),
        }
    }

    /// Measures all tools on `workload`, once to warm up and then `rounds` times; `wanted` selects the tools.
    pub(crate) fn measure(&mut self, workload: &Workload, to: Kind, rounds: usize, wanted: impl Fn(&Tool) -> bool) {
        self.publish(workload);
        let tools: Vec<_> = self.tools.iter().filter(|tool| wanted(tool) && tool.suits(workload)).cloned().collect();
        // If nothing is to change, the destination can be reused, and tools may use their caches.
        let is_kept = matches!(workload.before, Before::Everything);
        let mut kept = None;
        let begun = Instant::now();
        for round in 0..=rounds {
            if round < 2 {
                kept = is_kept.then(|| self.stage(workload, to, round, workload.transport));
            }
            for tool in tools.iter().filter(|tool| round == 0 || !tool.is_counted_only()) {
                let fresh = (!is_kept).then(|| self.stage(workload, to, round, tool.transport(workload)));
                let Some(stage) = fresh.as_ref().or(kept.as_ref()) else { continue };
                let record = self.run(workload, to, tool, round, stage);
                tell(&record);
                self.log.line(&record);
                self.records.push(record);
            }
            if round == 0 {
                forecast(workload, to, rounds, begun.elapsed());
            }
        }
    }

    fn publish(&mut self, workload: &Workload) {
        let runtime = self.runtime.handle();
        let mut sources = vec![&mut self.source];
        if workload.transport == Transport::Tls {
            let start = || Source {
                server: Server::start_secured(self.from, AUTONOMY, &self.authority, runtime),
                publisher: Publisher::default(),
            };
            sources.push(self.secured.get_or_insert_with(start));
        }
        for source in sources {
            source.publisher.publish(runtime, source.server.plain_host(), workload);
        }
    }

    fn source(&self, transport: Transport) -> &Server {
        match transport {
            Transport::Plain => &self.source.server,
            Transport::Tls => &self.secured.as_ref().unwrap().server,
        }
    }

    fn stage(&self, workload: &Workload, to: Kind, round: usize, transport: Transport) -> Stage {
        let runtime = self.runtime.handle();
        let destination = match transport {
            Transport::Plain => Server::start(to, AUTONOMY),
            Transport::Tls => Server::start_secured(to, AUTONOMY, &self.authority, runtime),
        };
        let link = workload.link;
        let (link, counting) = match (round, transport) {
            // The requests do not depend on the rate, so round 0 runs without one and saves time.
            (0, Transport::Plain) => (Link { bits_per_second: None, ..link }, Counting::Requests),
            (0, Transport::Tls) => (Link { bits_per_second: None, ..link }, Counting::Connections),
            _ => (link, Counting::Off),
        };
        let needs_proxies = counting != Counting::Off || !link.is_near();
        let proxy = |host: &str| Proxy::start(runtime, host, link, counting);
        let proxies = needs_proxies.then(|| [proxy(&self.source(transport).host), proxy(&destination.host)]);
        let stage = Stage { transport, destination, proxies };
        self.prepare(workload, stage.destination.plain_host());
        stage
    }

    /// Puts the workload's initial content there; the bound does that, so that no tool finds its own work.
    fn prepare(&self, workload: &Workload, host: &str) {
        let entries = match &workload.before {
            Before::Nothing => return,
            Before::Holding(former) => vec![former.clone()],
            Before::Everything => workload.entries.clone(),
        };
        let workload = Workload { entries, before: Before::Nothing, transport: Transport::Plain, ..workload.clone() };
        let bound = self.tools.iter().find(|tool| tool.name == "bound").unwrap();
        self.carry(&workload, bound, &self.source.server.host, host).unwrap();
        check(host, &workload).unwrap();
    }

    fn run(&self, workload: &Workload, to: Kind, tool: &Tool, round: usize, stage: &Stage) -> Record {
        let hosts = stage.proxies.as_ref().map(|proxies| proxies.each_ref().map(|proxy| proxy.host.as_str()));
        let [from, there] = hosts.unwrap_or([&self.source(stage.transport).host, &stage.destination.host]);
        let before = stage.proxies.as_ref().map(|proxies| proxies.each_ref().map(Proxy::traffic));
        let outcome = self.carry(workload, tool, from, there);
        let outcome = outcome.and_then(|cost| check(stage.destination.plain_host(), workload).map(|()| cost));
        let mut record = Record::new(to, workload, &tool.name, round, outcome);
        if let (0, Some(proxies), Some(before)) = (round, &stage.proxies, before) {
            let [source, destination] = proxies.each_ref().map(Proxy::traffic);
            record.source = Some(source.since(&before[0]));
            record.destination = Some(destination.since(&before[1]));
        }
        record
    }

    fn carry(&self, workload: &Workload, tool: &Tool, from: &str, to: &str) -> Result<Cost, String> {
        let folder = self.folder("run");
        let _ = std::fs::remove_dir_all(&folder);
        for path in [&folder, &self.folder(&format!("home-{}", tool.name))] {
            std::fs::create_dir_all(path).unwrap();
        }
        let home = self.folder(&format!("home-{}", tool.name));
        let place = Place { workload, from, to, folder: &folder, home: &home, authority: &self.authority };
        measure(tool.commands(&place), &folder.join("log"))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

#[expect(clippy::print_stdout, reason = "says how far it is")]
fn tell(record: &Record) {
    let Record { to, workload, tool, round, wall_seconds, wrong, .. } = record;
    match wrong {
        None => println!("{to:<9} {workload:<14} round {round} {tool:<17} {wall_seconds:8.3} s"),
        Some(why) => println!("{to:<9} {workload:<14} round {round} {tool:<17} WRONG: {why}"),
    }
}

/// The remaining rounds take about as long as the last one, unless their line has a rate, which round 0 had not.
#[expect(clippy::print_stdout, reason = "says how long it is going to take")]
fn forecast(workload: &Workload, to: Kind, rounds: usize, one: Duration) {
    let (to, name, seconds) = (to.name(), &workload.name, one.as_secs_f64() * rounds as f64);
    let about = if workload.link.bits_per_second.is_some() { "more than" } else { "about" };
    println!("{to:<9} {name:<14} rounds to go: {rounds}, {about} {seconds:.0} s");
}
