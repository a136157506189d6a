//! Digests written into the text of a catalog. Everything else stays as it is, byte for byte.
//!
//! The parser says where each source stands. A source is replaced only if exactly its text is found there, and the result
//! is read again and compared with what was meant: a form of YAML that this does not know is refused, never damaged.

use std::collections::HashSet;
use std::ops::Range;

use super::file::{CatalogDocument, CatalogFile};
use super::{Catalog, Entry};
use crate::document::yaml::{self, At, FilePlace};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Reference};

/// Start of the comment that says when a line was pinned.
const COMMENT: &str = "# pinned ";

/// The key of an entry whose digest takes the place of a signature.
const KEY: &str = "pinned: true";

/// The text of a catalog, and its entries.
#[derive(Debug)]
pub struct PinnableCatalog<'a> {
    text: &'a str,
    /// The start of each line.
    lines: Vec<usize>,
    /// The entries, in the order of the file.
    pub sources: Vec<PinnableSource>,
}

/// The source of an entry.
#[derive(Debug)]
pub struct PinnableSource {
    /// The entry.
    pub entry: Entry,
    /// The reason why its digest is not written; `None` if it is.
    pub left: Option<&'static str>,
    /// Whether it gets the key `pinned`, which it lacks.
    pub needs_key: bool,
    written: String,
    place: FilePlace,
}

/// A part of the text and what replaces it.
type Edit = (Range<usize>, String);

impl<'a> PinnableCatalog<'a> {
    /// Reads a catalog.
    ///
    /// # Errors
    ///
    /// Fails like [`Catalog::parse`].
    pub fn parse(text: &'a str) -> Result<Self> {
        let entries = Catalog::parse(text)?.entries;
        let file: CatalogDocument = yaml::parse(text)?;
        let written = file.entries.value.into_iter().map(|at| at.value);
        let sources = entries.into_iter().zip(written).map(|(entry, written)| source(entry, written)).collect();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Ok(Self { text, lines, sources })
    }

    /// Returns the text with `digests`, one for each source, and with `date` in a comment on each line that changes.
    /// `None` leaves a source as it is.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage), with the line, for an entry that is written in a form that cannot be edited safely.
    pub fn with(&self, digests: &[Option<Digest>], date: &str) -> Result<String> {
        // The number of entries that can be edited, and a number that cannot.
        let (mut good, mut bad) = (0, self.sources.len());
        if let Some(text) = self.edited(&digests[..bad], date)? {
            return Ok(text);
        }
        while bad - good > 1 {
            let middle = usize::midpoint(good, bad);
            let is_good = self.edited(&digests[..middle], date)?.is_some();
            *if is_good { &mut good } else { &mut bad } = middle;
        }
        Err(refused(&self.sources[good].entry))
    }

    /// Returns the text with the first of the digests; `None` if it does not say what was meant.
    fn edited(&self, digests: &[Option<Digest>], date: &str) -> Result<Option<String>> {
        let (mut edits, mut dated, mut meant) = (Vec::new(), HashSet::new(), Vec::new());
        for (at, source) in self.sources.iter().enumerate() {
            let pinned = digests.get(at).map_or_else(|| source.entry.clone(), |digest| source.pinned(*digest));
            if pinned != source.entry {
                self.edit(source, &pinned, date, &mut edits, &mut dated).ok_or_else(|| refused(&source.entry))?;
            }
            meant.push(pinned);
        }
        edits.sort_by_key(|(range, _): &Edit| range.start);
        let mut text = String::with_capacity(self.text.len() + 100 * edits.len());
        let mut from = 0;
        for (range, new) in edits {
            text.push_str(&self.text[from..range.start]);
            text.push_str(&new);
            from = range.end;
        }
        text.push_str(&self.text[from..]);
        Ok(says(&text, &meant).then_some(text))
    }

