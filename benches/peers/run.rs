//! Rounds: every tool in turn, A B C A B C, each at a destination that never was, so that the machine's moods meet all.
//!
//! Round 0 warms caches of files and pages, and is run through counting proxies; its times are thrown away.

use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::check::check;
use crate::process::{Cost, measure};
use crate::proxy::{Counting, Link, Proxy};
use crate::publish::Publisher;
use crate::record::{Log, Record};
use crate::server::{self, Kind, Server};
use crate::tool::{Place, Tool};
use crate::workload::{Before, Workload};

/// A source, the tools, and all that has been measured.
#[derive(Debug)]
pub(crate) struct Bench {
    runtime: Runtime,
    source: Server,
    publisher: Publisher,
    tools: Vec<Tool>,
    rounds: usize,
    scratch: tempfile::TempDir,
    log: Log,
    pub(crate) records: Vec<Record>,
}

/// A destination, and what stands before both sides.
#[derive(Debug)]
struct Stage {
    destination: Server,
    /// Source and destination, where they are not spoken to directly.
    proxies: Option<[Proxy; 2]>,
}

impl Bench {
    pub(crate) fn new(source: Kind, tools: Vec<Tool>, rounds: usize, log: Log) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            source: Server::start(source),
            publisher: Publisher::default(),
            tools,
            rounds,
            scratch: server::folder(),
            log,
            records: Vec::new(),
        }
    }

    /// Measures all tools on `workload`; `wanted` says which of them.
    pub(crate) fn measure(&mut self, workload: &Workload, to: Kind, wanted: impl Fn(&Tool) -> bool) {
        self.publisher.publish(self.runtime.handle(), &self.source.host, workload);
        let tools: Vec<_> = self.tools.iter().filter(|tool| wanted(tool) && tool.suits(workload)).cloned().collect();
        // Where nothing is to change nothing has to be made anew either, and what tools remember may help them.
        let is_kept = matches!(workload.before, Before::Everything);
        let mut kept = None;
        for round in 0..=self.rounds {
            if round < 2 {
                kept = is_kept.then(|| self.stage(workload, to, round));
            }
            for tool in &tools {
                let fresh = if is_kept { None } else { Some(self.stage(workload, to, round)) };
                let Some(stage) = fresh.as_ref().or(kept.as_ref()) else { continue };
                let record = self.run(workload, to, tool, round, stage);
                tell(&record);
                self.log.line(&record);
                self.records.push(record);
            }
        }
    }

    fn stage(&self, workload: &Workload, to: Kind, round: usize) -> Stage {
        let destination = Server::start(to);
        let link = workload.link;
        let (link, counting) = match round {
            // What is asked does not hang on how fast bytes come; waiting for them would.
            0 => (Link { bits_per_second: None, ..link }, Counting::On),
            _ => (link, Counting::Off),
        };
        let needs_proxies = counting == Counting::On || !link.is_near();
        let proxy = |host: &str| Proxy::start(self.runtime.handle(), host, link, counting);
        let proxies = needs_proxies.then(|| [proxy(&self.source.host), proxy(&destination.host)]);
        let stage = Stage { destination, proxies };
        self.prepare(workload, &stage.destination.host);
        stage
    }

    /// Brings there what the workload begins with; the bound does that, so that no tool meets its own work.
    fn prepare(&self, workload: &Workload, host: &str) {
        let entries = match &workload.before {
            Before::Nothing => return,
            Before::Holding(former) => vec![former.clone()],
            Before::Everything => workload.entries.clone(),
        };
        let workload = Workload { entries, before: Before::Nothing, ..workload.clone() };
        let bound = self.tools.iter().find(|tool| tool.name == "bound").unwrap();
        self.carry(&workload, bound, &self.source.host, host).unwrap();
        check(host, &workload).unwrap();
    }

    fn run(&self, workload: &Workload, to: Kind, tool: &Tool, round: usize, stage: &Stage) -> Record {
        let hosts = stage.proxies.as_ref().map(|proxies| proxies.each_ref().map(|proxy| proxy.host.as_str()));
        let [from, there] = hosts.unwrap_or([&self.source.host, &stage.destination.host]);
        let before = stage.proxies.as_ref().map(|proxies| proxies.each_ref().map(Proxy::traffic));
        let outcome = self.carry(workload, tool, from, there);
        let outcome = outcome.and_then(|cost| check(&stage.destination.host, workload).map(|()| cost));
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
        let place = Place { workload, from, to, folder: &folder, home: &home };
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
        None => println!("{to:<9} {workload:<14} round {round} {tool:<10} {wall_seconds:8.3} s"),
        Some(why) => println!("{to:<9} {workload:<14} round {round} {tool:<10} WRONG: {why}"),
    }
}
