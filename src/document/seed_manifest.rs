//! `seed-manifest.json` and `seed.lock`: the record of a seed, for auditors and for the next tool.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Reference, Repository};

/// The value of `schema_version`.
const SCHEMA_VERSION: &str = "seed.v1";

/// The source, destination and verification of a seed. The ten fields are always present, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedManifest {
    /// Always `seed.v1`.
    pub schema_version: String,
    /// The source as the user gave it.
    pub source_ref: Reference,
    /// The digest that the source reference named.
    pub source_digest: Digest,
    /// The destination as the user gave it, with its tag.
    pub dest_ref: Reference,
    /// The digest that the destination holds now; equal to the source's, unless a smaller index replaced it.
    pub dest_digest: Digest,
    /// `os/arch[/variant]` in the index's order; for a single image, from its configuration; empty if unknown.
    pub platforms: Vec<String>,
    /// Whether at least one sidecar (lock or policy) was copied.
    pub copied_policy: bool,
    /// The public key that verified the image, as the user named it; null after `--skip-verify`.
    pub signing_key_ref: Option<String>,
    /// Whether the destination was verified from its own bytes.
    pub verified: bool,
    /// When the destination was complete. The record of an unchanged image keeps the time of the run that seeded it.
    pub seeded_at: jiff::Timestamp,
    /// Whether the content was checked against a digest that the operator gave, and no signature; omitted if false.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub pinned: bool,
    /// When a later run found the image unchanged; omitted in the record of the run that seeded it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checked_at: Option<jiff::Timestamp>,
    /// Checks that were relaxed or skipped, in words, such as `rollback allowed`; omitted if empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub weakened: Vec<String>,
    /// How the content moved. The record of an unchanged image keeps that of the run that seeded it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transfer: Option<Transfer>,
}

/// How content moved: an addition to the documented ten fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// `native` or `skopeo`.
    pub engine: String,
    /// Bytes of content sent to the destination.
    pub bytes_moved: u64,
    /// Bytes of content that the destination held already.
    pub bytes_present: u64,
    /// Bytes of content that the destination mounted from another of its repositories.
    pub bytes_mounted: u64,
    /// Blobs of the image and of its accessories.
    pub blobs: u64,
    /// Blobs whose bytes were sent.
    pub blobs_moved: u64,
    /// Blobs that the destination mounted from another of its repositories.
    #[serde(default)]
    pub blobs_mounted: u64,
    /// Manifests, indexes included.
    pub manifests: u64,
    /// Requests to the source, logins included.
    pub source_requests: u64,
    /// Requests to the destination, logins included.
    pub dest_requests: u64,
    /// Requests that were retried.
    pub retries: u64,
    /// Foreign layers that the source does not serve and that were left out.
    pub foreign_layers_left_out: u64,
    /// Bytes that came from the spool, so that the source did not send them again; omitted if zero.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bytes_spooled: u64,
    /// Bytes at the destination that `--deep` compared by length and did not read; omitted if zero.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bytes_not_read_back: u64,
    /// Wall time of the whole seed, in seconds.
    pub seconds: f64,
    /// Signatures and sidecars that were copied too.
    pub accessories: Vec<Digest>,
}

/// Returns whether the number is zero, so that the field is omitted.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SeedManifest {
    /// Returns the value of `schema_version`.
    #[must_use]
    pub fn version() -> String {
        SCHEMA_VERSION.to_owned()
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if it is not a `seed.v1` document.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let invalid = || Error::new(Kind::Usage, "read seed manifest");
        let manifest: Self = serde_json::from_slice(bytes).map_err(|cause| invalid().because(cause))?;
        if manifest.schema_version == SCHEMA_VERSION {
            Ok(manifest)
        } else {
            let found = &manifest.schema_version;
            Err(invalid().because(format!("schema_version is {found:?}, this program reads {SCHEMA_VERSION:?}")))
        }
    }

    /// Returns the record of an image that a later run found unchanged, if `former` is the record of the same image at the
    /// same place: time and transfer of the former record, everything else of this one.
    #[must_use]
    pub fn checked_again(self, former: Option<Self>) -> Self {
        let is_same = |former: &Self| {
            let places = former.dest_ref.canonical() == self.dest_ref.canonical();
            places && (former.dest_digest, former.source_digest) == (self.dest_digest, self.source_digest)
        };
        match former.filter(is_same) {
            Some(Self { seeded_at, transfer, .. }) => {
                Self { checked_at: Some(self.seeded_at), seeded_at, transfer, ..self }
            }
            None => self,
        }
    }

    /// Returns the document as a file: indented, with a newline at the end.
    ///
    /// # Errors
    ///
    /// None in practice: every field can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|cause| Error::new(Kind::Local, "write seed manifest").because(cause))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Returns `seed.lock`: one line, `registry/repo@sha256:<hex>`.
