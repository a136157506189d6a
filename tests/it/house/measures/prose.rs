//! Sentences: their openings, in comments and in Markdown.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use super::code::Share;

/// Words that must not open a sentence.
const OPENERS: [&str; 6] = ["What", "Who", "Whoever", "Nobody", "Those", "Of"];

/// A sentence and its first line.
pub(super) struct Sentence {
    pub(super) place: String,
    pub(super) text: String,
}

impl Sentence {
    /// Whether it opens with one of these words.
    pub(super) fn opens_wrong(&self) -> bool {
        words_of(&self.text).next().is_some_and(|first| OPENERS.contains(&first))
    }
}

/// All sentences of one kind of text.
#[derive(Default)]
pub(super) struct Prose {
    pub(super) sentences: Vec<Sentence>,
}

impl Prose {
    /// Adds the comments of Rust source, from the lines that `wanted` accepts.
    pub(super) fn read_comments(&mut self, name: &str, source: &str, wanted: impl Fn(usize) -> bool) {
        let paragraphs =
            paragraphs(&comments(source).into_iter().filter(|line| wanted(line.number)).collect::<Vec<_>>());
        self.take(name, paragraphs);
    }

    pub(super) fn read_markdown(&mut self, name: &str, text: &str) {
        let lines =
            text.lines().zip(1..).map(|(text, number)| Line { number, kind: Kind::Markdown, text: text.to_owned() });
        self.take(name, paragraphs(&lines.collect::<Vec<_>>()));
    }

    fn take(&mut self, name: &str, paragraphs: Vec<Paragraph>) {
        let sentences = paragraphs.iter().flat_map(split);
        self.sentences.extend(sentences.map(|(number, text)| Sentence { place: format!("{name}:{number}"), text }));
    }

    /// The sentences with a forbidden opening.
    pub(super) fn wrong(&self) -> Vec<&Sentence> {
        self.sentences.iter().filter(|sentence| sentence.opens_wrong()).collect()
    }

    pub(super) fn wrong_openers(&self) -> Share {
        Share { part: self.wrong().len(), whole: self.sentences.len() }
    }

    /// Occurrences of each of `wanted` in ten thousand words.
    pub(super) fn per_ten_thousand(&self, wanted: &[&'static str]) -> BTreeMap<&'static str, f64> {
        let all = self.sentences.iter().flat_map(|sentence| words_of(&sentence.text));
        let all: Vec<_> = all.map(str::to_lowercase).collect();
        let count = |word: &str| all.iter().filter(|other| *other == word).count() as f64;
        wanted.iter().map(|word| (*word, 1e4 * count(word) / all.len().max(1) as f64)).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `//`
    Plain,
    /// `///` or `/** */`
    Outer,
    /// `//!` or `/*! */`
    Inner,
    /// Behind code on the same line: never one paragraph with the next.
    Trailing,
    Markdown,
}

#[derive(Debug)]
struct Line {
    number: usize,
    kind: Kind,
    text: String,
}

/// Lines that belong together, with their numbers.
type Paragraph = Vec<(usize, String)>;

/// The lines of all comments. Text between two tokens is white space or a plain comment; a doc comment is a token.
fn comments(source: &str) -> Vec<Line> {
    let tokens: TokenStream = source.parse().unwrap_or_else(|error| panic!("read tokens: {error}"));
    let mut leaves = Vec::new();
    flatten(tokens, &mut leaves);
    let (mut found, mut end) = (Vec::new(), 0);
    for leaf in leaves {
        if leaf.start < end {
            continue; // The tokens of a doc comment all cover the whole of it.
        }
        plain(source, end..leaf.start, &mut found);
        if source[leaf.clone()].starts_with("//") || source[leaf.clone()].starts_with("/*") {
            push(source, leaf.clone(), &mut found);
        }
        end = leaf.end;
    }
    plain(source, end..source.len(), &mut found);
    found
}

fn flatten(tokens: TokenStream, leaves: &mut Vec<std::ops::Range<usize>>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                leaves.push(group.span_open().byte_range());
                flatten(group.stream(), leaves);
                leaves.push(group.span_close().byte_range());
            }
            other => leaves.push(other.span().byte_range()),
        }
    }
}