    /// Adds the edits of one source; `None` if its text is not found where it should be.
    fn edit(
        &self,
        source: &PinnableSource,
        pinned: &Entry,
        date: &str,
        edits: &mut Vec<Edit>,
        dated: &mut HashSet<usize>,
    ) -> Option<()> {
        let PinnableSource { written, entry, .. } = source;
        let scalar = self.scalar(source)?;
        let end = self.text[scalar.end..].find('\n').map_or(self.text.len(), |length| scalar.end + length);
        let ending = if self.text[..end].ends_with('\r') { "\r\n" } else { "\n" };
        let end = end - (ending.len() - 1);
        if pinned.from != entry.from {
            let digest = pinned.from.digest?;
            // The name stays as it is spelled.
            let name = written.split('@').next()?;
            let tag = if entry.from.tag.is_none() && entry.from.digest.is_none() { ":latest" } else { "" };
            let value = self.text[scalar.clone()].replacen(written.as_str(), &format!("{name}{tag}@{digest}"), 1);
            edits.push((scalar.clone(), value));
        }
        let is_flow = self.text[scalar.end..].trim_start().starts_with([',', '}']);
        let mut key = String::new();
        if pinned.pinned != entry.pinned && is_flow {
            edits.push((scalar.end..scalar.end, format!(", {KEY}")));
        } else if pinned.pinned != entry.pinned {
            key = format!("{ending}{}{KEY}", self.indentation(scalar.start)?);
        }
        if dated.insert(end) {
            edits.push(self.comment(end, date, &key));
        }
        Some(())
    }

    /// Returns where the value of `from` stands, its quotes included.
    fn scalar(&self, source: &PinnableSource) -> Option<Range<usize>> {
        let FilePlace { line, column } = source.place;
        let line = *self.lines.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let before = usize::try_from(column).ok()?.checked_sub(1)?;
        let start = line + self.text[line..].char_indices().nth(before)?.0;
        let quote = self.text[start..].chars().next().filter(|first| ['"', '\''].contains(first));
        let quote = quote.map(String::from).unwrap_or_default();
        let scalar = format!("{quote}{}{quote}", source.written);
        // An anchor or a tag between key and value belongs to the value.
        let is_plain = self.text[start..].starts_with(&scalar) && self.key(start).is_some();
        is_plain.then(|| start..start + scalar.len())
    }

    /// Returns where the key `from` before the value at `start` stands.
    fn key(&self, start: usize) -> Option<usize> {
        let before = self.text[..start].trim_end().strip_suffix(':')?.trim_end();
        ["from", "\"from\"", "'from'"].iter().find_map(|key| before.strip_suffix(key)).map(str::len)
    }

    /// Returns the indentation of the keys beside the key of the value at `start`.
    fn indentation(&self, start: usize) -> Option<String> {
        let key = self.key(start)?;
        let line = self.text[..key].rfind('\n').map_or(0, |end| end + 1);
        let before = &self.text[line..key];
        before.chars().all(|c| [' ', '-'].contains(&c)).then(|| " ".repeat(before.len()))
    }

    /// Puts the date and a line below it at the end of a line: over the date that an earlier run put there, if there is one.
    fn comment(&self, end: usize, date: &str, below: &str) -> Edit {
        let line = &self.text[..end];
        let former =
            line.len().checked_sub(date.len()).filter(|&at| line.is_char_boundary(at)).filter(|&at| {
                line[..at].ends_with(COMMENT) && line[at..].bytes().all(|b| b.is_ascii_digit() || b == b'-')
            });
        let space = if line.ends_with([' ', '\t']) { "" } else { " " };
        match former {
            Some(at) => (at..end, format!("{date}{below}")),
            None => (end..end, format!("{space}{COMMENT}{date}{below}")),
        }
    }
}

/// Returns whether a text is the catalog that was meant. Lines that were put in have moved the others.
fn says(text: &str, meant: &[Entry]) -> bool {
    let Ok(Catalog { entries }) = Catalog::parse(text) else { return false };
    let is_same = |(one, other): (&Entry, &Entry)| *one == Entry { line: one.line, ..other.clone() };
    entries.len() == meant.len() && entries.iter().zip(meant).all(is_same)
}

fn source(entry: Entry, written: CatalogFile) -> PinnableSource {
    let CatalogFile { from: At { value, place }, pub_key, pinned, .. } = written;
    let left = match &entry {
        Entry { select: Some(_), .. } => Some("tags or latest chooses its images at each run"),
        Entry { copy_policy: true, .. } => Some("copy_policy needs a source by tag"),
        _ => None,
    };
    let needs_key = pub_key.is_none() && pinned.is_none();
    PinnableSource { entry, left, written: value, place, needs_key }
}

impl PinnableSource {
    /// Returns the reference whose digest of today is to be written; `None` for a source that is left, or has no tag to
    /// follow.
    #[must_use]
    pub fn followed(&self) -> Option<Reference> {
        let tag = self.entry.from.effective_tag().filter(|_| self.left.is_none())?;
        Some(self.entry.from.repository.tagged(&tag))
    }

