//! The lengths of blobs, as the images of a layout state them.

use std::collections::HashMap;

use crate::oci::{Digest, Manifest};

/// Most lengths that are noted. Blobs beyond that are taken as they are.
const MAX_NOTED: usize = 1 << 18;

/// Bytes of memory that each takes, including the free space in the map.
const NOTE_BYTES: usize = 56;

/// The length of a blob, according to the images that list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatedLength {
    /// All of them state this one.
    Bytes(u64),
    /// They contradict each other.
    Disputed,
}

/// The stated lengths, by the first eight bytes of each digest: a layout may list a hundred thousand blobs. Two blobs
/// whose digests begin alike count as disputed.
#[derive(Debug, Clone, Default)]
pub(in crate::store::layout) struct StatedLengths(HashMap<[u8; 8], StatedLength>);

impl StatedLengths {
    /// Notes what an image states; returns roughly how many bytes of memory that takes. Its publisher alone has foreign
    /// layers, and an index states no lengths of blobs.
    pub(super) fn note(&mut self, manifest: &Manifest) -> usize {
        let (before, mut added) = (self.0.len(), 0);
        for node in manifest.config.iter().chain(&manifest.layers).filter(|node| !node.is_foreign()) {
            let (key, stated) = (start(&node.digest), StatedLength::Bytes(node.size));
            match self.0.get_mut(&key) {
                Some(noted) if *noted == stated => {}
                Some(noted) => *noted = StatedLength::Disputed,
                None if before + added < MAX_NOTED => {
                    self.0.insert(key, stated);
                    added += 1;
                }
                None => {}
            }
        }
        added * NOTE_BYTES
    }

    /// Returns the length of a blob, if an image states one.
    pub(in crate::store::layout) fn of(&self, digest: &Digest) -> Option<StatedLength> {
        self.0.get(&start(digest)).copied()
    }

    /// Returns roughly how many bytes of memory they take.
    pub(super) fn weight(&self) -> usize {
        self.0.len() * NOTE_BYTES
    }
}

fn start(digest: &Digest) -> [u8; 8] {
    let bytes: &[u8] = match digest {
        Digest::Sha256(bytes) => bytes,
        Digest::Sha512(bytes) => bytes,
    };
    // A hash is longer than that.
    bytes.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, MediaType};

    fn image(layers: &[(&str, u64, MediaType)]) -> Manifest {
        let node = |(content, size, media_type): &(&str, u64, MediaType)| {
            Descriptor::new(media_type.clone(), Digest::sha256(content.as_bytes()), *size)
        };
        let layers: Vec<_> = layers.iter().map(node).collect();
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        let text = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        Manifest::parse(text.as_bytes(), &MediaType::OCI_MANIFEST).unwrap()
    }

    #[test]
    fn a_length_counts_once_and_contradictions_are_kept() {
        let foreign = MediaType::new("application/vnd.oci.image.layer.nondistributable.v1.tar");
        let mut lengths = StatedLengths::default();
        let first = image(&[("a", 1, MediaType::OCI_LAYER), ("b", 2, MediaType::OCI_LAYER), ("c", 3, foreign)]);
        assert_eq!(lengths.note(&first), 3 * NOTE_BYTES);
        assert_eq!(lengths.note(&first), 0);
        assert_eq!(lengths.note(&image(&[("a", 9, MediaType::OCI_LAYER)])), 0);
        assert_eq!(lengths.note(&first), 0);
        let of = |content: &str| lengths.of(&Digest::sha256(content.as_bytes()));
        assert_eq!([of("a"), of("b")], [Some(StatedLength::Disputed), Some(StatedLength::Bytes(2))]);
        assert_eq!([of("{}"), of("c")], [Some(StatedLength::Bytes(2)), None]);
        assert_eq!(lengths.weight(), 3 * NOTE_BYTES);
    }
}
