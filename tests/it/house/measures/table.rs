//! The table of measures, in Markdown.

use super::Measured;
use super::code::{Code, Share};
use super::prose::Prose;

/// A row: a measure, and its format.
type Row = (&'static str, fn(&Measured) -> String);

const ROWS: [Row; 24] = [
    ("files", |of| of.files.len().to_string()),
    ("lines before tests: median / p90 / max", |of| spread(of.files.iter().map(|file| file.0))),
    ("lines before tests, all files", |of| of.files.iter().map(|file| file.0).sum::<usize>().to_string()),
    ("functions; lines median / p90 / max", |of| {
        format!("{}; {}", of.code.functions.len(), spread(of.code.functions.iter().map(|function| function.lines)))
    }),
    ("functions over 60 lines", |of| count(&of.code, |function| function.lines > 60)),
    ("functions with more than 7 parameters / most", |of| {
        let most = of.code.functions.iter().map(|function| function.parameters).max().unwrap_or_default();
        format!("{} / {most}", count(&of.code, |function| function.parameters > 7))
    }),
    ("functions nested 5 deep or more / deepest", |of| {
        let deepest = of.code.functions.iter().map(|function| function.nesting).max().unwrap_or_default();
        format!("{} / {deepest}", count(&of.code, |function| function.nesting >= 5))
    }),
    ("public items with documentation", |of| covered(of.code.undocumented.len(), of.code.public_items)),
    ("`# Errors` on public functions that return a `Result`", |of| {
        covered(of.code.without_errors.len(), of.code.public_results)
    }),
    ("public types of a file, most", |of| of.code.public_types.values().max().map_or(0, |most| *most).to_string()),
    ("fields of a struct, most", |of| {
        of.code.types.iter().map(|found| found.fields).max().unwrap_or_default().to_string()
    }),
    ("types", |of| of.code.types.len().to_string()),
    ("names that more than one type bears", |of| of.code.shared_names().len().to_string()),
    ("types that share their name", |of| share(of.code.types_with_a_shared_name())),
    ("sentences that open with What, Who, Whoever, Nobody, Those, Of: comments of the program", |of| {
        openers(&of.comments)
    }),
    ("the same: comments of tests, benches and examples", |of| openers(&of.test_comments)),
    ("the same: pages", |of| openers(&of.pages)),
    ("whoever / nobody / somebody / told / stands, per 10,000 words of comment", |of| {
        rates(&of.comments, &["whoever", "nobody", "somebody", "told", "stands"])
    }),
    ("returns / error, per 10,000 words of comment", |of| rates(&of.comments, &["returns", "error"])),
    ("rooms; biggest by files", |of| {
        let (name, part) = of.structure.biggest_by_files();
        format!("{}; {name} {}", of.structure.rooms.len(), share(part))
    }),
    ("biggest room by lines", |of| {
        let (name, part) = of.structure.biggest_by_lines();
        format!("{name} {}", share(part))
    }),
    ("arrows between rooms; imports not downward; circles", |of| {
        format!("{}; {}; {}", of.structure.between.len(), of.not_downward.len(), of.structure.circles_between.len())
    }),
    ("circles inside rooms; files and folders in them", |of| {
        let circles = &of.structure.circles_inside;
        format!("{}; {}", circles.len(), circles.iter().map(Vec::len).sum::<usize>())
    }),
    ("files and folders in a circle with their `mod.rs`", |of| of.structure.circles_with_mod.len().to_string()),
];

pub(super) fn render(columns: &[(&str, &Measured)]) -> String {
    let mut lines = vec![format!("| |{}", columns.iter().map(|(name, _)| format!(" {name} |")).collect::<String>())];
    lines.push(format!("|---|{}", "---|".repeat(columns.len())));
    for (name, value) in ROWS {
        let cells: String = columns.iter().map(|(_, measured)| format!(" {} |", value(measured))).collect();
        lines.push(format!("| {name} |{cells}"));
    }
    for (name, measured) in columns {
        lines.extend(["".to_owned(), format!("Rooms, {name}: files / lines"), "".to_owned()]);
        let rooms = measured.structure.rooms.iter();
        lines.push(
            rooms.map(|(room, (files, lines))| format!("{room} {files} / {lines}")).collect::<Vec<_>>().join(", "),
        );
        let circles = measured.structure.circles_inside.iter().map(|circle| circle.join(", ")).collect::<Vec<_>>();
        lines.extend(["".to_owned(), format!("Circles, {name}:"), "".to_owned()]);
        lines.extend(circles.iter().map(|circle| format!("- {circle}")));
        lines.push(format!("- with their `mod.rs`: {}", measured.structure.circles_with_mod.join(", ")));
    }
    lines.join("\n")
}

fn spread(values: impl Iterator<Item = usize>) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let at = |percent: usize| values.get(values.len() * percent / 100).or(values.last()).copied().unwrap_or_default();
    format!("{} / {} / {}", at(50), at(90), values.last().copied().unwrap_or_default())
}

fn count(code: &Code, wanted: impl Fn(&super::code::Function) -> bool) -> String {
    code.functions.iter().filter(|function| wanted(function)).count().to_string()
}

fn share(share: Share) -> String {
    format!("{} of {} ({:.1} %)", share.part, share.whole, share.percent())
}

fn covered(missing: usize, whole: usize) -> String {
    share(Share { part: whole - missing, whole })
}

fn openers(prose: &Prose) -> String {
    share(prose.wrong_openers())
}

fn rates(prose: &Prose, words: &[&'static str]) -> String {
    let rates = prose.per_ten_thousand(words);
    words.iter().map(|word| format!("{:.1}", rates[word])).collect::<Vec<_>>().join(" / ")
}
