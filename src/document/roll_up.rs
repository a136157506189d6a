//! `catalog-seed-manifest.json`: the result of every entry of a catalog, for auditors, publishing and rollback.

use std::ops::AddAssign;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::seed_manifest::is_zero;
use super::sidecar::SidecarKind;
use super::{SeedManifest, Transfer};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Reference};

/// The value of `schema_version`.
const SCHEMA_VERSION: &str = "catalog-seed.v1";

/// Largest roll-up that is read, in bytes: a full catalog of 100,000 entries uses two thirds of it.
pub const MAX_ROLLUP_BYTES: usize = 256 << 20;

/// The results of a catalog. The fields are written in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollUp {
    /// Always `catalog-seed.v1`.
    schema_version: String,
    /// The catalog's path as the user gave it.
    pub catalog: String,
    /// When the last entry ended.
    pub seeded_at: jiff::Timestamp,
    /// One for each image, in the order of the catalog.
    pub entries: Vec<Attempt>,
    /// The sums.
    pub totals: RollUpTotals,
}

/// The result of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The source; for an entry with a selection, pinned to its digest.
    pub from: Reference,
    /// The destination, with its tag.
    pub to: Reference,
    /// The folder of its record, below the roll-up's folder.
    pub dir: String,
    /// How it ended.
    pub status: EntryStatus,
    /// The error of a failed image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// The image that the tag named before; null if there was none.
    #[serde(deserialize_with = "present")]
    pub previous_digest: Option<Digest>,
    /// The tags of its sidecars that were copied, for rollback; omitted if empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sidecars: Vec<SidecarTag>,
    /// Its `seed-manifest.json`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seed: Option<SeedManifest>,
}

/// A field that must be present, even if null: serde treats an `Option` as one that may be missing.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    Option::deserialize(deserializer)
}

/// The new and the previous digest of a sidecar's tag. The tag itself is the image's with `-lock` or `-policy`; a
/// document cannot choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarTag {
    /// Which sidecar.
    pub kind: SidecarKind,
    /// The digest that its tag names now.
    pub digest: Digest,
    /// The digest that it named before; null if there was none.
    #[serde(deserialize_with = "present")]
    pub previous_digest: Option<Digest>,
}

/// How an image ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryStatus {
    /// The destination holds it now.
    Seeded,
    /// The destination held it already, with everything attached to it.
    Unchanged,
    /// The destination lacks it, or it could not be verified there.
    Failed,
}

/// Sums over all entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollUpTotals {
    /// Images.
    pub entries: u64,
    /// Images that this run brought to the destination, or something attached to them.
    pub seeded: u64,
    /// Images that were in place; absent in roll-ups of versions that counted them as seeded.
    #[serde(default)]
    pub unchanged: u64,
    /// Images that failed.
    pub failed: u64,
    /// Bytes of content sent.
    pub bytes_moved: u64,
    /// Bytes of content that the destinations held already.
    pub bytes_present: u64,
    /// Bytes of content that registries mounted from another of their repositories.
    pub bytes_mounted: u64,
    /// Blobs whose bytes were sent.
    pub blobs_moved: u64,
    /// Blobs that registries mounted from another of their repositories.
    pub blobs_mounted: u64,
    /// Requests to the sources, logins included.
    pub source_requests: u64,
    /// Requests to the destinations, logins included.
    pub dest_requests: u64,
    /// Requests that were retried.
    pub retries: u64,
    /// Bytes that came from the spool, so that the sources did not send them again; omitted if zero.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub bytes_spooled: u64,
    /// Wall time of the whole run, in seconds.
    pub seconds: f64,
}

impl RollUpTotals {
    /// Counts `entries`. The caller adds what this run moved: the record of an unchanged image has the transfer of the run
    /// that seeded it.
    #[must_use]
    pub fn of(entries: &[Attempt]) -> Self {
        let count = |status| entries.iter().filter(|entry| entry.status == status).count() as u64;
        let [seeded, unchanged, failed] = [EntryStatus::Seeded, EntryStatus::Unchanged, EntryStatus::Failed].map(count);
        Self { entries: entries.len() as u64, seeded, unchanged, failed, ..Self::default() }
    }
}

