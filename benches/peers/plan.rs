//! The input of the bound: every necessary request, and its dependencies.
//!
//! One line a task, in an order in which they could run one after another. A line holds the numbers of the tasks that must
//! be done before, the verb and its words; reading it takes no real parser, so that the input costs the bound next to
//! nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;

use autonomy_registry::oci::Digest;

use crate::workload::{Before, Workload};

/// The action on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Carry it: GET, POST and PUT.
    Blob,
    /// Take it from another repository of the destination, named by `detail`: POST.
    Mount,
    /// Carry it under the name, and of the media type, in `detail`: GET and PUT.
    Manifest,
    /// Check that the name in `detail` resolves to it on both sides: HEAD and HEAD.
    Compare,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) verb: Verb,
    pub(crate) repository: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) detail: String,
    /// Tasks, by their place in the plan, that must be done before.
    pub(crate) after: Vec<usize>,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Mount => "mount",
            Self::Manifest => "manifest",
            Self::Compare => "compare",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Blob, Self::Mount, Self::Manifest, Self::Compare].into_iter().find(|verb| verb.name() == name)
    }

    /// Requests that it takes at the source and at the destination.
    pub(crate) fn requests(self) -> [u64; 2] {
        match self {
            Self::Blob => [1, 2],
            Self::Mount => [0, 1],
            Self::Manifest | Self::Compare => [1, 1],
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after: Vec<_> = self.after.iter().map(ToString::to_string).collect();
        let Self { repository, digest, size, detail, .. } = self;
        write!(f, "{} {repository} {digest} {size} {detail} {}", self.verb.name(), after.join(","))
    }
}

impl Task {
    /// Reads a line back.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let verb = Verb::parse(words.next()?)?;
        let [repository, digest] = [words.next()?, words.next()?].map(str::to_owned);
        let (size, detail) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let after = words.next()?.split(',').filter(|word| !word.is_empty());
        let after = after.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some(Self { verb, repository, digest, size, detail, after })
    }
}

/// The minimum of steps that bring `workload` to the destination.
pub(crate) fn plan(workload: &Workload) -> Vec<Task> {
    let mut plan = Plan::default();
    if let Before::Holding(former) = &workload.before {
        plan.held.extend(former.image.nodes.iter().map(|node| (former.repository.clone(), node.descriptor.digest)));
    }
    for entry in &workload.entries {
        if matches!(workload.before, Before::Everything) {
            let root = entry.image.root();
            plan.add(Verb::Compare, &entry.repository, root.digest, root.size, entry.tag.clone(), Vec::new());
        } else {
            plan.image(entry);
        }
    }
    plan.tasks
}

#[derive(Default)]
struct Plan {
    tasks: Vec<Task>,
    /// The step of the plan that puts a node into a repository.
    made: HashMap<(String, Digest), usize>,
    /// The step of the plan that first puts a blob to the destination.
    first: HashMap<Digest, usize>,
    held: HashSet<(String, Digest)>,
}

impl Plan {
    fn add(
        &mut self,
        verb: Verb,
        repository: &str,
        digest: Digest,
        size: u64,
        detail: String,
        after: Vec<usize>,
    ) -> usize {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.tasks.push(Task { verb, repository, digest, size, detail, after });
        self.tasks.len() - 1
    }

    fn image(&mut self, entry: &crate::workload::Entry) {
        let last = entry.image.nodes.len() - 1;
        for (at, node) in entry.image.nodes.iter().enumerate() {
            let (digest, size) = (node.descriptor.digest, node.descriptor.size);
            let key = (entry.repository.clone(), digest);
            if self.made.contains_key(&key) || self.held.contains(&key) {
                continue;
            }
            let task = if node.descriptor.is_manifest() {
                let after = node.children.iter().filter_map(|child| self.made.get(&(key.0.clone(), *child)).copied());
                let after = after.collect();
                let name = if at == last { entry.tag.clone() } else { digest.to_string() };
                let detail = format!("{name}|{}", node.descriptor.media_type);
                self.add(Verb::Manifest, &key.0, digest, size, detail, after)
            } else if let Some(&first) = self.first.get(&digest) {
                let from = self.tasks[first].repository.clone();
                self.add(Verb::Mount, &key.0, digest, size, from, vec![first])
            } else {
                let task = self.add(Verb::Blob, &key.0, digest, size, "-".into(), Vec::new());
                self.first.insert(digest, task);
                task
            };
            self.made.insert(key, task);
        }
    }
}
