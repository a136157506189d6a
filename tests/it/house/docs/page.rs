//! A page of the documentation for the tests: console blocks, files, links, anchors, code spans, tables.
//!
//! HTML comments, invisible to the reader, tell the runner about the next block:
//!
//! - `<!-- setup` followed by lines with `$ command`: commands to run before the next block; their output is ignored;
//! - `<!-- exit 3 -->`: the last command of the next block ends with this code (0 without it);
//! - `<!-- file: catalog.yaml -->`: the next block is the content of this file;
//! - `<!-- stop -->`: background servers end here;
//! - `<!-- not run: reason -->`: the next block is not run, for this reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Encloses code spans in cells: no page contains it.
pub(super) const CODE: char = '\u{1f}';

/// The folder of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and every page of docs/.
pub(super) fn manual() -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    let mut pages: Vec<_> =
        std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let is_page = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "md");
    names.extend(
        pages.iter().filter(is_page).map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap())),
    );
    names.iter().map(|name| Page::read(name)).collect()
}

/// One action of the runner, in the order of the page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Commands hidden from the reader.
    Setup(String),
    Stop,
    Block(Block),
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
    pub(super) exit: i32,
    pub(super) file: Option<String>,
    /// Why it is not run.
    pub(super) not_run: Option<String>,
}

#[derive(Debug)]
pub(super) struct Page {
    /// Path relative to the repository.
    pub(super) name: String,
    pub(super) source: String,
    pub(super) steps: Vec<Step>,
    /// Targets of links and images, with their line.
    pub(super) links: Vec<(usize, String)>,
    /// The anchors of the headings on GitHub.
    pub(super) anchors: Vec<String>,
    pub(super) spans: Vec<(usize, String)>,
    /// The rows of all tables, cell by cell, code spans between [`CODE`].
    pub(super) rows: Vec<(usize, Vec<String>)>,
}

impl Page {
    pub(super) fn read(name: &str) -> Self {
        let source = std::fs::read_to_string(root().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
        Self::parse(name, source)
    }

    pub(super) fn parse(name: &str, source: String) -> Self {
        let mut page = Self {
            name: name.to_owned(),
            steps: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
            spans: Vec::new(),
            rows: Vec::new(),
            source: String::new(),
        };
        let mut reader = Reader { page: &mut page, wishes: Wishes::default(), text: String::new(), open: None };
        let mut line = Lines::default();
        for (event, range) in Parser::new_ext(&source, Options::ENABLE_TABLES).into_offset_iter() {
            reader.event(event, line.at(&source, range.start));
        }
        page.source = source;
        page
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.steps.iter().filter_map(|step| if let Step::Block(block) = step { Some(block) } else { None })
    }
}

/// Instructions in comments for the next block.
#[derive(Default)]
struct Wishes {
    exit: i32,
    file: Option<String>,
    not_run: Option<String>,
}

struct Reader<'a> {
    page: &'a mut Page,
    wishes: Wishes,
    /// The text of the current heading, cell or block.
    text: String,
    open: Option<Block>,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::Html(html) | Event::InlineHtml(html) => {
                self.text.push_str(&html);
                if self.text.trim_end().ends_with("-->") {
                    let comment = std::mem::take(&mut self.text);
                    self.comment(comment.trim());
                }
            }
            Event::Start(Tag::HtmlBlock | Tag::Heading { .. } | Tag::TableCell) => self.text.clear(),
            Event::Start(Tag::TableRow | Tag::TableHead) => self.page.rows.push((line, Vec::new())),
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let Wishes { exit, file, not_run } = std::mem::take(&mut self.wishes);
                self.open = Some(Block { line, language, text: String::new(), exit, file, not_run });
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.page.links.push((line, dest_url.to_string()));
            }
            Event::End(TagEnd::CodeBlock) => self.page.steps.extend(self.open.take().map(Step::Block)),
            Event::End(TagEnd::Heading(_)) => self.page.anchors.push(std::mem::take(&mut self.text)),
            Event::End(TagEnd::TableCell) => {
                let cell = std::mem::take(&mut self.text);
                self.page.rows.last_mut().unwrap().1.push(cell);
            }
            Event::Text(text) => match &mut self.open {
                Some(block) => block.text.push_str(&text),
                None => self.text.push_str(&text),
            },
            Event::Code(code) => {
                self.text.push_str(&format!("{CODE}{code}{CODE}"));
                self.page.spans.push((line, code.to_string()));
            }
            Event::SoftBreak | Event::HardBreak => self.text.push(' '),
            _ => {}
        }
    }

    fn comment(&mut self, comment: &str) {
        let inner = comment.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->")).unwrap_or_default().trim();
        match inner.split_once([' ', '\n']).unwrap_or((inner, "")) {
            ("setup", script) => self.page.steps.push(Step::Setup(script.trim().to_owned())),
            ("stop", "") => self.page.steps.push(Step::Stop),
            ("exit", code) => self.wishes.exit = code.trim().parse().unwrap(),
            ("file:", name) => self.wishes.file = Some(name.trim().to_owned()),
            ("not", reason) => {
                let reason = reason.strip_prefix("run:").unwrap_or_default().trim();
                assert!(!reason.is_empty(), "{}: not run for which reason: {comment}", self.page.name);
                self.wishes.not_run = Some(reason.to_owned());
            }
            _ => panic!("{}: the runner does not know {comment}", self.page.name),
        }
    }
}

/// GitHub's anchors of headings: lower case, only letters, digits, hyphens and underscores, and a number for a repeated
/// one.
pub(super) fn slugs(headings: &[String]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let slug = |heading: &String| {
        let lower = heading.to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = seen.entry(slug.clone()).or_default();
        *before += 1;
        if *before == 1 { slug } else { format!("{slug}-{}", *before - 1) }
    };
    headings.iter().map(slug).collect()
}

/// Finds the lines of rising offsets.
#[derive(Default)]
struct Lines {
    offset: usize,
    newlines: usize,
}

impl Lines {
    fn at(&mut self, text: &str, offset: usize) -> usize {
        if offset > self.offset {
            self.newlines += text[self.offset..offset].matches('\n').count();
            self.offset = offset;
        }
        self.newlines + 1
    }
}

#[test]
fn a_page_is_read_with_its_comments_links_and_tables() {
    let text = "# A `b` page, twice\n\n<!-- setup\n$ one\n-->\n\n<!-- exit 3 -->\n```console\n$ two\nout\n```\n\n# A b page, twice\n\n\
                [x](y.md#z)\n\n<!-- not run: because -->\n```console\n$ three\n```\n\n| `c` d | e |\n|---|---|\n| f | g |\n";
    let page = Page::parse("p.md", text.to_owned());
    let [Step::Setup(setup), Step::Block(two), Step::Block(three)] = &page.steps[..] else { panic!("{page:?}") };
    assert_eq!(setup, "$ one");
    assert_eq!((two.line, two.exit, &*two.text, &two.not_run), (8, 3, "$ two\nout\n", &None));
    assert_eq!((three.exit, three.not_run.as_deref()), (0, Some("because")));
    assert_eq!(page.links, [(15, "y.md#z".to_owned())]);
    assert_eq!(slugs(&page.anchors), ["a-b-page-twice", "a-b-page-twice-1"]);
    assert_eq!(page.rows[0].1, ["\u{1f}c\u{1f} d", "e"]);
    assert_eq!(page.rows[1].1, ["f", "g"]);
}
