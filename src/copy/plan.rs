//! The plan: a pure value that says what will be put, in which order, and at what cost.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::Serialize;

use super::graph::{Graph, Node};
use super::{Job, Slim, Target};
use crate::oci::{Digest, Tag};

/// Whether a node is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeFate {
    /// It is put: its bytes move unless the sink turns out to hold it or can mount it.
    Put,
    /// The sink is known to hold it.
    Held,
}

/// One node of the plan.
#[derive(Debug, Clone)]
pub struct PlanStep {
    /// The node.
    pub node: Slim,
    /// Whether it is put.
    pub fate: NodeFate,
    /// Fields that only manifests have.
    rest: Option<Box<Remaining>>,
}

#[derive(Debug, Clone)]
struct Remaining {
    bytes: Option<Bytes>,
    tags: Vec<Tag>,
    needs: Vec<usize>,
}

impl PlanStep {
    /// Returns the content, for a manifest.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        self.rest.as_ref()?.bytes.as_ref()
    }

    /// Returns the tags to put it under.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        self.rest.as_ref().map_or(&[], |rest| &rest.tags)
    }

    /// Returns the positions of the steps that must end before this one.
    #[must_use]
    pub fn needs(&self) -> &[usize] {
        self.rest.as_ref().map_or(&[], |rest| &rest.needs)
    }
}

/// The sums of a plan. Names and order of the fields are those of the `planned` line, see [`observe`](crate::observe).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlanTotals {
    /// Manifests in the graph, indexes included.
    pub manifests: u64,
    /// Blobs in the graph, each digest once.
    pub blobs: u64,
    /// Blobs to put: those the sink is not known to hold. For progress displays.
    pub blobs_to_put: u64,
    /// Bytes of all nodes.
    pub bytes_total: u64,
    /// Bytes of the nodes to put; nodes that the sink turns out to hold do not move.
    pub bytes_to_move: u64,
    /// Bytes of the nodes that the sink is known to hold.
    pub bytes_present: u64,
    /// Bytes of blobs that another image of this run copies to the same registry, so that they are mounted.
    pub bytes_mountable: u64,
}

/// The steps of a copy, children before parents.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps; every step comes after those it needs.
    pub steps: Vec<PlanStep>,
    /// The sums.
    pub totals: PlanTotals,
}

impl Plan {
    /// Orders `graph` bottom-up and marks the nodes that `held` shows to be at the sink.
    pub(super) fn new(graph: &Graph, job: &Job, held: &Graph) -> Self {
        let order = bottom_up(graph);
        let mut places = vec![0; order.len()];
        for (place, &position) in order.iter().enumerate() {
            places[position] = place;
        }
        let tags = tags_to_put(&job.targets);
        let mut plan = Self { steps: Vec::with_capacity(order.len()), ..Self::default() };
        for position in order {
            let Node { slim, bytes, children } = &graph.nodes()[position];
            // A blob has no tags, whatever its digest.
            let rest = slim.is_manifest().then(|| Remaining {
                bytes: bytes.clone(),
                tags: tags.get(&slim.digest).cloned().unwrap_or_default(),
                needs: children.iter().map(|&child| places[child]).collect(),
            });
            let is_tagged = rest.as_ref().is_some_and(|rest| !rest.tags.is_empty());
            let fate = if held.contains(slim) && !is_tagged { NodeFate::Held } else { NodeFate::Put };
            plan.totals.add(slim, fate);
            plan.steps.push(PlanStep { node: slim.clone(), fate, rest: rest.map(Box::new) });
        }
        plan.tag_last(&job.targets, |target| {
            graph.position(target.node.digest, target.node.is_manifest()).map(|position| places[position])
        });
        plan
    }

    /// Puts the tags of the first target after everything that travels with the image. If two nodes refer to each other,
    /// neither can wait.
    fn tag_last(&mut self, targets: &[Target], place: impl Fn(&Target) -> Option<usize>) {
        let last = targets.first().filter(|first| !first.tags.is_empty()).and_then(&place);
        if let Some(last) = last
            && let Some(rest) = &mut self.steps[last].rest
        {
            rest.needs.extend(targets.iter().filter_map(place).filter(|&place| place < last));
        }
    }
}

/// Returns the tags to put, by root. A tag that is right is never put again, not even if every node is checked: some
/// registries do not allow putting a tag twice.
fn tags_to_put(targets: &[Target]) -> HashMap<Digest, Vec<Tag>> {
    let is_right = |target: &Target| target.former.as_ref().is_some_and(|former| former.digest == target.node.digest);
    let mut tags: HashMap<_, Vec<_>> = HashMap::new();
    for target in targets.iter().filter(|target| !target.tags.is_empty() && !is_right(target)) {
        tags.entry(target.node.digest).or_default().extend_from_slice(&target.tags);
    }
    tags
}

impl PlanTotals {
    /// Sums several plans, each with its registry. Content of several plans for one registry moves once.
    #[must_use]
    pub fn of_all<'a>(plans: impl Iterator<Item = (&'a str, &'a Plan)>) -> Self {
        let mut totals = Self::default();
        let mut seen = HashSet::new();
        for (registry, plan) in plans {
            let Self { manifests, blobs, blobs_to_put, bytes_total, bytes_present, .. } = plan.totals;
            totals.manifests += manifests;
            totals.blobs += blobs;
            totals.blobs_to_put += blobs_to_put;
            totals.bytes_total += bytes_total;
            totals.bytes_present += bytes_present;
            for PlanStep { node, .. } in plan.steps.iter().filter(|step| step.fate == NodeFate::Put) {
                let is_first = node.is_manifest() || seen.insert((registry, node.digest));
                *if is_first { &mut totals.bytes_to_move } else { &mut totals.bytes_mountable } += node.size;
            }
        }
        totals
    }

    fn add(&mut self, node: &Slim, fate: NodeFate) {
        *if node.is_manifest() { &mut self.manifests } else { &mut self.blobs } += 1;
        self.blobs_to_put += u64::from(!node.is_manifest() && fate == NodeFate::Put);
        self.bytes_total += node.size;
        *if fate == NodeFate::Put { &mut self.bytes_to_move } else { &mut self.bytes_present } += node.size;
    }
}

/// Returns positions in the graph, children before parents, the first root as late as possible. Not recursive: the depth
/// is untrusted.
fn bottom_up(graph: &Graph) -> Vec<usize> {
    let nodes = graph.nodes();
    let mut order = Vec::with_capacity(nodes.len());
    let mut is_seen = vec![false; nodes.len()];
    for start in (1..nodes.len()).chain([0]).take(nodes.len()) {
        let mut path = vec![(start, 0)];
        while let Some((position, next)) = path.pop() {
            if next == 0 && std::mem::replace(&mut is_seen[position], true) {
                continue;
            }
            match nodes[position].children.get(next) {
                Some(&child) => path.extend([(position, next + 1), (child, 0)]),
                None => order.push(position),
            }
        }
    }
    order
}