/// Adds everything but the time: images of one run are copied at the same time.
impl AddAssign<&Transfer> for RollUpTotals {
    fn add_assign(&mut self, transfer: &Transfer) {
        self.bytes_moved += transfer.bytes_moved;
        self.bytes_present += transfer.bytes_present;
        self.bytes_mounted += transfer.bytes_mounted;
        self.blobs_moved += transfer.blobs_moved;
        self.blobs_mounted += transfer.blobs_mounted;
        self.source_requests += transfer.source_requests;
        self.dest_requests += transfer.dest_requests;
        self.retries += transfer.retries;
        self.bytes_spooled += transfer.bytes_spooled;
    }
}

impl RollUp {
    /// The media type of the document, and the type of the artifact that it is published as.
    pub const MEDIA_TYPE: &str = "application/vnd.autonomyops.catalog-seed.v1+json";

    /// The name of its file.
    pub const FILE: &str = "catalog-seed-manifest.json";

    /// Builds the results of `catalog`.
    #[must_use]
    pub fn new(catalog: String, seeded_at: jiff::Timestamp, entries: Vec<Attempt>, totals: RollUpTotals) -> Self {
        Self { schema_version: SCHEMA_VERSION.to_owned(), catalog, seeded_at, entries, totals }
    }

    /// Reads and checks a document.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if it is not a consistent `catalog-seed.v1` document.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let invalid = |why: Box<dyn std::error::Error + Send + Sync>| {
            let error = Error::new(Kind::Usage, "read roll-up").because(why);
            error.hint(format!("name the {} of a registry seed-catalog run, as it was written", Self::FILE))
        };
        if bytes.len() > MAX_ROLLUP_BYTES {
            return Err(invalid(format!("{} bytes, at most {MAX_ROLLUP_BYTES} are read", bytes.len()).into()));
        }
        version(bytes).map_err(|why| invalid(why.into()))?;
        let document: Self = serde_json::from_slice(bytes).map_err(|why| invalid(why.into()))?;
        document.check().map_err(|why| invalid(why.into()))?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        for (number, entry) in self.entries.iter().enumerate() {
            entry.check().map_err(|why| format!("entry {} ({}): {why}", number + 1, entry.to))?;
        }
        let counts = |totals: &RollUpTotals| [totals.entries, totals.seeded, totals.unchanged, totals.failed];
        let (said, found) = (counts(&self.totals), counts(&RollUpTotals::of(&self.entries)));
        if said == found {
            return Ok(());
        }
        let told = |[entries, seeded, unchanged, failed]: [u64; 4]| {
            format!("{entries} entries, {seeded} seeded, {unchanged} unchanged and {failed} failed")
        };
        Err(format!("totals say {}, where there are {}", told(said), told(found)))
    }

    /// Returns the document as a file: indented, with a newline at the end.
    ///
    /// # Errors
    ///
    /// None in practice: every field can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|cause| Error::new(Kind::Local, "write roll-up").because(cause))?;
        text.push(b'\n');
        Ok(text)
    }
}

impl Attempt {
    fn check(&self) -> Result<(), String> {
        if self.to.tag.is_none() {
            return Err("to has no tag".into());
        }
        // Readers join this to a path to find the record.
        let mut parts = Path::new(&self.dir).components();
        let is_one_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !is_one_name || self.dir.contains(['/', '\\', '\0']) {
            return Err(format!("dir {:?} is not the name of a folder", self.dir));
        }
        if self.sidecars.len() > 2 || matches!(&self.sidecars[..], [one, other] if one.kind == other.kind) {
            return Err("a sidecar stands twice".into());
        }
        match (self.status, &self.seed, &self.error) {
            (EntryStatus::Failed, ..) if !self.sidecars.is_empty() => Err("failed entries have no sidecars".into()),
            (EntryStatus::Seeded | EntryStatus::Unchanged, Some(seed), None)
                if seed.schema_version == SeedManifest::version() =>
            {
                Ok(())
            }
            (EntryStatus::Seeded | EntryStatus::Unchanged, Some(seed), None) => {
                Err(format!("seed has schema_version {:?}", seed.schema_version))
            }
            (EntryStatus::Seeded | EntryStatus::Unchanged, ..) => {
                Err("seeded and unchanged entries have seed and no error".into())
            }
            (EntryStatus::Failed, None, Some(_)) => Ok(()),
            (EntryStatus::Failed, ..) => Err("failed entries have error and no seed".into()),
        }
    }
}

