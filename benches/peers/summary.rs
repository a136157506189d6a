//! The summary: a row a workload, a column a program, ready to quote.

use std::fmt::Write as _;

use testkit::tally::Traffic;

use crate::table::{Group, OURS, Spread, WALL};

/// Two tables: ratios of wall time, and requests.
pub(crate) fn markdown(groups: &[Group<'_>]) -> String {
    // Growth series have a plot each.
    let groups: Vec<_> = groups.iter().filter(|group| group.records.iter().all(|record| record.at.is_none())).collect();
    let mut programs: Vec<&str> = Vec::new();
    for tool in groups.iter().flat_map(|group| group.tools()) {
        if !programs.contains(&program(tool)) {
            programs.push(program(tool));
        }
    }
    let mut text = "## In short\n\n\
        Wall time of autonomy by that of each other, median (least to most) of the rounds, each by itself. Where a program \
        was run with several settings its fastest is meant: -16 behind a ratio is the one with so many requests at once.\n\n"
        .to_owned();
    table(&mut text, &groups, &programs, |group, program| {
        if program == OURS {
            return Some(format!("{} s", group.spread(OURS, WALL)?.text()));
        }
        ratio(group, program)
    });
    text += "Requests at the source + at the destination; – where they cannot be read.\n\n";
    table(&mut text, &groups, &programs, |group, program| group.count(program, Traffic::all_requests));
    text
}

/// A tool's name less its setting: `crane` of `crane-16`.
fn program(tool: &str) -> &str {
    let setting = |setting: &str| !setting.is_empty() && setting.bytes().all(|byte| byte.is_ascii_digit());
    tool.rsplit_once('-').filter(|(_, last)| setting(last)).map_or(tool, |(program, _)| program)
}

fn ratio(group: &Group<'_>, wanted: &str) -> Option<String> {
    let tools = group.tools();
    let fastest = group.best(tools.into_iter().filter(|tool| program(tool) == wanted), WALL)?;
    let setting = fastest.strip_prefix(wanted).filter(|setting| !setting.is_empty());
    let ratio = group.ratio(OURS, fastest, WALL).map(Spread::text)?;
    Some(setting.map_or_else(|| ratio.clone(), |setting| format!("{ratio} {setting}")))
}

/// A table without the columns that would be empty.
fn table(
    text: &mut String,
    groups: &[&Group<'_>],
    programs: &[&str],
    cell: impl Fn(&Group<'_>, &str) -> Option<String>,
) {
    let column = |program: &&str| groups.iter().map(|group| cell(group, program)).collect::<Vec<_>>();
    let columns = programs.iter().map(|program| (*program, column(program)));
    let columns: Vec<_> = columns.filter(|(_, cells)| cells.iter().any(Option::is_some)).collect();
    let names: Vec<_> = columns.iter().map(|(program, _)| *program).collect();
    let _ = writeln!(text, "| | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
    let is_one = groups.iter().all(|group| group.to == groups[0].to);
    for (row, group) in groups.iter().enumerate() {
        let to = if is_one { String::new() } else { format!(" to {}", group.to) };
        let cells: Vec<_> = columns.iter().map(|(_, cells)| cells[row].as_deref().unwrap_or("–")).collect();
        let _ = writeln!(text, "| {}{to} | {} |", group.workload, cells.join(" | "));
    }
    *text += "\n";
}