/// The plain comments of `gap`, which holds no token.
fn plain(source: &str, gap: std::ops::Range<usize>, found: &mut Vec<Line>) {
    let mut at = gap.start;
    while let Some(start) = source.get(at..gap.end).and_then(|rest| rest.find('/')).map(|offset| at + offset) {
        let rest = &source[start..gap.end];
        let length = if rest.starts_with("//") { rest.find('\n') } else { rest.find("*/").map(|end| end + 2) };
        let end = start + length.unwrap_or(rest.len());
        push(source, start..end, found);
        at = end;
    }
}

/// Adds the comment at `range`, line by line, without its slashes.
fn push(source: &str, range: std::ops::Range<usize>, found: &mut Vec<Line>) {
    let before = &source[..range.start];
    let number = before.matches('\n').count() + 1;
    let is_first = before.rsplit('\n').next().unwrap_or_default().trim().is_empty();
    let comment = &source[range];
    let (kind, text) = [("///", Kind::Outer), ("//!", Kind::Inner), ("/**", Kind::Outer), ("/*!", Kind::Inner)]
        .into_iter()
        .find_map(|(mark, kind)| Some((kind, comment.strip_prefix(mark)?)))
        .unwrap_or((Kind::Plain, &comment[2..]));
    let kind = if is_first { kind } else { Kind::Trailing };
    for (line, number) in text.trim_end_matches("*/").lines().zip(number..) {
        found.push(Line { number, kind, text: line.to_owned() });
    }
}

/// Joins lines to paragraphs. Headings, tables, code and reference links are left out.
fn paragraphs(lines: &[Line]) -> Vec<Paragraph> {
    let mut found: Vec<Paragraph> = Vec::new();
    let (mut is_code, mut is_open) = (false, false);
    let mut last: Option<&Line> = None;
    for line in lines {
        let follows = last.is_some_and(|last| last.kind == line.kind && last.number + 1 == line.number);
        if !follows {
            (is_code, is_open) = (false, false);
        }
        last = Some(line);
        let text = line.text.trim();
        if text.starts_with("```") {
            (is_code, is_open) = (!is_code, false);
            continue;
        }
        if is_code || text.is_empty() || text.starts_with(['#', '|', '<']) || text.starts_with("![") {
            is_open = false;
            continue;
        }
        let item = ["- ", "* ", "+ "].iter().find_map(|mark| text.strip_prefix(mark)).or_else(|| numbered(text));
        match item {
            None if is_open && line.kind != Kind::Trailing => {
                found.last_mut().unwrap().push((line.number, text.to_owned()));
            }
            item => found.push(vec![(line.number, item.unwrap_or(text).to_owned())]),
        }
        is_open = true;
    }
    found
}

/// The text of an item such as `3. text`.
fn numbered(text: &str) -> Option<&str> {
    let (number, rest) = text.split_once(". ")?;
    (!number.is_empty() && number.len() <= 2 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// Splits a paragraph after full stops, question and exclamation marks that end a sentence. Each sentence has the number of
/// its first line.
fn split(paragraph: &Paragraph) -> Vec<(usize, String)> {
    let mut sentences: Vec<(usize, String)> = Vec::new();
    let (mut is_span, mut is_over) = (false, true);
    let words = paragraph.iter().flat_map(|(number, line)| line.split_whitespace().map(move |word| (*number, word)));
    for (number, word) in words {
        if is_over && !word.starts_with(char::is_lowercase) || sentences.is_empty() {
            sentences.push((number, word.to_owned()));
        } else {
            let (_, sentence) = sentences.last_mut().unwrap();
            sentence.push(' ');
            sentence.push_str(word);
        }
        is_span ^= word.matches('`').count() % 2 == 1;
        let bare = word.trim_end_matches([')', ']', '"', '\'', '*', '_', '”']);
        is_over =
            bare.ends_with(['.', '!', '?']) && !["e.g.", "i.e.", "cf.", "etc.", "vs."].contains(&bare) && !is_span;
    }
    sentences.retain(|(_, sentence)| words_of(sentence).next().is_some());
    sentences
}

/// The words of a sentence: runs of letters, code left out.
fn words_of(sentence: &str) -> impl Iterator<Item = &str> {
    let text = sentence.split('`').step_by(2);
    text.flat_map(|text| text.split(|c: char| !c.is_alphabetic())).filter(|word| !word.is_empty())
}
