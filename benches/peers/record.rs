//! The measurements: one record a run, one line of JSON a record.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testkit::registry::{self, Kind};
use testkit::tally::Traffic;

use crate::AUTONOMY;
use crate::process::Cost;
use crate::workload::Workload;

/// One run of one tool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The destination.
    pub(crate) to: String,
    pub(crate) workload: String,
    /// Place of the workload in a growth series.
    pub(crate) at: Option<f64>,
    pub(crate) images: usize,
    /// Nodes and bytes, each counted once however many images have it.
    pub(crate) nodes: usize,
    pub(crate) bytes: u64,
    pub(crate) tool: String,
    /// Round 0 warms and counts; its times are not used.
    pub(crate) round: usize,
    pub(crate) wall_seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: f64,
    /// The reason why the run does not count: the tool failed, or the destination is not right.
    pub(crate) wrong: Option<String>,
    /// Traffic on each side, in round 0.
    pub(crate) source: Option<Traffic>,
    pub(crate) destination: Option<Traffic>,
}

impl Record {
    pub(crate) fn new(to: Kind, workload: &Workload, tool: &str, round: usize, outcome: Result<Cost, String>) -> Self {
        let (cost, wrong) = match outcome {
            Ok(cost) => (cost, None),
            Err(why) => (Cost::default(), Some(why)),
        };
        let (nodes, bytes) = workload.weight();
        Self {
            to: to.name().to_owned(),
            workload: workload.name.clone(),
            at: workload.at,
            images: workload.entries.len(),
            nodes,
            bytes,
            tool: tool.to_owned(),
            round,
            wall_seconds: cost.wall,
            cpu_seconds: cost.cpu,
            peak_mib: cost.peak,
            wrong,
            source: None,
            destination: None,
        }
    }

    /// Whether its times count.
    pub(crate) fn counts(&self) -> bool {
        self.round > 0 && self.wrong.is_none()
    }
}

/// Writes lines at once, so that an aborted run is not lost.
#[derive(Debug)]
pub(crate) struct Log {
    file: std::fs::File,
}

impl Log {
    pub(crate) fn create(path: PathBuf, head: &Value) -> Self {
        let mut log = Self { file: std::fs::File::create(path).unwrap() };
        log.line(head);
        log
    }

    pub(crate) fn line(&mut self, value: &impl Serialize) {
        writeln!(self.file, "{}", serde_json::to_string(value).unwrap()).unwrap();
    }
}

/// Results of earlier runs: the circumstances of the first, and the records of all.
pub(crate) fn read(paths: &[PathBuf]) -> Result<(Value, Vec<Record>), String> {
    let mut circumstances = Value::Null;
    let mut records = Vec::new();
    for path in paths {
        let failed = |why: &dyn std::fmt::Display| format!("--render {}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|why| failed(&why))?;
        let mut lines = text.lines();
        let first = serde_json::from_str(lines.next().unwrap_or_default()).map_err(|why| failed(&why))?;
        if circumstances.is_null() {
            circumstances = first;
        }
        for line in lines {
            records.push(serde_json::from_str(line).map_err(|why| failed(&why))?);
        }
    }
    Ok((circumstances, records))
}

/// The machine, the programs and the settings: without them figures mean nothing.
pub(crate) fn circumstances(from: Kind, scale: f64, rounds: [usize; 2]) -> Value {
    let line = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_matches([' ', '\t', ':']).to_owned()))
    };
    let versions: serde_json::Map<_, _> =
        ["docker-registry", "registry3", "skopeo", "regctl", "regsync", "crane", "oras"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), version(registry::find(name)?).into())))
            .chain([("autonomy".to_owned(), version(AUTONOMY.into()).into())])
            .collect();
    json!({
        "processor": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
        "profile": if cfg!(debug_assertions) { "not optimised" } else { "optimised" },
        "source": from.name(),
        "scale": scale,
        "rounds": rounds[0],
        "growth rounds": rounds[1],
        "versions": versions,
    })
}

fn version(program: PathBuf) -> String {
    let ask = |word: &str| {
        let output = Command::new(&program).arg(word).output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
        text.split_whitespace().find(number).map(str::to_owned)
    };
    ask("--version").or_else(|| ask("version")).unwrap_or_else(|| "unknown".to_owned())
}
