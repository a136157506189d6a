//! The workloads: what is copied, over what distance, and the destination's initial content.
//!
//! `scale` makes all of them smaller (bytes, images of a catalog, points of a series; never blobs an image), for trying
//! things out.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use testkit::proxy::Link;

use crate::image::{Image, Recipes};

/// One image under its name; the same name at source and destination.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) image: Rc<Image>,
}

/// The destination's content before the copy.
#[derive(Debug, Clone)]
pub(crate) enum Before {
    Nothing,
    /// Another image in the same repository.
    Holding(Entry),
    /// Everything: nothing has changed.
    Everything,
}

/// One job.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: String,
    /// Its place in its growth series.
    pub(crate) at: Option<f64>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) before: Before,
    pub(crate) link: Link,
    pub(crate) transport: Transport,
}

/// The transport of the registries, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// The names, in the order in which they are measured.
pub(crate) const NAMES: [&str; 15] =
    ["W1", "W1t", "W2", "W2t", "W3", "W4", "W5", "W5n", "W6", "W7", "W7c", "W8", "W9", "W11", "W11n"];
/// The growth series.
pub(crate) const SERIES: [&str; 4] = ["platforms", "layers", "images", "rtt"];

/// W1: a platform's layers in KiB: eight quantiles of a log-normal distribution (sigma 1.6), a third of a GiB in all.
const W1: [u64; 8] = [1_443, 4_062, 7_683, 13_058, 21_602, 36_713, 69_444, 195_522];
/// W4 changes this one in each platform: 203 MiB in all.
const W4_CHANGED: usize = 6;
/// W5: layers of a platform in KiB: the base's, and its own.
const W5: ([u64; 2], [u64; 2]) = ([64, 384], [16, 256]);

/// W11: the layers of an image in KiB, once in common with all others and once its own.
const W11: [u64; 6] = [4, 16, 64, 256, 1_024, 4_096];

/// Round trip of the workloads that have one.
const FAR: Link = Link { round_trip: Duration::from_millis(50), bits_per_second: None };
const SLOW: Link = Link { round_trip: Duration::from_millis(50), bits_per_second: Some(200_000_000) };
const NEAR: Link = Link { round_trip: Duration::ZERO, bits_per_second: None };

/// Makes workloads; an image that several share is made once.
#[derive(Debug)]
pub(crate) struct Maker {
    scale: f64,
    made: HashMap<String, Rc<Image>>,
}

impl Maker {
    pub(crate) fn new(scale: f64) -> Self {
        Self { scale, made: HashMap::new() }
    }

    /// The workload of that name.
    pub(crate) fn workload(&mut self, name: &str) -> Option<Workload> {
        let (entries, before, link) = match name {
            "W1" | "W1t" => (vec![self.large("v1")], Before::Nothing, NEAR),
            "W2" | "W2t" => (vec![self.small()], Before::Nothing, NEAR),
            "W3" => (vec![self.large("v1")], Before::Everything, NEAR),
            "W4" => (vec![self.large("v2")], Before::Holding(self.large("v1")), NEAR),
            "W5" => (self.catalog(100), Before::Nothing, NEAR),
            "W5n" => (self.catalog(100), Before::Everything, NEAR),
            "W6" => (vec![self.small()], Before::Nothing, FAR),
            "W7" => (vec![self.large("v1")], Before::Everything, FAR),
            "W7c" => (self.catalog(100), Before::Everything, FAR),
            "W8" => (vec![self.large("v1")], Before::Nothing, SLOW),
            "W9" => (vec![self.giant()], Before::Nothing, NEAR),
            "W11" => (self.fleet(100), Before::Nothing, NEAR),
            "W11n" => (self.fleet(100), Before::Everything, NEAR),
            _ => return None,
        };
        let transport = if matches!(name, "W1t" | "W2t") { Transport::Tls } else { Transport::Plain };
        Some(Workload { name: name.to_owned(), at: None, entries, before, link, transport })
    }

