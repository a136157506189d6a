//! Tables in Markdown: the cost of each tool, and the ratios of our program to the others.

use std::fmt::Write as _;

use serde_json::Value;
use testkit::tally::Traffic;

use crate::record::Record;
use crate::summary;
use crate::tool::Tool;

/// The program that the ratios are about.
pub(crate) const OURS: &str = "autonomy";

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None for an empty list.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most })
    }

    /// `median (least to most)` with three significant digits.
    pub(crate) fn text(self) -> String {
        let digits = |value: f64| match value {
            ..0.1 => format!("{value:.4}"),
            ..10.0 => format!("{value:.2}"),
            _ => format!("{value:.1}"),
        };
        format!("{} ({} to {})", digits(self.median), digits(self.least), digits(self.most))
    }
}

/// One quantity of a run.
pub(crate) type Pick = fn(&Record) -> f64;

pub(crate) const WALL: Pick = |record| record.wall_seconds;
pub(crate) const CPU: Pick = |record| record.cpu_seconds;
pub(crate) const PEAK: Pick = |record| record.peak_mib;

/// The records of one workload at one destination.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) to: &'a str,
    pub(crate) workload: &'a str,
    pub(crate) records: Vec<&'a Record>,
}

/// Records by destination and workload, in the order in which they were measured.
pub(crate) fn groups(records: &[Record]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for record in records {
        let (to, workload) = (record.to.as_str(), record.workload.as_str());
        match groups.iter_mut().find(|group| group.to == to && group.workload == workload) {
            Some(group) => group.records.push(record),
            None => groups.push(Group { to, workload, records: vec![record] }),
        }
    }
    groups
}

impl Group<'_> {
    /// All tools that ran, in order.
    pub(crate) fn tools(&self) -> Vec<&str> {
        let warming = self.records.iter().filter(|record| record.round == 0);
        warming.map(|record| record.tool.as_str()).collect()
    }

    /// The timed ones among them.
    pub(crate) fn timed_tools(&self) -> Vec<&str> {
        self.tools().into_iter().filter(|tool| self.spread(tool, WALL).is_some()).collect()
    }

    pub(crate) fn spread(&self, tool: &str, pick: Pick) -> Option<Spread> {
        let counting = self.records.iter().filter(|record| record.tool == tool && record.counts());
        Spread::of(counting.map(|record| pick(record)))
    }

    /// Ratios of `tool` to `other`, round by round.
    pub(crate) fn ratio(&self, tool: &str, other: &str, pick: Pick) -> Option<Spread> {
        let of = |name: &str, round: usize| {
            let mut records = self.records.iter().filter(|record| record.counts());
            records.find(|record| record.tool == name && record.round == round).map(|record| pick(record))
        };
        let rounds = self.records.iter().map(|record| record.round).max().unwrap_or(0);
        let both = (1..=rounds).filter_map(|round| Some(of(tool, round)? / of(other, round)?));
        Spread::of(both.filter(|ratio| ratio.is_finite()))
    }

    /// The name with the least median.
    pub(crate) fn best<'n>(&self, names: impl IntoIterator<Item = &'n str>, pick: Pick) -> Option<&'n str> {
        let medians = names.into_iter().filter_map(|name| Some((self.spread(name, pick)?.median, name)));
        medians.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
    }

    fn warming(&self, tool: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.tool == tool && record.round == 0).copied()
    }

    /// Counts of `tool`, at the source and at the destination.
    pub(crate) fn count(&self, tool: &str, pick: fn(&Traffic) -> Option<u64>) -> Option<String> {
        let record = self.warming(tool)?;
        Some(format!("{} + {}", pick(record.source.as_ref()?)?, pick(record.destination.as_ref()?)?))
    }

    fn failure(&self, tool: &str) -> Option<&str> {
        let mut records = self.records.iter().filter(|record| record.tool == tool);
        records.find_map(|record| record.wrong.as_deref())
    }
}

/// Everything, as one document.
pub(crate) fn markdown(records: &[Record], tools: &[Tool], circumstances: &Value) -> String {
    let groups = groups(records);
    let mut text = String::from("# Side by side\n\n");
    let _ = writeln!(text, "```json\n{}\n```\n", serde_json::to_string_pretty(circumstances).unwrap());
    text += &summary::markdown(&groups);
    ratios(&mut text, &groups, tools);
    costs(&mut text, &groups);
    text
}

fn ratios(text: &mut String, groups: &[Group<'_>], tools: &[Tool]) {
    *text += "## Ratios of autonomy to the others\n\n\
        Median (least to most) over rounds, each round by itself; below 1 autonomy takes less. \"Best\" is the peer with \
        the least median among those that check every byte they carry.\n\n\
        | To | Workload | Wall, to the best | Wall, to the bound | Wall, to each other tool | CPU, to the least | \
        CPU, to the bound | Peak, to the least |\n|---|---|---|---|---|---|---|---|\n";
    let checking: Vec<_> =
        tools.iter().filter(|tool| tool.is_checking && !tool.is_own()).map(|tool| tool.name.as_str()).collect();
    for group in groups {
        let peers: Vec<_> = tools.iter().filter(|tool| !tool.is_own()).map(|tool| tool.name.as_str()).collect();
        let to = |other: Option<&str>, pick| other.and_then(|other| group.ratio(OURS, other, pick)).map(Spread::text);
        let named = |among: &[&str], pick| {
            let best = group.best(among.iter().copied(), pick);
            to(best, pick).zip(best).map_or("–".to_owned(), |(ratio, name)| format!("{ratio} {name}"))
        };
        // With more streams the bound may be lower: the lowest one counts.
        let bound = group.best(["bound", "bound-64"], WALL);
        let others = group
            .tools()
            .into_iter()
            .filter(|name| *name != OURS && !name.starts_with("bound"))
            .filter_map(|name| Some(format!("{name} {}", group.ratio(OURS, name, WALL)?.text())));
        let others = others.collect::<Vec<_>>().join(", ");
        let cells = [
            named(&checking, WALL),
            to(bound, WALL).unwrap_or_else(|| "–".to_owned()),
            others,
            named(&checking, CPU),
            to(bound, CPU).unwrap_or_else(|| "–".to_owned()),
            named(&peers, PEAK),
        ];
        let _ = writeln!(text, "| {} | {} | {} |", group.to, group.workload, cells.join(" | "));
    }
    *text += "\n";
}

fn costs(text: &mut String, groups: &[Group<'_>]) {
    *text += "## What each took\n\n\
        Requests and connections: at the source + at the destination, counted in a run of their own. Peak: of the \
        largest process.\n\n\
        | To | Workload | Tool | Wall, s | CPU, s | Peak, MiB | Requests | Connections | Right |\n\
        |---|---|---|---|---|---|---|---|---|\n";
    for group in groups {
        for tool in group.tools() {
            let cell = |pick| group.spread(tool, pick).map_or("–".to_owned(), Spread::text);
            let connections = group.count(tool, |traffic| Some(traffic.connections));
            let counts = [group.count(tool, Traffic::all_requests), connections];
            let [requests, connections] = counts.map(|count| count.unwrap_or_else(|| "–".to_owned()));
            let right = group.failure(tool).map_or("yes".to_owned(), |why| format!("NO: {}", why.replace('|', "/")));
            let cells = [cell(WALL), cell(CPU), cell(PEAK), requests, connections, right];
            let _ = writeln!(text, "| {} | {} | {tool} | {} |", group.to, group.workload, cells.join(" | "));
        }
    }
}