/// Checks the version before the rest, so that the error for another document names its version.
fn version(bytes: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        schema_version: Option<serde_json::Value>,
    }
    // serde would accept an array of the values as the object.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no JSON object".into());
    }
    let Versioned { schema_version } =
        serde_json::from_slice(bytes).map_err(|why| format!("it is no JSON object: {why}"))?;
    match schema_version {
        Some(version) if version == SCHEMA_VERSION => Ok(()),
        Some(version) if version == SeedManifest::version() => {
            Err(format!("schema_version is {version}: the record of a single image, not of a catalog"))
        }
        Some(version) => Err(format!("schema_version is {version}, this program reads {SCHEMA_VERSION:?}")),
        None => Err(format!("there is no schema_version; this program reads {SCHEMA_VERSION:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Transfer;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn seeded(name: &str) -> Attempt {
        let (from, to) = (format!("up.example.com/{name}:v1"), format!("localhost:5000/{name}:v1"));
        let seed = SeedManifest {
            schema_version: SeedManifest::version(),
            source_ref: reference(&from),
            source_digest: Digest::sha256(b"x"),
            dest_ref: reference(&to),
            dest_digest: Digest::sha256(b"x"),
            platforms: vec!["linux/amd64".into()],
            copied_policy: false,
            signing_key_ref: None,
            verified: false,
            seeded_at: jiff::Timestamp::UNIX_EPOCH,
            pinned: false,
            checked_at: None,
            weakened: vec![],
            transfer: Some(Transfer { bytes_moved: 5, blobs_moved: 2, retries: 1, ..Transfer::default() }),
        };
        Attempt {
            from: reference(&from),
            to: reference(&to),
            dir: super::super::entry_directory(&reference(&to)),
            status: EntryStatus::Seeded,
            error: None,
            previous_digest: Some(Digest::sha256(b"before")),
            sidecars: Vec::new(),
            seed: Some(seed),
        }
    }

    fn failed(name: &str) -> Attempt {
        let error = Some("source: get manifest v1: not found".into());
        Attempt { status: EntryStatus::Failed, error, previous_digest: None, seed: None, ..seeded(name) }
    }

    fn unchanged(name: &str) -> Attempt {
        Attempt { status: EntryStatus::Unchanged, ..seeded(name) }
    }

    fn roll_up(entries: Vec<Attempt>) -> RollUp {
        let totals = RollUpTotals { seconds: 1.5, ..RollUpTotals::of(&entries) };
        RollUp::new("./catalog.yaml".into(), jiff::Timestamp::UNIX_EPOCH, entries, totals)
    }

    fn keys(text: &str, indent: usize) -> Vec<&str> {
        let start = format!("{}\"", " ".repeat(indent));
        text.lines().filter_map(|line| line.strip_prefix(start.as_str())?.split('"').next()).collect()
    }

    #[test]
    fn the_fields_stand_in_the_documented_order() {
        let text = String::from_utf8(roll_up(vec![seeded("a")]).to_json().unwrap()).unwrap();
        assert_eq!(keys(&text, 2), ["schema_version", "catalog", "seeded_at", "entries", "totals"]);
        assert_eq!(keys(&text, 6), ["from", "to", "dir", "status", "previous_digest", "seed"]);
        let text = String::from_utf8(roll_up(vec![failed("a")]).to_json().unwrap()).unwrap();
        assert_eq!(keys(&text, 6), ["from", "to", "dir", "status", "error", "previous_digest"]);
        assert!(text.contains("\"previous_digest\": null") && text.contains("\"status\": \"failed\""));
    }

    #[test]
    fn what_was_written_is_read_back_and_adds_up() {
        let document = roll_up(vec![seeded("a"), failed("b"), seeded("c"), unchanged("d")]);
        assert_eq!(RollUp::read(&document.to_json().unwrap()).unwrap(), document);
        let RollUpTotals { entries, seeded, unchanged, failed, bytes_moved, .. } = document.totals;
        assert_eq!((entries, seeded, unchanged, failed), (4, 2, 1, 1));
        assert_eq!(bytes_moved, 0, "the totals are of a run, and records may be of earlier ones");
        assert!(RollUp::read(&roll_up(vec![]).to_json().unwrap()).is_ok());
    }

    #[test]
    fn a_roll_up_that_counts_unchanged_images_as_seeded_is_read() {
        let now = String::from_utf8(roll_up(vec![seeded("a"), failed("b")]).to_json().unwrap()).unwrap();
        let former = now.replacen("    \"unchanged\": 0,\n", "", 1);
        assert_ne!(former, now);
        assert_eq!(RollUp::read(former.as_bytes()).unwrap(), RollUp::read(now.as_bytes()).unwrap());
    }

    #[test]
    fn another_document_is_refused_as_what_it_is() {
        let record = seeded("a").seed.unwrap().to_json().unwrap();
        let told = |bytes: &[u8]| RollUp::read(bytes).unwrap_err().chain();
        assert!(told(&record).contains("the record of a single image, not of a catalog"));
        assert!(
            told(br#"{"schema_version":"catalog-seed.v2","x":1}"#).contains("\"catalog-seed.v2\", this program reads")
        );
        assert!(told(br#"{"schema_version":1}"#).contains("schema_version is 1, this program"));
        assert!(told(b"{}").contains("there is no schema_version"));
        for text in ["", "null", "[]", "[\"catalog-seed.v1\"]", "{", "x", "version: 1"] {
            let error = RollUp::read(text.as_bytes()).unwrap_err();
            assert!(
                error.kind() == Kind::Usage && error.chain().contains("no JSON object"),
                "{text}: {}",
                error.chain()
            );
        }
    }

    #[test]
    fn a_roll_up_that_does_not_hold_together_is_refused() {
        let good = String::from_utf8(roll_up(vec![seeded("a"), failed("b")]).to_json().unwrap()).unwrap();
        let dir = format!("\"{}\"", seeded("a").dir);
        for (from, to) in [
            ("\"failed\": 1", "\"failed\": 2"),
            ("\"status\": \"seeded\"", "\"status\": \"failed\""),
            ("\"status\": \"seeded\"", "\"status\": \"skipped\""),
            ("\"status\": \"failed\"", "\"status\": \"seeded\""),
            ("\"status\": \"failed\"", "\"status\": \"unchanged\""),
            ("\"status\": \"seeded\"", "\"status\": \"unchanged\""),
            ("\"unchanged\": 0", "\"unchanged\": 1"),
            ("\"schema_version\": \"seed.v1\"", "\"schema_version\": \"seed.v2\""),
            ("\"catalog\": ", "\"catalogue\": "),
            ("\"catalog\": ", "\"catalog\": \"x\", \"catalog\": "),
            ("\"previous_digest\": null", "\"previous_digest\": \"sha256:0\""),
            (",\n      \"previous_digest\": null", ""),
            ("\"to\": \"localhost:5000/a:v1\"", "\"to\": \"localhost:5000/a\""),
            (&dir, "\"..\""),
            (&dir, "\".\""),
            (&dir, "\"\""),
            (&dir, "\"a/b\""),
            (&dir, "\"/etc\""),
            (&dir, "\"a\\\\b\""),
            (&dir, "\"a/\""),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 1);
            assert_eq!(RollUp::read(bad.as_bytes()).map_err(|error| error.kind()), Err(Kind::Usage), "{to}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_damage_makes_the_reader_panic(at in 0usize..2000, byte in proptest::num::u8::ANY) {
            let mut bytes = roll_up(vec![seeded("a"), failed("b")]).to_json().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Err(error) = RollUp::read(&bytes) {
                proptest::prop_assert_eq!(error.kind(), Kind::Usage);
            }
        }
    }
}
