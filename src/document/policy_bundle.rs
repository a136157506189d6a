//! The policy bundle: a `.tar.gz` of `manifest.json` and `*.rego`, read in memory and never unpacked to disk.
//!
//! It comes from a registry, so everything in it has a bound: fetched bytes, inflated bytes, number of entries. Links,
//! devices and sparse files are refused: a policy needs none.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use semver::Version;
use serde_json::{Map, Value};

use super::json;

/// The media type of a policy bundle, as a layer and as an artifact.
pub const MEDIA_TYPE: &str = "application/vnd.autonomyops.policy-bundle.v1+tar";
/// Largest `.tar.gz` that is read, in bytes. Rego is text: most bundles are a few kilobytes.
pub const MAX_BYTES: u64 = 16 << 20;
/// Most bytes that it may inflate to, padding and headers included.
pub const MAX_INFLATED_BYTES: u64 = 64 << 20;
/// Most gzip members; block compressors write at most one per 64 KiB.
pub const MAX_MEMBERS: usize = 4096;
/// Most entries, folders included.
pub const MAX_ENTRIES: usize = 4096;
/// Largest `manifest.json`, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Longest name of an entry, in bytes.
pub const MAX_NAME_BYTES: u64 = 1024;
/// Largest header that extends an entry's own, in bytes.
pub const MAX_EXTENSION_BYTES: u64 = 64 << 10;

/// Most bytes of a name in an error message.
const MAX_TOLD: usize = 128;

const MANIFEST: &str = "manifest.json";

/// The metadata of a policy bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The bundle's own version.
    pub version: Version,
    /// The runtime that it needs: `>= > <= < =` constraints with spaces between. Reported, not checked here.
    pub required_runtime_version: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The names of all files in it, in the archive's order.
    pub files: Vec<String>,
}

/// Why bytes are not a policy bundle.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not a gzip stream, or not a tar inside.
    #[error("the policy bundle is not a readable .tar.gz: {0}")]
    Archive(#[from] io::Error),
    /// Larger, or with more parts, than a policy needs.
    #[error("the policy bundle has more than {limit} {what}")]
    Limit {
        /// The thing that exceeds its limit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An entry that is not a plain file in the bundle's own folder, or a duplicate.
    #[error("the policy bundle's entry {name:?} {why}")]
    Entry {
        /// The name in the archive.
        name: String,
        /// The problem with it.
        why: &'static str,
    },
    /// No `manifest.json`.
    #[error("the policy bundle holds no manifest.json")]
    NoManifest,
    /// A `manifest.json` with missing or wrong fields.
    #[error("the policy bundle's manifest.json {0}")]
    Manifest(String),
}

impl Policy {
    /// Reads a bundle from its `.tar.gz`.
    ///
    /// # Errors
    ///
    /// See [`PolicyError`]. Reads the whole archive, within its bounds, so that a second `manifest.json` is found.
    pub fn read(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(PolicyError::Limit { what: "bytes", limit: MAX_BYTES });
        }
        let is_over = Cell::new(false);
        let inflated = Bounded { inner: GzipMembers::new(bytes), left: MAX_INFLATED_BYTES, is_over: &is_over };
        read_archive(inflated).map_err(|why| match why {
            PolicyError::Archive(_) if is_over.get() => {
                PolicyError::Limit { what: "bytes when inflated", limit: MAX_INFLATED_BYTES }
            }
            other => other,
        })
    }

    fn parse(manifest: &[u8], files: Vec<String>) -> Result<Self, PolicyError> {
        let wrong = |why: String| PolicyError::Manifest(why);
        let Value::Object(fields) = json::parse(manifest).map_err(|why| wrong(format!("is not readable: {why}")))?
        else {
            return Err(wrong("is not an object".into()));
        };
        let text = |fields: &Map<String, Value>, key: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(format!("has a {key} that is no text"))),
        };
        let version = text(&fields, "policy_bundle_version")?.ok_or(wrong("has no policy_bundle_version".into()))?;
        Ok(Self {
            version: parse_version(&version)
                .map_err(|why| wrong(format!("has policy_bundle_version {version:?}, which is no version: {why}")))?,
            required_runtime_version: text(&fields, "required_runtime_version")?,
            name: text(&fields, "name")?,
            files,
        })
    }
}

/// Reads a semantic version, with or without the `v` that tags often carry.
///
/// # Errors
///
/// Fails like [`semver::Version::parse`].
pub fn parse_version(text: &str) -> Result<Version, semver::Error> {
    Version::parse(text.strip_prefix('v').unwrap_or(text))
}

