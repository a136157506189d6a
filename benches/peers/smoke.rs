//! The smoke run: every part once, on something small, with the result checked. Part of `tests/run`.

use std::path::Path;
use std::process::ExitCode;

use testkit::registry::{Kind, Server};

use crate::check::check;
use crate::record::Record;
use crate::tool::Tool;
use crate::workload::Maker;
use crate::{AUTONOMY, Options, counts, publish, record, session, tool};

/// At this scale the largest layer of W1 still has a few hundred KiB.
const SCALE: f64 = 0.002;
const WORKLOADS: [&str; 12] = ["W1", "W1t", "W2", "W2t", "W3", "W4", "W5", "W5n", "W7", "W7c", "W11", "W11n"];
const SERIES: &str = "platforms";

pub(crate) fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    // From a third-party registry if there is one, to ours: that is always there.
    let from = if Kind::Distribution2.program(AUTONOMY).is_some() { Kind::Distribution2 } else { Kind::Embedded };
    let to = Kind::Embedded;
    let options = Options {
        workloads: WORKLOADS.map(str::to_owned).into(),
        growth: vec![SERIES.to_owned()],
        rounds: 1,
        growth_rounds: None,
        to: vec![to],
        from,
        scale: SCALE,
        tool: Vec::new(),
        only: Vec::new(),
        output: folder.path().to_owned(),
        render: Vec::new(),
        smoke: true,
        bench: false,
    };
    refuses_an_empty_destination();
    leaves_out_nothing_that_was_named(&options);
    let records = session(&options);
    for record in &records {
        assert_eq!(record.wrong, None, "{} of {} to {}", record.tool, record.workload, record.to);
    }
    let tools = tool::known();
    for name in WORKLOADS {
        let workload = Maker::new(SCALE).workload(name).unwrap();
        let here: Vec<_> = records.iter().filter(|record| record.workload == name).collect();
        for tool in tools.iter().filter(|tool| tool.suits(&workload)) {
            let runs = here.iter().filter(|record| record.tool == tool.name).count();
            assert_eq!(runs, if tool.is_counted_only() { 1 } else { 2 }, "{} on {name}", tool.name);
        }
        counts::check(&workload, from, &here);
    }
    takes_as_long_as_the_link(&records);
    writes_what_can_be_read(folder.path(), &records, to);
    ExitCode::SUCCESS
}

/// Tests the check itself: it must find missing content.
fn refuses_an_empty_destination() {
    let empty = Server::start(Kind::Embedded, AUTONOMY);
    let why = check(&empty.host, &Maker::new(SCALE).workload("W1").unwrap());
    assert!(why.as_ref().is_err_and(|why| why.contains("404")), "{why:?}");
}

/// Without this check, a mistyped tool name would only be noticed at the end of the run.
fn leaves_out_nothing_that_was_named(options: &Options) {
    let given = tool::parse("given=program {from} {to}").unwrap();
    let asked = |only: &str| Options { only: vec![only.to_owned()], tool: vec![given.clone()], ..options.clone() };
    let names = |tools: Vec<Tool>| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    assert_eq!(asked("autonomy").tools().map(names).unwrap(), ["autonomy", "bound", "given"]);
    assert!(asked("autonmy").tools().is_err_and(|why| why.contains("autonmy") && why.contains("autonomy, ")));
}

/// Over 50 ms the minimum is a handshake and one request.
fn takes_as_long_as_the_link(records: &[Record]) {
    for record in records.iter().filter(|record| record.counts() && record.workload.starts_with("W7")) {
        assert!(record.wall_seconds >= 0.1, "{record:?}");
    }
}

fn writes_what_can_be_read(folder: &Path, records: &[Record], to: Kind) {
    let lines = std::fs::read_to_string(folder.join("runs.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["versions"]["autonomy"].is_string());
    assert_eq!(lines.len(), 1 + records.len());
    assert!(lines[1..].iter().all(|line| line["wall_seconds"].as_f64().is_some_and(|wall| wall > 0.0)));
    let table = std::fs::read_to_string(folder.join("table.md")).unwrap();
    for record in records {
        let row = format!("| {} | {} | {} |", record.to, record.workload, record.tool);
        assert!(table.lines().any(|line| line.starts_with(&row) && line.ends_with("| yes |")), "{row}");
    }
    // The lines alone give the same tables and plots.
    let again = folder.join("again");
    let (circumstances, read) = record::read(&[folder.join("runs.jsonl")]).unwrap();
    publish(&again, &read, &tool::known(), &circumstances);
    assert_eq!(std::fs::read_to_string(again.join("table.md")).unwrap(), table);
    // Short enough to quote, and empty where nothing could be counted.
    for row in ["| W3 | 1 + 1 |", "| W1t | – |", "| W2t | – |"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}");
    }
    for plot in [format!("ratios-{}.svg", to.name()), format!("growth-{SERIES}-{}.svg", to.name())] {
        let text = std::fs::read_to_string(folder.join(&plot)).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{plot}");
        assert!(text.contains("autonomy") && text.contains("circle"), "{plot}");
    }
}
