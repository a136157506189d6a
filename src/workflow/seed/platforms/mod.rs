//! What the record says of an image beyond its digest: the platforms that it runs on.

pub(crate) mod rewrite_index;
pub(crate) mod select;

use crate::error::{Result, printable};
use crate::oci::{Manifest, MediaType, Platform, Shape};
use crate::store::{Root, Store, read_small};

/// Largest configuration that is read for its platform. Larger ones exist only to be refused.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The platforms of `root`, in the index's order; of a single image, that of its configuration, read from `store`.
///
/// Nothing known gives an empty list: an artifact runs nowhere.
///
/// # Errors
///
/// Those of reading the configuration. What it holds is the publisher's matter and no error.
pub(crate) async fn platforms(root: &Root, store: &dyn Store) -> Result<Vec<String>> {
    Ok(runs_on(root, store).await?.iter().map(told).collect())
}

/// The same, not yet fit to be shown.
///
/// # Errors
///
/// As [`platforms`].
pub(super) async fn runs_on(root: &Root, store: &dyn Store) -> Result<Vec<Platform>> {
    let Some(manifest) = root.bytes.as_ref().and_then(|bytes| Manifest::parse(bytes, &root.node.media_type).ok())
    else {
        return Ok(Vec::new());
    };
    if manifest.shape == Shape::Index {
        return Ok(manifest.platforms().into_iter().cloned().collect());
    }
    let is_image = |media_type: &MediaType| [MediaType::OCI_CONFIG, MediaType::DOCKER_CONFIG].contains(media_type);
    match manifest.config {
        Some(config) if is_image(&config.media_type) => {
            let bytes = read_small(store, &config, MAX_CONFIG_BYTES).await?;
            // The platform's fields stand beside all others (image-spec, "Image Configuration"), which are passed over.
            let known = serde_json::from_slice::<Platform>(&bytes).into_iter().filter(Platform::is_known);
            Ok(known.collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// A platform as it stands in the record, which people look at: it is an image's own word.
pub(crate) fn told(platform: &Platform) -> String {
    printable(&platform.to_string())
}
