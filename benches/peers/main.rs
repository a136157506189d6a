//! How does each tool perform on each workload, compared with the minimum of work? Wall and processor time, memory,
//! requests and connections of whole processes that copy between real registries.
//!
//! Run `cargo bench --profile release-fast --bench peers -- --help`; `benches/README.md` describes the method. Tools that
//! are not installed are left out with a message. Results go to `target/peers`: `runs.jsonl` (a line a run), `table.md`,
//! and plots.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]

mod bound;
mod check;
mod counts;
mod image;
mod peer;
mod plan;
mod plot;
mod process;
mod publish;
mod record;
mod run;
mod smoke;
mod summary;
mod table;
mod tool;
mod workload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use testkit::registry::Kind;

use record::{Log, Record};
use run::Bench;
use tool::Tool;
use workload::{Maker, NAMES, SERIES};

/// This program, as built for the bench.
const AUTONOMY: &str = env!("CARGO_BIN_EXE_autonomy");

/// Measures autonomy, the bound and every peer on this machine, in turn.
#[derive(Debug, Clone, Parser)]
#[command(name = "peers")]
struct Options {
    /// Workloads; all of them if neither this nor --growth is given
    #[arg(long, value_delimiter = ',', value_parser = NAMES)]
    workloads: Vec<String>,
    /// Growth series (autonomy, the bound, and tools given with --tool); W10 is `images`
    #[arg(long, value_delimiter = ',', value_parser = SERIES)]
    growth: Vec<String>,
    /// Rounds that count; one warm-up round precedes them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rounds of growth series, if different
    #[arg(long)]
    growth_rounds: Option<usize>,
    /// Destinations
    #[arg(long, value_enum, value_delimiter = ',', default_value = "2.8.2")]
    to: Vec<Kind>,
    /// Source
    #[arg(long, value_enum, default_value = "2.8.2")]
    from: Kind,
    /// Makes workloads smaller: factor for bytes, and for the images of a catalog
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// One more tool, as name=template; {from} {to}, or {list}, {catalog} or {regsync} for a whole catalog
    #[arg(long, value_parser = tool::parse)]
    tool: Vec<Tool>,
    /// Only these of the known tools (the bound and those given with --tool always run)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of the results
    #[arg(long, default_value = "target/peers")]
    output: PathBuf,
    /// Measures nothing: tables and plots of earlier runs (runs.jsonl), all together
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    render: Vec<PathBuf>,
    /// Tries everything once on something small and checks the outcome
    #[arg(long)]
    smoke: bool,
    /// Added by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    // Before anything else: this process is measured then.
    if let [_, mode, rest @ ..] = arguments.as_slice()
        && mode == "bound"
    {
        return bound::main(rest);
    }
    let options = Options::parse();
    if options.smoke {
        return smoke::main();
    }
    if !options.render.is_empty() {
        let (circumstances, mut records) = record::read(&options.render).unwrap_or_else(|why| refuse(why));
        // One table, in the fixed order of workloads.
        records.sort_by_key(|record| NAMES.iter().position(|name| *name == record.workload));
        publish(&options.output, &records, &tool::known(), &circumstances);
        return ExitCode::SUCCESS;
    }
    let is_right = session(&options).iter().all(|record| record.wrong.is_none());
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends the process as clap does.
fn refuse(why: String) -> ! {
    Options::command().error(ErrorKind::ValueValidation, why).exit()
}

impl Options {
    /// The tools that take part.
    fn tools(&self) -> Result<Vec<Tool>, String> {
        let mut tools = tool::known();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.clone()).collect();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(name)) {
            return Err(format!("--only {unknown}: on this machine there are {}", names.join(", ")));
        }
        tools.retain(|tool| self.only.is_empty() || tool.name == "bound" || self.only.contains(&tool.name));
        tools.extend(self.tool.iter().cloned());
        Ok(tools)
    }
}

/// Measures the requested workloads and writes the results.
fn session(options: &Options) -> Vec<Record> {
    if let Some(kind) = options.to.iter().chain([&options.from]).find(|kind| kind.program(AUTONOMY).is_none()) {
        refuse(format!("no {}: tests/peers installs the registries, ZOT_BIN names zot", kind.name()));
    }
    let tools = options.tools().unwrap_or_else(|why| refuse(why));
    std::fs::create_dir_all(&options.output).unwrap();
    let growth_rounds = options.growth_rounds.unwrap_or(options.rounds);
    let circumstances = record::circumstances(options.from, options.scale, [options.rounds, growth_rounds]);
    let log = Log::create(options.output.join("runs.jsonl"), &circumstances);
    let mut bench = Bench::new(options.from, tools.clone(), log);
    let mut maker = Maker::new(options.scale);
    for &to in &options.to {
        for name in names(options) {
            let workload = maker.workload(name).unwrap();
            bench.measure(&workload, to, options.rounds, |_| true);
        }
        for series in &options.growth {
            for workload in maker.series(series) {
                bench.measure(&workload, to, growth_rounds, |tool| {
                    tool.is_own() || options.tool.iter().any(|own| own.name == tool.name)
                });
            }
        }
    }
    publish(&options.output, &bench.records, &tools, &circumstances);
    bench.records
}

/// Writes the tables, and draws the available plots.
fn publish(folder: &Path, records: &[Record], tools: &[Tool], circumstances: &serde_json::Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("table.md"), table::markdown(records, tools, circumstances)).unwrap();
    let destinations: BTreeSet<_> = records.iter().map(|record| record.to.as_str()).collect();
    for to in destinations {
        let here = records.iter().filter(|record| record.to == to);
        let (growth, plain): (Vec<_>, Vec<_>) = here.cloned().partition(|record| record.at.is_some());
        if !plain.is_empty() {
            let path = folder.join(format!("ratios-{to}.svg"));
            plot::ratios(&path, &table::groups(&plain), &format!("Wall time beside the bound, to {to}")).unwrap();
        }
        for series in SERIES {
            let own = growth.iter().filter(|record| record.workload.starts_with(series));
            let own: Vec<_> = own.cloned().collect();
            if !own.is_empty() {
                plot::growth(&folder.join(format!("growth-{series}-{to}.svg")), series, &own).unwrap();
            }
        }
    }
}

fn names(options: &Options) -> Vec<&str> {
    match (&options.workloads, &options.growth) {
        (none, series) if none.is_empty() && series.is_empty() => NAMES.to_vec(),
        // In the order of the table, whatever the order of the flags: neighbours share images.
        (some, _) => NAMES.into_iter().filter(|name| some.iter().any(|wanted| wanted == name)).collect(),
    }
}