fn read_archive(inflated: impl Read) -> Result<Policy, PolicyError> {
    let mut archive = tar::Archive::new(inflated);
    let mut seen = BTreeSet::new();
    let (mut files, mut manifest, mut long_name, mut is_extended, mut count) = (Vec::new(), None, None, false, 0);
    // Raw: by default, the archive's reader loads extension headers completely, however long.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            let name = extended_name(&mut entry)?;
            if name.is_some() && long_name.is_some() {
                return Err(PolicyError::Entry {
                    name: told(name.as_deref()),
                    why: "stands for an entry that is named twice",
                });
            }
            (long_name, is_extended) = (name.or(long_name), true);
            continue;
        }
        is_extended = false;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(PolicyError::Limit { what: "entries", limit: MAX_ENTRIES as u64 });
        }
        let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if name.len() as u64 > MAX_NAME_BYTES {
            return Err(PolicyError::Limit { what: "bytes in a name", limit: MAX_NAME_BYTES });
        }
        let name = String::from_utf8_lossy(&name);
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        check_name(&name, kind.is_file(), seen.insert(name.clone()))?;
        if name == MANIFEST {
            manifest = Some(read_at_most(&mut entry, MAX_MANIFEST_BYTES, "bytes in manifest.json")?);
        }
        files.push(name);
    }
    if is_extended {
        return Err(PolicyError::Entry {
            name: told(long_name.as_deref()),
            why: "names an entry that does not follow",
        });
    }
    Policy::parse(&manifest.ok_or(PolicyError::NoManifest)?, files)
}

/// Returns a name for an error message.
fn told(name: Option<&[u8]>) -> String {
    let name = name.unwrap_or_default();
    String::from_utf8_lossy(&name[..name.len().min(MAX_TOLD)]).into_owned()
}

/// Returns the name that a header gives to the next entry, if any: GNU long names are its content, PAX (POSIX.1-2017,
/// "pax Extended Header") has records.
fn extended_name(entry: &mut tar::Entry<'_, impl Read>) -> Result<Option<Vec<u8>>, PolicyError> {
    let header = entry.header();
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        let name = told(Some(&header.path_bytes()));
        return Err(PolicyError::Entry { name, why: "extends another one in a format that not all readers know" });
    }
    let bytes = read_at_most(entry, MAX_EXTENSION_BYTES, "bytes in the header of an entry")?;
    if entry.header().entry_type().is_gnu_longname() {
        return whole_name(bytes.strip_suffix(&[0]).unwrap_or(&bytes)).map(Some);
    }
    let mut name = None;
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record?;
        match record.key_bytes() {
            b"path" => name = Some(whole_name(record.value_bytes())?),
            // Two readers must agree where the next entry ends, and a file must have no holes.
            key if key == b"size" || key.starts_with(b"GNU.sparse") => {
                let name = String::from_utf8_lossy(key).into_owned();
                return Err(PolicyError::Entry { name, why: "changes the size of a file" });
            }
            _ => {}
        }
    }
    Ok(name)
}

/// Returns a name that all readers end at the same place: C programs end it at the first zero byte, others do not.
fn whole_name(name: &[u8]) -> Result<Vec<u8>, PolicyError> {
    if name.contains(&0) {
        return Err(PolicyError::Entry { name: told(Some(name)), why: "has a zero byte in its name" });
    }
    Ok(name.to_vec())
}

fn read_at_most(entry: &mut impl Read, limit: u64, what: &'static str) -> Result<Vec<u8>, PolicyError> {
    let mut bytes = Vec::new();
    entry.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(PolicyError::Limit { what, limit }) } else { Ok(bytes) }
}

fn check_name(name: &str, is_file: bool, is_first: bool) -> Result<(), PolicyError> {
    let leaves = name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == "..");
    let why = match (is_file, leaves, is_first) {
        (false, ..) => "is not a plain file",
        (_, true, _) => "has a path that leaves the bundle",
        (.., false) => "stands there twice",
        _ => return Ok(()),
    };
    Err(PolicyError::Entry { name: name.to_owned(), why })
}

/// Packs a bundle. The same files give the same bytes: names sorted, no times, no owners.
///
/// # Errors
///
/// Fails like [`Policy::read`] on the result, so that every bundle made here can be read.
pub fn pack(mut files: Vec<(String, Vec<u8>)>) -> Result<Vec<u8>, PolicyError> {
    files.sort();
    let mut archive = tar::Builder::new(GzBuilder::new().mtime(0).write(Vec::new(), Compression::best()));
    for (name, content) in &files {
        if name != MANIFEST && !name.ends_with(".rego") {
            return Err(PolicyError::Entry { name: name.clone(), why: "is neither manifest.json nor a .rego file" });
        }
        check_name(name, true, true)?;
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    let mut gzip = archive.into_inner()?;
    gzip.flush()?;
    let bytes = gzip.finish()?;
    Policy::read(&bytes)?;
    Ok(bytes)
}

/// The content of consecutive gzip members (RFC 1952, section 2.2), up to [`MAX_MEMBERS`]: creating a reader takes time
/// even for an empty member, and 16 MiB have room for 800,000.
struct GzipMembers<'a> {
    current: GzDecoder<&'a [u8]>,
    count: usize,
}

impl<'a> GzipMembers<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { current: GzDecoder::new(bytes), count: 1 }
    }
}

impl Read for GzipMembers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            let rest = *self.current.get_ref();
            if count > 0 || buffer.is_empty() || rest.is_empty() {
                return Ok(count);
            }
            self.count += 1;
            if self.count > MAX_MEMBERS {
                return Err(io::Error::other(format!("more than {MAX_MEMBERS} gzip members")));
            }
            self.current = GzDecoder::new(rest);
        }
    }
}

/// A reader that fails, and sets a flag, after more than `left` bytes.
struct Bounded<'a, R> {
    inner: R,
    left: u64,
    is_over: &'a Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.is_over.set(true);
                return Err(io::Error::other("too many bytes"));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