    /// Returns the entry with this digest.
    fn pinned(&self, digest: Option<Digest>) -> Entry {
        let mut entry = self.entry.clone();
        if self.left.is_some() {
            return entry;
        }
        if digest.is_some() {
            entry.from = Reference { tag: entry.from.effective_tag(), digest, ..entry.from };
        }
        entry.pinned |= self.needs_key && entry.from.digest.is_some();
        entry
    }
}

fn refused(entry: &Entry) -> Error {
    let error = Error::new(Kind::Usage, format!("line {}: the digest cannot be written in place", entry.line));
    error
        .because("this way of writing the entry is not edited")
        .hint("write from: and its value on one line, without an anchor or alias")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "2026-11-30";

    fn digest(of: &str) -> Digest {
        Digest::sha256(of.as_bytes())
    }

    /// Pins every source that has a tag to the digest of its name and tag.
    fn pin(text: &str) -> Result<String> {
        let catalog = PinnableCatalog::parse(text)?;
        let digest = |source: &PinnableSource| source.followed().map(|followed| digest(&followed.to_string()));
        catalog.with(&catalog.sources.iter().map(digest).collect::<Vec<_>>(), DATE)
    }

    #[test]
    fn digest_key_and_date_are_written_and_all_else_stays() {
        let text = "\
# The fleet's images.
version: 1

entries:
    # robots
    - from:  'a.io/robot:v1'   # keep
      to:    b.io/robot

    - to: b.io/nav:v2
      pub_key: ./k.pub   # theirs
      from: a.io/nav:v2
    - {from: a.io/x:v1, to: b.io/x:v1} # flow
    - from: a.io/latest
      to: b.io/latest
";
        let of = |name: &str| digest(name);
        let expected = format!(
            "\
# The fleet's images.
version: 1

entries:
    # robots
    - from:  'a.io/robot:v1@{}'   # keep # pinned {DATE}
      pinned: true
      to:    b.io/robot

    - to: b.io/nav:v2
      pub_key: ./k.pub   # theirs
      from: a.io/nav:v2@{} # pinned {DATE}
    - {{from: a.io/x:v1@{}, pinned: true, to: b.io/x:v1}} # flow # pinned {DATE}
    - from: a.io/latest:latest@{} # pinned {DATE}
      pinned: true
      to: b.io/latest
",
            of("a.io/robot:v1"),
            of("a.io/nav:v2"),
            of("a.io/x:v1"),
            of("a.io/latest:latest")
        );
        assert_eq!(pin(text).unwrap(), expected);
        assert_eq!(pin(&expected).unwrap(), expected, "the same digests change nothing, not even the date");
        let windows = |text: &str| text.replace('\n', "\r\n");
        assert_eq!(pin(&windows(text)).unwrap(), windows(&expected));
    }

    #[test]
    fn a_pinned_entry_moves_with_its_tag_and_a_digest_alone_stays() {
        let (old, new) = (digest("old"), digest("a.io/x:v1"));
        let text = format!(
            "version: 1\nentries:\n  - from: a.io/x:v1@{old} # pinned 2020-01-01\n    pinned: true\n    to: b.io/x:v1\n  - from: a.io/y@{old}\n    to: b.io/y:v1\n    pub_key: k"
        );
        let expected = text.replacen(&old.to_string(), &new.to_string(), 1).replace("2020-01-01", DATE);
        assert_eq!(pin(&text).unwrap(), expected);
        // It was pinned by hand, and lacks the key that makes it so.
        let text = format!("version: 1\nentries:\n  - from: a.io/y@{old}\n    to: b.io/y:v1");
        let expected = format!(
            "version: 1\nentries:\n  - from: a.io/y@{old} # pinned {DATE}\n    pinned: true\n    to: b.io/y:v1"
        );
        assert_eq!(pin(&text).unwrap(), expected);
    }

    #[test]
    fn entries_that_need_tags_and_a_key_that_says_no_are_left() {
        let text = "version: 1\nentries:\n- from: a.io/x\n  to: b.io/x\n  latest: 3\n- from: a.io/y:v1\n  to: b.io/y\n  copy_policy: true\n";
        assert_eq!(pin(text).unwrap(), text);
        let left: Vec<_> = PinnableCatalog::parse(text).unwrap().sources.iter().map(|source| source.left).collect();
        assert!(left.iter().all(Option::is_some), "{left:?}");
        let no = "version: 1\nentries:\n- from: a.io/y:v1\n  to: b.io/y\n  pinned: false\n";
        let expected = no.replacen("v1", &format!("v1@{} # pinned {DATE}", digest("a.io/y:v1")), 1);
        assert_eq!(pin(no).unwrap(), expected, "no second key");
    }

    #[test]
    fn values_on_lines_of_their_own_and_json_are_edited_too() {
        let d = digest("a.io/x:v1");
        for (text, expected) in [
            (
                "version: 1\nentries:\n  - from:\n      a.io/x:v1\n    to: b.io/x\n",
                format!(
                    "version: 1\nentries:\n  - from:\n      a.io/x:v1@{d} # pinned {DATE}\n    pinned: true\n    to: b.io/x\n"
                ),
            ),
            (
                r#"{"version": 1, "entries": [{"from": "a.io/x:v1", "to": "b.io/x"}, {"to":"b.io/z","from":"a.io/x:v1"}]}"#,
                format!(
                    r#"{{"version": 1, "entries": [{{"from": "a.io/x:v1@{d}", pinned: true, "to": "b.io/x"}}, {{"to":"b.io/z","from":"a.io/x:v1@{d}", pinned: true}}]}} # pinned {DATE}"#
                ),
            ),
            (
                "version: 1\nentries:\n  - {\n    from: a.io/x:v1,\n    to: b.io/x }\n",
                format!(
                    "version: 1\nentries:\n  - {{\n    from: a.io/x:v1@{d}, pinned: true, # pinned {DATE}\n    to: b.io/x }}\n"
                ),
            ),
        ] {
            assert_eq!(pin(text).unwrap(), expected);
        }
    }

    #[test]
    fn a_form_that_cannot_be_edited_is_refused_with_its_line() {
        for entry in [
            "- from: &x a.io/x:v1\n  to: b.io/x",
            "- from: !!str a.io/x:v1\n  to: b.io/x",
            "- from: >-\n    a.io/x:v1\n  to: b.io/x",
            "- from: \"a.io/x:\\x761\"\n  to: b.io/x",
            "- ? from\n  : a.io/x:v1\n  to: b.io/x",
            "- {from: a.io/x:v1, to: \"b.io/x\\\n  :v1\"}",
        ] {
            let text = format!("version: 1\nentries:\n- from: a.io/w:v1\n  to: b.io/w\n{entry}\n");
            let error = pin(&text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.chain().starts_with("line 5: "), "{entry}: {}", error.chain());
        }
        let alias = "version: 1\nentries:\n- from: a.io/w:v1\n  to: b.io/w\n  pub_key: &k a.io/x:v1\n- from: *k\n  to: b.io/x\n";
        assert!(pin(alias).unwrap_err().chain().starts_with("line 6: "), "an alias is not its anchor");
    }

    proptest::proptest! {
        /// Any layout is refused, or the result says what was meant and differs in digests, dates and keys alone.
        #[test]
        fn a_layout_is_kept_or_refused(
            gaps in proptest::collection::vec("( |  |\n|\n  |# c\n)?", 8),
            quotes in proptest::collection::vec("['\"]?", 2),
        ) {
            let [a, b, c, d, e, f, g, h] = &gaps[..] else { unreachable!() };
            let [q, r] = &quotes[..] else { unreachable!() };
            let text = format!(
                "{a}version: 1\n{b}entries:\n{c}- from:{d} {q}a.io/x:v1{q}{e}\n  to: b.io/x\n{f}- to: b.io/y\n{g}  from: {r}a.io/y:v1{r}{h}\n"
            );
            if Catalog::parse(&text).is_ok() && let Ok(new) = pin(&text) {
                let entries = Catalog::parse(&new).unwrap().entries;
                proptest::prop_assert!(entries.iter().all(|entry| entry.pinned && entry.from.digest.is_some()));
                let digests = ["a.io/x:v1", "a.io/y:v1"].map(|name| format!("@{}", digest(name)));
                let undone = digests.iter().fold(new, |text, digest| text.replacen(digest, "", 1));
                let undone = undone.replace(&format!("{COMMENT}{DATE}"), "");
                let lines = |text: &str| -> Vec<String> {
                    let kept = text.lines().filter(|line| line.trim() != KEY);
                    kept.map(|line| line.trim_end().to_owned()).collect()
                };
                proptest::prop_assert_eq!(lines(&undone), lines(&text));
            }
        }
    }
}
