//! Manifests of a layout, as files.

use crate::disk::{Place, read_bounded};
use crate::error::{Error, Kind, Result};
use crate::oci::{Manifest, MediaType};
use crate::store::MAX_MANIFEST_BYTES;

/// Returns a manifest's bytes, if the file exists and is no larger than a manifest may be.
pub(super) fn read(place: &Place) -> Result<Vec<u8>> {
    read_bounded(place, MAX_MANIFEST_BYTES)
}

/// Parses `bytes` as a manifest of the given type.
pub(super) fn parse(bytes: &[u8], media_type: &MediaType) -> Result<Manifest> {
    Manifest::parse(bytes, media_type).map_err(|why| Error::new(Kind::Invalid, "read manifest").because(why))
}