#[must_use]
pub fn seed_lock(repository: &Repository, digest: Digest) -> String {
    format!("{}\n", repository.pinned(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SeedManifest {
        SeedManifest {
            schema_version: SeedManifest::version(),
            source_ref: "registry.upstream.example.com/robot-behavior:v1".parse().unwrap(),
            source_digest: Digest::sha256(b"x"),
            dest_ref: "localhost:5000/robot-behavior:v1".parse().unwrap(),
            dest_digest: Digest::sha256(b"x"),
            platforms: vec!["linux/amd64".into(), "linux/arm64".into()],
            copied_policy: true,
            signing_key_ref: Some("./cosign.pub".into()),
            verified: true,
            seeded_at: "2026-05-25T00:00:00Z".parse().unwrap(),
            pinned: false,
            checked_at: None,
            weakened: vec![],
            transfer: None,
        }
    }

    #[test]
    fn the_ten_fields_stand_in_the_documented_order() {
        let mut manifest = example();
        manifest.signing_key_ref = None;
        let text = String::from_utf8(manifest.to_json().unwrap()).unwrap();
        let keys: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        assert_eq!(
            keys,
            [
                "schema_version",
                "source_ref",
                "source_digest",
                "dest_ref",
                "dest_digest",
                "platforms",
                "copied_policy",
                "signing_key_ref",
                "verified",
                "seeded_at"
            ]
        );
        assert!(text.contains("\"signing_key_ref\": null") && text.contains("\"seeded_at\": \"2026-05-25T00:00:00Z\""));
    }

    #[test]
    fn the_optional_fields_follow_in_the_documented_order() {
        let (checked_at, weakened) = (Some("2026-05-26T00:00:00Z".parse().unwrap()), vec!["rollback allowed".into()]);
        let transfer = Some(Transfer::default());
        let manifest = SeedManifest { pinned: true, checked_at, weakened, transfer, ..example() };
        let text = String::from_utf8(manifest.to_json().unwrap()).unwrap();
        let keys: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        assert_eq!(keys[9..], ["seeded_at", "pinned", "checked_at", "weakened", "transfer"]);
        assert_eq!(SeedManifest::parse(text.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn an_unchanged_image_keeps_the_time_and_the_transfer_of_its_own_record_only() {
        let moved = |bytes_moved| Some(Transfer { bytes_moved, ..Transfer::default() });
        let former = SeedManifest { transfer: moved(7), verified: false, ..example() };
        let later: jiff::Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let now = SeedManifest { seeded_at: later, transfer: moved(0), ..example() };
        let checked = now.clone().checked_again(Some(former.clone()));
        assert_eq!((checked.seeded_at, checked.checked_at), (former.seeded_at, Some(later)));
        assert_eq!((checked.transfer, checked.verified), (moved(7), true), "verified by this run");
        let elsewhere = "localhost:5000/robot-behavior:v2".parse().unwrap();
        for other in [
            None,
            Some(SeedManifest { dest_ref: elsewhere, ..former.clone() }),
            Some(SeedManifest { dest_digest: Digest::sha256(b"y"), ..former.clone() }),
            Some(SeedManifest { source_digest: Digest::sha256(b"y"), ..former }),
        ] {
            assert_eq!(now.clone().checked_again(other), now);
        }
    }

    #[test]
    fn a_document_is_read_back_and_others_are_refused() {
        let manifest = SeedManifest { transfer: Some(Transfer::default()), ..example() };
        let text = manifest.to_json().unwrap();
        assert_eq!(SeedManifest::parse(&text).unwrap(), manifest);
        let other = String::from_utf8(text).unwrap();
        assert!(SeedManifest::parse(other.replace("seed.v1", "seed.v2").as_bytes()).is_err());
        assert!(SeedManifest::parse(other.replace("\"verified\"", "\"verify\"").as_bytes()).is_err());
    }

    #[test]
    fn the_lock_is_one_line() {
        let reference: Reference = "localhost:5000/robot-behavior:v1".parse().unwrap();
        let digest = Digest::sha256(b"x");
        assert_eq!(seed_lock(&reference.repository, digest), format!("localhost:5000/robot-behavior@{digest}\n"));
    }
}
