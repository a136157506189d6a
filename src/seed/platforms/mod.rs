//! The platforms of an image, which the record lists besides its digest.

pub(crate) mod rewrite_index;
pub(crate) mod select;

use crate::error::{Result, printable};
use crate::oci::{MediaType, Platform, Shape};
use crate::store::{Root, Store, read_small};

/// Maximum size of a configuration that is read for its platform. Larger ones exist only to be refused.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Returns the platforms of `root`, in the index's order; for a single image, that of its configuration, read from
/// `store`.
///
/// Returns an empty list if none is known: an artifact runs nowhere.
///
/// # Errors
///
/// Fails if the configuration cannot be read. Invalid content in it is the publisher's responsibility and not an error.
pub(crate) async fn platforms(root: &Root, store: &dyn Store) -> Result<Vec<String>> {
    Ok(runs_on(root, store).await?.iter().map(told).collect())
}

/// Returns the same platforms, before they are made printable.
///
/// # Errors
///
/// Fails like [`platforms`].
pub(super) async fn runs_on(root: &Root, store: &dyn Store) -> Result<Vec<Platform>> {
    let Ok(manifest) = root.manifest() else { return Ok(Vec::new()) };
    if manifest.shape == Shape::Index {
        return Ok(manifest.platforms().into_iter().cloned().collect());
    }
    let is_image = |media_type: &MediaType| [MediaType::OCI_CONFIG, MediaType::DOCKER_CONFIG].contains(media_type);
    match manifest.config {
        Some(config) if is_image(&config.media_type) => {
            let bytes = read_small(store, &config, MAX_CONFIG_BYTES).await?;
            // The platform's fields are among others (image-spec, "Image Configuration"), which are ignored.
            let known = serde_json::from_slice::<Platform>(&bytes).into_iter().filter(Platform::is_known);
            Ok(known.collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Returns a platform as text for the record. People read it and the image chose it, so it is made printable.
pub(crate) fn told(platform: &Platform) -> String {
    printable(&platform.to_string())
}
