//! Content that the server has acknowledged, and the part of it that must still be there.
//!
//! Requests of several clients overlap, and some never get an answer. The book expects nothing that may have been removed,
//! so every reported loss is real.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use autonomy_registry::oci::Digest;

/// A repository and a digest.
pub type Place = (String, Digest);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Blob,
    Manifest,
}

#[derive(Debug, Default)]
struct Entry {
    /// Time of the last acknowledgement. None if it may be gone.
    since: Option<Instant>,
    sort: Option<Sort>,
    children: Vec<Digest>,
    /// Requests in flight that may remove it.
    removals: u32,
    /// The clock at the end of the last such request.
    removed_at: u64,
    /// A request that may remove it never got an answer.
    is_doubtful: bool,
}

#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<Place, Entry>,
    /// The possible roots of a tag; `None` is no root. Only for repositories of a single client that sends nothing wild
    /// there.
    tags: HashMap<(String, String), Vec<Option<Digest>>>,
    /// Every repository that received content.
    repositories: HashSet<String>,
    /// Counts requests, to order them.
    clock: u64,
}

impl Book {
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Notes bytes before they are sent: content that they may remove is no longer expected.
    pub fn sending(&mut self, raw: &[u8]) -> Vec<Place> {
        let text = String::from_utf8_lossy(raw).to_ascii_lowercase();
        if !text.contains("delete") {
            return Vec::new();
        }
        let digests = digests(&text);
        let named = self.repositories.iter().filter(|name| text.contains(name.as_str()));
        let places: Vec<Place> = named.flat_map(|name| digests.iter().map(|digest| (name.clone(), *digest))).collect();
        for place in &places {
            let entry = self.entries.entry(place.clone()).or_default();
            entry.since = None;
            entry.removals += 1;
        }
        places
    }

    /// Notes their answers, or that there is no certain answer.
    pub fn answered(&mut self, places: &[Place], is_sure: bool) {
        let now = self.tick();
        for place in places {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            entry.removals = entry.removals.saturating_sub(1);
            entry.removed_at = now;
            entry.is_doubtful |= !is_sure;
        }
    }

    /// Notes that the server confirmed this, in the answer to a request sent at `sent`.
    pub fn acknowledge(&mut self, place: Place, sort: Sort, children: Vec<Digest>, sent: u64) {
        self.repositories.insert(place.0.clone());
        let entry = self.entries.entry(place).or_default();
        if entry.is_doubtful || entry.removals > 0 || sent < entry.removed_at {
            return;
        }
        entry.since = Some(Instant::now());
        // The bytes of a manifest may be sent as a blob too.
        if entry.sort != Some(Sort::Manifest) {
            entry.sort = Some(sort);
        }
        if !children.is_empty() {
            entry.children = children;
        }
    }

    /// Notes that garbage collection is about to run: content that it may remove is no longer expected.
    pub fn collecting(&mut self, older_than: Duration) {
        let mut kept: HashSet<Place> = HashSet::new();
        // A tag with two possible roots keeps neither for certain.
        let certain = self.tags.iter().filter_map(|((name, _), named)| match named[..] {
            [Some(digest)] => Some((name.clone(), digest)),
            _ => None,
        });
        let mut open: Vec<Place> = certain.collect();
        while let Some(place) = open.pop() {
            let entry = self.entries.get(&place).filter(|entry| entry.since.is_some());
            if let Some(entry) = entry.filter(|_| !kept.contains(&place)) {
                open.extend(entry.children.iter().map(|child| (place.0.clone(), *child)));
                kept.insert(place);
            }
        }
        // File times are coarse, and the collector reads its clock later.
        let age = older_than.saturating_sub(Duration::from_secs(30));
        for (place, entry) in &mut self.entries {
            let is_old = entry.since.is_some_and(|since| since.elapsed() >= age);
            if is_old && !kept.contains(place) {
                entry.since = None;
            }
        }
    }

    /// The time since when this has been expected, if it is.
    pub fn since(&self, place: &Place) -> Option<Instant> {
        self.entries.get(place).and_then(|entry| entry.since)
    }

    /// Everything that must be there; in one repository, or in all.
    pub fn expected(&self, repository: Option<&str>) -> Vec<(Place, Sort)> {
        let here = |(name, _): &Place| repository.is_none_or(|wanted| wanted == name);
        let mut all: Vec<(Place, Sort)> = self
            .entries
            .iter()
            .filter(|(place, entry)| here(place) && entry.since.is_some())
            .filter_map(|(place, entry)| entry.sort.map(|sort| (place.clone(), sort)))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Notes that a tag is about to be moved: from now on it may name the old or the new root. Returns whether it certainly
    /// named something before.
    pub fn tagging(&mut self, repository: &str, tag: &str, to: Option<Digest>) -> bool {
        let named = self.tags.entry((repository.to_owned(), tag.to_owned())).or_insert_with(|| vec![None]);
        let is_certain = !named.contains(&None);
        named.push(to);
        is_certain
    }

    /// Notes that the tag names this root.
    pub fn tagged(&mut self, repository: &str, tag: &str, to: Option<Digest>) {
        self.tags.insert((repository.to_owned(), tag.to_owned()), vec![to]);
    }

    /// Notes that the move was refused.
    pub fn not_tagged(&mut self, repository: &str, tag: &str) {
        if let Some(named) = self.tags.get_mut(&(repository.to_owned(), tag.to_owned())) {
            named.pop();
        }
    }

    /// Notes that a manifest is being removed: its tags may go with it.
    pub fn untagging(&mut self, repository: &str, digest: Digest) {
        for ((name, _), named) in &mut self.tags {
            if name == repository && named.contains(&Some(digest)) {
                named.push(None);
            }
        }
    }

    /// Tags of a repository with their possible roots.
    pub fn tags(&self, repository: &str) -> Vec<(String, Vec<Option<Digest>>)> {
        let here = self.tags.iter().filter(|((name, _), _)| name == repository);
        let mut all: Vec<_> = here.map(|((_, tag), named)| (tag.clone(), named.clone())).collect();
        all.sort();
        all
    }
}

/// Every digest in `text`, whatever precedes it.
fn digests(text: &str) -> Vec<Digest> {
    let mut found = HashSet::new();
    for run in text.split(|letter: char| !letter.is_ascii_hexdigit()) {
        for (name, length) in [("sha256", 64), ("sha512", 128)] {
            // Longer runs are filler.
            for at in 0..(run.len() + 1).saturating_sub(length).min(200) {
                found.extend(format!("{name}:{}", &run[at..at + length]).parse::<Digest>());
            }
        }
    }
    found.into_iter().collect()
}
