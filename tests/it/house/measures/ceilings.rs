//! The ceilings of the measures.

use super::Measured;
use super::code::Code;
use super::prose::{Prose, Sentence};

/// The largest allowed value of a measure, and the places to name above it.
pub(super) struct Ceiling {
    pub(super) what: &'static str,
    pub(super) most: f64,
    value: fn(&Measured) -> f64,
    places: fn(&Measured) -> Vec<String>,
}

/// These numbers only go down: a change that lowers a measure lowers its ceiling too.
pub(super) const CEILINGS: [Ceiling; 15] = [
    Ceiling {
        what: "sentences in comments of the program that open with What, Who, Whoever, Nobody, Those or Of, in percent",
        most: 0.9,
        value: |of| of.comments.wrong_openers().percent(),
        places: |of| sentences(&of.comments),
    },
    Ceiling {
        what: "such sentences in comments of tests, benches and examples, in percent",
        most: 0.9,
        value: |of| of.test_comments.wrong_openers().percent(),
        places: |of| sentences(&of.test_comments),
    },
    Ceiling {
        what: "such sentences in the pages, in percent",
        most: 0.9,
        value: |of| of.pages.wrong_openers().percent(),
        places: |of| sentences(&of.pages),
    },
    Ceiling {
        what: "types that share their name with another type, in percent",
        most: 4.0,
        value: |of| of.code.types_with_a_shared_name().percent(),
        places: |of| shared_names(&of.code),
    },
    Ceiling {
        what: "lines of a file before its tests",
        most: 500.0,
        value: |of| most(of.files.iter().map(|file| file.0)),
        places: |of| largest(of.files.iter().cloned()),
    },
    Ceiling {
        what: "lines of a function",
        most: 60.0,
        value: |of| most(of.code.functions.iter().map(|function| function.lines)),
        places: |of| largest(of.code.functions.iter().map(|function| (function.lines, function.place()))),
    },
    Ceiling {
        what: "parameters of a function",
        most: 7.0,
        value: |of| most(of.code.functions.iter().map(|function| function.parameters)),
        places: |of| largest(of.code.functions.iter().map(|function| (function.parameters, function.place()))),
    },
    Ceiling {
        what: "depth of nesting in a function",
        most: 4.0,
        value: |of| most(of.code.functions.iter().map(|function| function.nesting)),
        places: |of| largest(of.code.functions.iter().map(|function| (function.nesting, function.place()))),
    },
    Ceiling {
        what: "public items without documentation",
        most: 0.0,
        value: |of| of.code.undocumented.len() as f64,
        places: |of| of.code.undocumented.clone(),
    },
    Ceiling {
        what: "public functions that return a `Result` and have no `# Errors`",
        most: 1.0,
        value: |of| of.code.without_errors.len() as f64,
        places: |of| of.code.without_errors.clone(),
    },
    Ceiling {
        what: "files of the biggest room, in percent",
        most: 13.0,
        value: |of| of.structure.biggest_by_files().1.percent(),
        places: |of| largest(of.structure.rooms.iter().map(|(name, room)| (room.0, name.clone()))),
    },
    Ceiling {
        what: "lines of the biggest room, in percent",
        most: 15.0,
        value: |of| of.structure.biggest_by_lines().1.percent(),
        places: |of| largest(of.structure.rooms.iter().map(|(name, room)| (room.1, name.clone()))),
    },
    Ceiling {
        what: "circles of rooms",
        most: 0.0,
        value: |of| of.structure.circles_between.len() as f64,
        places: |of| of.structure.circles_between.iter().map(|circle| circle.join(", ")).collect(),
    },
    Ceiling {
        what: "circles of files and folders inside rooms",
        most: 0.0,
        value: |of| of.structure.circles_inside.len() as f64,
        places: |of| of.structure.circles_inside.iter().map(|circle| circle.join(", ")).collect(),
    },
    Ceiling {
        what: "files and folders in a circle with their `mod.rs`",
        most: 2.0,
        value: |of| of.structure.circles_with_mod.len() as f64,
        places: |of| of.structure.circles_with_mod.clone(),
    },
];

/// Number of places named by a broken ceiling.
const MAX_PLACES: usize = 40;

impl Ceiling {
    /// Adds a message with the places if the measure is above `most`.
    pub(super) fn broken_by(&self, measured: &Measured, most: f64) -> Option<String> {
        let value = (self.value)(measured);
        let places = (self.places)(measured);
        let more = places.len().saturating_sub(MAX_PLACES);
        let mut text = format!("{}: {value:.1}, may be {most:.1}", self.what);
        for place in places.iter().take(MAX_PLACES) {
            text.push_str("\n    ");
            text.push_str(place);
        }
        if more > 0 {
            text.push_str(&format!("\n    and {more} more"));
        }
        (value > most).then_some(text)
    }
}

fn most(values: impl Iterator<Item = usize>) -> f64 {
    values.max().unwrap_or_default() as f64
}

/// The ten largest, the largest first.
fn largest(values: impl Iterator<Item = (usize, String)>) -> Vec<String> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|a, b| b.cmp(a));
    values.into_iter().take(10).map(|(value, place)| format!("{value:5} {place}")).collect()
}

/// The sentences with a forbidden opening, with their places.
fn sentences(prose: &Prose) -> Vec<String> {
    let line =
        |sentence: &&Sentence| format!("{}: {}", sentence.place, sentence.text.chars().take(90).collect::<String>());
    prose.wrong().iter().map(line).collect()
}

/// The names shared by several types, most shared first.
fn shared_names(code: &Code) -> Vec<String> {
    let mut names: Vec<_> = code.shared_names().into_iter().collect();
    names.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    names.into_iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}
