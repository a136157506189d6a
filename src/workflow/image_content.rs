//! The content of an image as its repository holds it: manifests, sizes, platforms, and the time of creation.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Error, Kind, Result, printable, shortened};
use crate::oci::walk::Walk;
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Platform, Shape};
use crate::store::{self, Root, Store};

/// The annotation with the time of creation (image-spec, "Pre-Defined Annotation Keys").
const CREATED: &str = "org.opencontainers.image.created";
/// Largest configuration that is read. Larger ones exist only to be refused.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// An image with everything below it.
#[derive(Debug)]
pub(crate) struct ImageContent {
    /// The manifest of the root.
    pub(crate) manifest: Manifest,
    /// The indexes, the root first if it is one.
    pub(crate) indexes: Vec<Digest>,
    /// The manifests that are no indexes, in the order of the indexes; the root alone if it is no index.
    pub(crate) members: Vec<Member>,
    /// Bytes of all manifests and blobs that the repository is known to hold, each once.
    pub(crate) size: u64,
}

/// A manifest of an image, usually one platform's.
#[derive(Debug)]
pub(crate) struct Member {
    /// The entry in the index; the root itself if there is no index.
    pub(crate) node: Descriptor,
    /// The manifest; none if the repository does not hold it (a sparse index).
    pub(crate) manifest: Option<Manifest>,
}

/// The parts of an image's configuration that are shown.
#[derive(Debug, Default)]
pub(crate) struct ImageConfig {
    pub(crate) created: Option<Timestamp>,
    pub(crate) platform: Option<Platform>,
}

impl ImageContent {
    /// Reads the manifests of `root`, at most `at_once` at the same time. Reads no blob.
    ///
    /// # Errors
    ///
    /// [`Invalid`](Kind::Invalid) for content that is no manifest, [`Limit`](Kind::Limit) past the bounds of an image's
    /// graph; otherwise fails as the store does. A missing manifest below the root is no error.
    pub(crate) async fn read(store: &dyn Store, root: &Root, at_once: NonZeroUsize) -> Result<Self> {
        let manifest = parsed(store, &root.node, &root.bytes)?;
        let mut content = Self { manifest, indexes: Vec::new(), members: Vec::new(), size: 0 };
        let (mut walk, mut sizes) = (Walk::from(&root.node), HashMap::new());
        loop {
            let mut level = Vec::new();
            while let Some(visit) = walk.next().map_err(|why| past_bounds(store, why))? {
                level.push(visit);
            }
            if level.is_empty() {
                content.size = sizes.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
                return Ok(content);
            }
            let read = stream::iter(level).map(|visit| async move {
                let found = if visit.item.digest == root.node.digest {
                    Some(parsed(store, &visit.item, &root.bytes)?)
                } else {
                    found(store, &visit.item).await?
                };
                Ok::<_, Error>((visit, found))
            });
            let read: Vec<_> = read.buffered(at_once.get()).try_collect().await?;
            for (visit, manifest) in read {
                let node = visit.item;
                if let Some(manifest) = &manifest {
                    sizes.insert(node.digest, node.size);
                    walk.count(manifest.children().count());
                    manifest.manifests.iter().for_each(|child| walk.enter(child, visit.depth + 1));
                    let blobs = manifest.config.iter().chain(&manifest.layers);
                    sizes.extend(blobs.map(|blob| (blob.digest, blob.size)));
                }
                match manifest {
                    Some(Manifest { shape: Shape::Index, .. }) => content.indexes.push(node.digest),
                    manifest => content.members.push(Member { node, manifest }),
                }
            }
        }
    }

    /// Returns the manifests that the repository holds, `root` first.
    pub(crate) fn held(&self) -> impl Iterator<Item = Digest> {
        let members = self.members.iter().filter(|member| member.manifest.is_some()).map(|member| member.node.digest);
        self.indexes.iter().copied().chain(members)
    }