    /// One workload for each point of a growth series.
    pub(crate) fn series(&mut self, name: &str) -> Vec<Workload> {
        let points: &[u32] = match name {
            "platforms" => &[1, 2, 4, 8, 16, 32],
            "layers" => &[1, 3, 10, 30, 100, 300, 1_000],
            "images" => &[10, 100, 1_000, 2_000],
            _ => &[0, 10, 30, 100, 300],
        };
        // A scaled run skips the far end.
        let wanted = if self.scale < 0.1 { 3 } else { points.len() };
        let point = |&point: &u32| {
            let (mut link, before) = (NEAR, Before::Nothing);
            let entries = match name {
                "platforms" => vec![self.entry(&format!("platforms/{point}"), "v1", || {
                    Recipes::index(31, point as usize, vec![64 << 10; 4])
                })],
                "layers" => vec![self.entry(&format!("layers/{point}"), "v1", || {
                    let layers = vec![4 << 10; point as usize];
                    Recipes { is_index: false, ..Recipes::index(32, 1, layers) }
                })],
                "images" => self.catalog(point as usize),
                _ => {
                    link.round_trip = Duration::from_millis(point.into());
                    vec![self.small()]
                }
            };
            let (name, at) = (format!("{name} {point}"), Some(point.into()));
            Workload { name, at, entries, before, link, transport: Transport::Plain }
        };
        points.iter().take(wanted).map(point).collect()
    }

    fn large(&mut self, tag: &str) -> Entry {
        let layers = self.kib(&W1);
        let changed = (tag == "v2").then_some((W4_CHANGED, 4));
        self.entry("w1", tag, || Recipes { changed, ..Recipes::index(1, 3, layers) })
    }

    /// Forty layers a platform from 4 to 512 KiB, more small ones than large ones: 16 MiB in all.
    fn small(&mut self) -> Entry {
        let layers = (0..40_u64).map(|at| self.scaled((4 << 10) + (508 << 10) * at.pow(3) / 39_u64.pow(3))).collect();
        self.entry("w2", "v1", || Recipes::index(2, 3, layers))
    }

    fn giant(&mut self) -> Entry {
        let layers = vec![self.scaled(2 << 30)];
        self.entry("w9", "v1", || Recipes { is_index: false, ..Recipes::index(9, 1, layers) })
    }

    fn catalog(&mut self, images: usize) -> Vec<Entry> {
        let (base, own) = (self.kib(&W5.0), self.kib(&W5.1));
        let images = self.count(images);
        let image = |number: usize| {
            let base = (5, base.clone());
            let recipes = || Recipes { base, ..Recipes::index(1_000 + number as u64, 3, own.clone()) };
            self.entry(&format!("w5/{number}"), "v1", recipes)
        };
        (0..images).map(image).collect()
    }

    fn fleet(&mut self, images: usize) -> Vec<Entry> {
        let (layers, images) = (self.kib(&W11), self.count(images));
        let image = |number: usize| {
            let base = (11, layers.clone());
            let recipes =
                || Recipes { base, is_index: false, ..Recipes::index(11_000 + number as u64, 1, layers.clone()) };
            self.entry(&format!("w11/{number}"), "v1", recipes)
        };
        (0..images).map(image).collect()
    }

    /// As many images of a catalog.
    fn count(&self, images: usize) -> usize {
        ((images as f64 * self.scale).ceil() as usize).max(3)
    }

    fn entry(&mut self, repository: &str, tag: &str, recipes: impl FnOnce() -> Recipes) -> Entry {
        let image = self.made.entry(format!("{repository}:{tag}")).or_insert_with(|| Rc::new(recipes().make()));
        Entry { repository: repository.to_owned(), tag: tag.to_owned(), image: Rc::clone(image) }
    }

    fn kib(&self, sizes: &[u64]) -> Vec<u64> {
        sizes.iter().map(|kib| self.scaled(kib << 10)).collect()
    }

    fn scaled(&self, bytes: u64) -> u64 {
        ((bytes as f64 * self.scale) as u64).max(1)
    }
}

impl Workload {
    /// Nodes and bytes of all images, each counted once.
    pub(crate) fn weight(&self) -> (usize, u64) {
        let mut seen = HashMap::new();
        for node in self.entries.iter().flat_map(|entry| &entry.image.nodes) {
            seen.insert(node.descriptor.digest, node.descriptor.size);
        }
        (seen.len(), seen.values().sum())
    }
}
