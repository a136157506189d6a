//! The places of large blobs in their images, for displays: the platform and the number of the layer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::schedule::LARGE;
use super::{NodeFate, Plan, PlanStep};
use crate::oci::{Descriptor, Digest, Manifest};

/// The place of a blob in its image. Displays as `linux/arm64 layer 3 of 8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlace {
    /// The platform of the image, if an index names it.
    pub platform: Option<Arc<str>>,
    /// The number of the layer, from 1.
    pub layer: usize,
    /// The number of layers of that image.
    pub layers: usize,
}

impl fmt::Display for LayerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(platform) = &self.platform {
            write!(f, "{platform} ")?;
        }
        write!(f, "layer {} of {}", self.layer, self.layers)
    }
}

/// Returns the places of the large blobs that `plan` puts, by the position of their step. Only these have a line of their
/// own in a display, so manifests without large blobs are not parsed again.
pub(super) fn of_large_blobs(plan: &Plan) -> HashMap<usize, LayerPlace> {
    let is_large = |&need: &usize| is_large_blob(&plan.steps[need]);
    let images = plan.steps.iter().filter(|step| step.needs().iter().any(is_large));
    let mut places = HashMap::new();
    let mut platforms = None;
    for image in images {
        let Some(manifest) = parsed(image) else { continue };
        let platforms = platforms.get_or_insert_with(|| platforms_of(plan));
        let layers = manifest.layers.len();
        let numbers: HashMap<_, _> = manifest.layers.iter().zip(1..).map(|(layer, at)| (layer.digest, at)).collect();
        for &need in image.needs().iter().filter(|need| is_large(need)) {
            let Some(&layer) = numbers.get(&plan.steps[need].node.digest) else { continue };
            let platform = platforms.get(&image.node.digest).cloned();
            places.entry(need).or_insert(LayerPlace { platform, layer, layers });
        }
    }
    places
}

fn is_large_blob(step: &PlanStep) -> bool {
    step.fate == NodeFate::Put && !step.node.is_manifest() && step.node.size >= LARGE
}

/// Returns the platforms that the indexes of `plan` name, by the digest of the image.
fn platforms_of(plan: &Plan) -> HashMap<Digest, Arc<str>> {
    let indexes = plan.steps.iter().filter(|step| step.node.media_type.is_index()).filter_map(parsed);
    let entries = indexes.flat_map(|index| index.manifests);
    let known =
        |entry: Descriptor| entry.platform.filter(|it| it.is_known()).map(|it| (entry.digest, it.to_string().into()));
    entries.filter_map(known).collect()
}

fn parsed(step: &PlanStep) -> Option<Manifest> {
    Manifest::parse(step.bytes()?, &step.node.media_type).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::copy::{Event, Events, Job, Options, Target, copy};
    use crate::oci::MediaType;
    use crate::store::{Memory, put_bytes};

    async fn hold(store: &Memory, media_type: MediaType, bytes: Vec<u8>) -> Descriptor {
        let node = Descriptor::of(media_type, &bytes);
        put_bytes(store, &node, bytes, &[]).await.unwrap();
        node
    }

    async fn image(store: &Memory, layers: &[&Descriptor]) -> Descriptor {
        let config = hold(store, MediaType::OCI_CONFIG, format!("{{\"layers\":{}}}", layers.len()).into()).await;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": layers});
        hold(store, MediaType::OCI_MANIFEST, manifest.to_string().into()).await
    }

    #[tokio::test]
    async fn large_layers_are_named_by_their_platform_and_number_and_small_ones_are_not() {
        let store = Memory::default();
        let layer = |byte: u8, length: u64| hold(&store, MediaType::OCI_LAYER, vec![byte; length as usize]);
        let (small, first, second) = (layer(0, LARGE - 1).await, layer(1, LARGE).await, layer(2, LARGE).await);
        let arm = image(&store, &[&small, &first]).await;
        let other = image(&store, &[&first, &small, &second]).await;
        let entries = json!([
            {"mediaType": arm.media_type, "digest": arm.digest, "size": arm.size,
             "platform": {"os": "linux", "architecture": "arm64"}},
            {"mediaType": other.media_type, "digest": other.digest, "size": other.size,
             "platform": {"os": "unknown", "architecture": "unknown"}},
        ]);
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
        let node = hold(&store, MediaType::OCI_INDEX, index.to_string().into()).await;

        let target = Target { node, bytes: None, tags: Vec::new(), former: None };
        let job = Job::new(Arc::new(store), Arc::new(Memory::default()), vec![target]);
        let (events, mut receiver) = Events::channel(64);
        copy(&job, &Options::default(), &events).await.unwrap();
        let mut named = HashMap::new();
        while let Ok(message) = receiver.try_recv() {
            if let Event::Started { node, place, .. } = message.event {
                named.insert(node.digest, place.map(|place| place.to_string()));
            }
        }
        assert_eq!(named[&first.digest].as_deref(), Some("linux/arm64 layer 2 of 2"), "shared: the first image counts");
        assert_eq!(named[&second.digest].as_deref(), Some("layer 3 of 3"));
        assert_eq!(named.values().flatten().count(), 2, "{named:?}");
    }
}