    /// Returns the configuration that is shown for the whole image: that of the root, or of its first platform. Reads it
    /// unless annotations say as much.
    ///
    /// # Errors
    ///
    /// Fails as the store does. A missing or damaged configuration says nothing, and is no error.
    pub(crate) async fn config(&self, store: &dyn Store) -> Result<ImageConfig> {
        let annotated = annotated_time(&self.manifest);
        let is_index = self.manifest.shape == Shape::Index;
        if is_index && annotated.is_some() {
            return Ok(ImageConfig { created: annotated, platform: None });
        }
        let is_image = |member: &&Member| !is_index || member.platform().is_some();
        let first = self.members.iter().filter(is_image).find_map(|member| member.manifest.as_ref());
        let config = match first {
            Some(manifest) => config(store, manifest).await?,
            None => ImageConfig::default(),
        };
        let created = annotated.or_else(|| annotated_time(first?)).or(config.created);
        Ok(ImageConfig { created, platform: config.platform.filter(|_| !is_index) })
    }

    /// Returns the platforms of an index, in its order, each once.
    pub(crate) fn platforms(&self) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for platform in self.members.iter().filter_map(Member::platform) {
            let text = shown(&platform.to_string());
            if !told.contains(&text) {
                told.push(text);
            }
        }
        told
    }
}

impl Member {
    /// Returns the platform in the index; none for attestations and other entries that do not run.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        self.node.platform.as_deref().filter(|platform| platform.is_known())
    }

    /// Returns the bytes of the manifest and its blobs.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| content_size(&self.node, manifest))
    }
}

/// Returns the bytes of a manifest and of its blobs, each once.
pub(crate) fn content_size(node: &Descriptor, manifest: &Manifest) -> u64 {
    let blobs = manifest.config.iter().chain(&manifest.layers);
    let sizes: HashMap<_, _> = blobs.map(|blob| (blob.digest, blob.size)).collect();
    sizes.values().fold(node.size, |sum, size| sum.saturating_add(*size))
}

/// Returns a text of the registry's for people: printable, and not too long to read.
pub(crate) fn shown(text: &str) -> String {
    printable(&shortened(text))
}

/// Parses a manifest of `store`.
pub(crate) fn parsed(store: &dyn Store, node: &Descriptor, bytes: &[u8]) -> Result<Manifest> {
    Manifest::parse(bytes, &node.media_type).map_err(|why| {
        Error::new(Kind::Invalid, "read manifest").on(format!("{}@{}", store.label(), node.digest)).because(why)
    })
}

async fn found(store: &dyn Store, node: &Descriptor) -> Result<Option<Manifest>> {
    match store::absent_is_none(store::read_manifest(store, node).await)? {
        Some(bytes) => parsed(store, node, &bytes).map(Some),
        None => Ok(None),
    }
}

async fn config(store: &dyn Store, manifest: &Manifest) -> Result<ImageConfig> {
    #[derive(Deserialize)]
    struct Times {
        #[serde(default)]
        created: Option<String>,
    }
    let is_image = |config: &&Descriptor| {
        [MediaType::OCI_CONFIG, MediaType::DOCKER_CONFIG].contains(&config.media_type)
            && config.size <= MAX_CONFIG_BYTES
    };
    let Some(config) = manifest.config.as_ref().filter(is_image) else { return Ok(ImageConfig::default()) };
    let bytes = match store::read_small(store, config, MAX_CONFIG_BYTES).await {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => return Ok(ImageConfig::default()),
        Err(error) => return Err(error),
    };
    let times = serde_json::from_slice::<Times>(&bytes).ok();
    let platform = serde_json::from_slice::<Platform>(&bytes).ok().filter(Platform::is_known);
    Ok(ImageConfig { created: times.and_then(|times| time(times.created.as_deref()?)), platform })
}

fn annotated_time(manifest: &Manifest) -> Option<Timestamp> {
    time(manifest.annotations.get(CREATED)?)
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn past_bounds(store: &dyn Store, why: crate::oci::walk::PastBounds) -> Error {
    Error::new(Kind::Limit, "read manifests").on(store.label()).because(why)
}
