//! Audits one whole layout: hashes every file, and checks that every manifest has its content, in the right length.
//!
//! The audit may run while others write to the layout. Files appear whole, so a file that does not hash to its name is
//! damaged however busy the layout is. A missing file is reported only if `index.json` has not changed since it was
//! read, or could not change.

pub(crate) mod odd;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use self::odd::Odd;
use super::folder::{Changed, Hold, LayoutFolder, VERSION_FILE};
use super::index::{self, IndexStamp};
use super::manifest;
use super::{Layout, gather};
use crate::disk::{self, Place, blocking, kind_of};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::{Body, MAX_MANIFEST_BYTES};

/// How often a changing layout is audited. The last time runs under the lock, so that it cannot change.
const MAX_LOOKS: u32 = 3;

/// Bytes that are hashed in about a second, and the number of tries to have no more left.
const LITTLE: u64 = 256 << 20;
const MAX_CATCHING_UP: u32 = 8;

/// How often a file is read that others replace meanwhile.
const MAX_READS: u32 = 3;

/// The fault of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeFault {
    /// Its file exists and does not match its name or a manifest.
    Damaged,
    /// A manifest needs it, and its file does not exist.
    Missing,
}

/// A fault in one layout.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// None for `index.json`, which has no digest.
    pub(crate) digest: Option<Digest>,
    /// The descriptor in a manifest or `index.json`; None if nothing refers to the node.
    pub(crate) node: Option<Descriptor>,
    pub(crate) path: PathBuf,
    pub(crate) fault: NodeFault,
    pub(crate) why: String,
    /// Names in `index.json` that lead to it.
    pub(crate) names: Vec<String>,
}

/// The result of an audit of one layout.
#[derive(Debug, Default)]
pub(crate) struct LayoutAudit {
    pub(crate) manifests: u64,
    pub(crate) findings: Vec<Finding>,
    /// Odd entries, without entries in the place of a blob, which are findings.
    pub(crate) odd: Vec<Odd>,
}

/// The files that were hashed in one run, each once: blobs of several repositories may be one file.
#[derive(Debug)]
pub(crate) struct Hashed {
    workers: NonZeroUsize,
    known: Mutex<HashMap<FileIdentity, bool>>,
    files: AtomicUsize,
    bytes: Mutex<u64>,
    #[cfg(test)]
    meddler: tests::Meddler,
}

/// Identifies a file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileIdentity {
    digest: Digest,
    file: (u64, u64),
    path: Option<PathBuf>,
    length: u64,
    modified: Option<SystemTime>,
}

/// A file whose name is a digest.
#[derive(Debug, Clone)]
enum HeldFile {
    /// Its bytes hash to its name; their number.
    Right(u64),
    /// Its bytes hash to something else; their number.
    Wrong(u64),
    /// A folder, a link, or anything else that is not a plain file.
    Strange(&'static str),
    /// It cannot be opened.
    Closed(String),
}

impl HeldFile {
    /// Returns the fault if nothing refers to the file.
    fn alone(&self) -> Option<String> {
        let why = match self {
            Self::Right(_) => return None,
            Self::Wrong(_) => {
                "its bytes hash to something else; nothing refers to it, and registry gc removes it".to_owned()
            }
            Self::Strange(what) => format!("{what} lies in the place of a blob; nothing refers to it, so remove it"),
            Self::Closed(why) => format!("{why}; nothing refers to it"),
        };
        Some(why)
    }
}

impl Hashed {
    /// Returns an empty set; reads `workers` files at the same time.
    pub(crate) fn new(workers: NonZeroUsize) -> Self {
        Self {
            workers,
            known: Mutex::default(),
            files: AtomicUsize::new(0),
            bytes: Mutex::default(),
            #[cfg(test)]
            meddler: tests::Meddler::default(),
        }
    }

    /// Returns how many files were read, and how many bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed) as u64, *crate::sync::lock(&self.bytes))
    }

    /// Hashes the blobs of a layout. A blob that vanishes meanwhile counts as missing.
    fn all(&self, folder: &Place, digests: &[Digest]) -> Result<HashMap<Digest, HeldFile>> {
        let (next, held) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
        let work = || {
            while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(found) = self.one(folder, digest) {
                    crate::sync::lock(&held).insert(*digest, found);
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers.get().min(digests.len())).map(|_| scope.spawn(work)).collect();
            let broken = || Error::new(Kind::Local, "hash files").on(folder.path().display());
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| broken()))
        })?;
        Ok(held.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hashes new files until little is left: the list cannot change while the lock is held, and writers wait for the
    /// lock for a minute only.
    fn catch_up(&self, folder: &Place) -> Result<()> {
        for _ in 0..MAX_CATCHING_UP {
            let (_, before) = self.totals();
            self.all(folder, &odd::digests(folder, &mut drop))?;
            if self.totals().1 - before <= LITTLE {
                break;
            }
        }
        Ok(())
    }

    /// Checks one blob, and hashes it unless that was done.
    fn one(&self, folder: &Place, digest: &Digest) -> Option<HeldFile> {
        let place = index::blob(folder, digest);
        for _ in 1..MAX_READS {
            match self.read(&place, digest) {
                // A damaged file that was replaced while it was read is no damage.
                (Some(HeldFile::Wrong(_)), Some(file)) if place.names(&file).is_ok_and(|is_it| !is_it) => {}
                (found, _) => return found,
            }
        }
        self.read(&place, digest).0
    }

    fn read(&self, place: &Place, digest: &Digest) -> (Option<HeldFile>, Option<File>) {
        // Checks the type first: a link or a pipe is not opened, and damage is not an error here.
        let opened = match place.look() {
            Ok(Some(about)) if !about.is_file() => return (Some(HeldFile::Strange(kind_of(&about))), None),
            Ok(Some(_)) => place.open(),
            Ok(None) => return (None, None),
            Err(why) => Err(why),
        };
        let (file, about) = match opened {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return (None, None),
            Err(why) => return (Some(HeldFile::Closed(format!("it cannot be opened: {why}"))), None),
            Ok(opened) => opened,
        };
        let identity = FileIdentity {
            digest: *digest,
            file: disk::number(&about),
            path: if cfg!(unix) { None } else { Some(place.path()) },
            length: about.len(),
            modified: about.modified().ok(),
        };
        let is_known = crate::sync::lock(&self.known).get(&identity).copied();
        let is_right = is_known.unwrap_or_else(|| {
            let is_right = self.hash(place, &file, digest);
            crate::sync::lock(&self.known).insert(identity, is_right);
            is_right
        });
        (Some(if is_right { HeldFile::Right(about.len()) } else { HeldFile::Wrong(about.len()) }), Some(file))
    }

    fn hash(&self, place: &Place, file: &File, digest: &Digest) -> bool {
        #[cfg(test)]
        self.meddler.meddle(tests::Moment::Opened);
        let mut hasher = Hasher::new(digest.algorithm());
        self.files.fetch_add(1, Ordering::Relaxed);
        match disk::hash(file, &mut hasher) {
            Ok(read) => {
                *crate::sync::lock(&self.bytes) += read;
                hasher.finish() == *digest
            }
            // An I/O error while reading is damage too.
            Err(error) => {
                tracing::warn!(file = %place.path().display(), %error, "cannot be read");
                false
            }
        }
    }
}

impl Layout {
    /// Hashes every file and checks that every manifest has its content. Blocks.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the work itself broke off. A file that this user may not read is a finding.
    pub(crate) fn audit(&self, hashed: &Hashed) -> Result<LayoutAudit> {
        let folder = &*self.inner;
        let mut look = 1;
        loop {
            let _lock = if look == MAX_LOOKS {
                hashed.catch_up(&folder.place)?;
                folder.lock_if_possible(Hold::Shared)
            } else {
                None
            };
            let stamp = IndexStamp::of(&folder.place);
            let audit = Walk::over(folder, hashed)?;
            if audit.findings.is_empty() || look == MAX_LOOKS || IndexStamp::of(&folder.place) == stamp {
                return Ok(audit);
            }
            look += 1;
        }
    }

    /// Replaces this layout's file for `digest` with the one in `from`. The name never vanishes.
    pub(crate) async fn share(&self, from: &Self, digest: Digest) -> Result<()> {
        let (source, target) = (from.blob(&digest), self.blob(&digest));
        // A copy if the file system has no hard links.
        blocking(move || disk::link_over(&source, &target)).await
    }

    /// Replaces this layout's copy of a blob or manifest with the right bytes. A manifest becomes known again if it was
    /// listed. A manifest that was deleted meanwhile, or is a blob here, stays so, and so does everything that it
    /// lists.
    pub(crate) async fn restore(&self, body: &Body) -> Result<()> {
        let node = body.node().clone();
        if !node.is_manifest() {
            return self.put_blob(&node, body).await.map(drop);
        }
        if node.size > MAX_MANIFEST_BYTES {
            let why = format!("{} bytes announced, at most {MAX_MANIFEST_BYTES} are taken", node.size);
            return Err(Error::new(Kind::Limit, "restore manifest").on(node.digest).because(why));
        }
        let bytes = gather(body, node.size).await?;
        self.change(move |index, folder| {
            let place = index::blob(folder, &node.digest);
            let mut temporary = disk::Temporary::in_folder(&place.parent())?;
            temporary.write_all(&bytes).map_err(place.failed("write"))?;
            disk::publish(temporary, &place)?;
            if !index.leads_to(&node.digest) {
                return Ok(Changed::No(()));
            }
            index.add(&node, &manifest::parse(&bytes, &node.media_type)?, &[]);
            // Written even if nothing changed: a running server reads the manifest again when it sees a new
            // `index.json`.
            Ok(Changed::Yes(()))
        })
        .await
    }
}

/// How strongly a manifest needs its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Due,
    /// An index may be sparse.
    MayLack,
    /// The manifest was deleted: its content may be missing, at any depth.
    OfDeleted,
}

/// A walk from `index.json` to everything that it leads to.
struct Walk<'a> {
    folder: &'a LayoutFolder,
    hashed: &'a Hashed,
    held: HashMap<Digest, HeldFile>,
    /// Deleted manifests that another manifest lists. They are blobs.
    deleted: BTreeSet<Digest>,
    /// The manifests that list a node.
    parents: HashMap<Digest, Vec<Digest>>,
    /// The names in `index.json` of each entry.
    names: HashMap<Digest, Vec<String>>,
    seen: HashSet<Digest>,
    audit: LayoutAudit,
}

impl<'a> Walk<'a> {
    fn new(folder: &'a LayoutFolder, hashed: &'a Hashed, held: HashMap<Digest, HeldFile>) -> Self {
        Self {
            folder,
            hashed,
            held,
            deleted: BTreeSet::new(),
            parents: HashMap::new(),
            names: HashMap::new(),
            seen: HashSet::new(),
            audit: LayoutAudit::default(),
        }
    }

    fn over(folder: &'a LayoutFolder, hashed: &'a Hashed) -> Result<LayoutAudit> {
        // The list comes first: later pushes are not checked, and a listed manifest's content exists before it is
        // listed.
        let listed = index::entries_and_deleted(&folder.place);
        #[cfg(test)]
        hashed.meddler.meddle(tests::Moment::Listed);
        let mut audit = LayoutAudit::default();
        odd::look_over(&folder.place, &mut |odd| audit.odd.push(odd));
        let digests = odd::digests(&folder.place, &mut |odd| audit.odd.push(odd));
        let held = hashed.all(&folder.place, &digests)?;
        let mut walk = Self { audit, ..Self::new(folder, hashed, held) };
        let has_entries = listed.as_ref().is_ok_and(|(entries, _)| !entries.is_empty());
        match listed {
            Ok((entries, deleted)) => {
                walk.deleted = deleted;
                walk.entries(entries);
            }
            // An unfinished repository holds nothing.
            Err(_) if walk.held.is_empty() && !folder.is_layout() => {}
            Err(error) => walk.note_file(&index::place(&folder.place), error.chain()),
        }
        walk.version(has_entries);
        Ok(walk.end())
    }

    /// Reports a missing `oci-layout` file, without which there is no layout. It is created before the first blob or
    /// entry, and removed after the last.
    fn version(&mut self, has_entries: bool) {
        let (folder, version) = (&self.folder.place, self.folder.place.join(VERSION_FILE));
        let is_missing = || version.look().is_ok_and(|about| about.is_none());
        let is_in_use =
            || has_entries && index::place(folder).is_file() || !odd::digests(folder, &mut |_| {}).is_empty();
        if is_missing() && is_in_use() && is_missing() {
            let why = "the repository is not served without this file; the next push makes it".to_owned();
            self.note_file(&version, why);
        }
    }

    fn entries(&mut self, entries: Vec<Descriptor>) {
        let listed: HashSet<_> = entries.iter().map(|entry| entry.digest).collect();
        for entry in &entries {
            let name = entry.annotations.get(index::REF_NAME).cloned();
            self.names.entry(entry.digest).or_default().extend(name);
        }
        let mut open: Vec<_> = entries.into_iter().map(|entry| (entry, None)).collect();
        // Deleted manifests come last: their content may be missing, unless another manifest needs it.
        let mut last = Vec::new();
        // Each digest is visited once, so this ends even on indexes that list each other.
        while let Some((node, parent)) = open.pop().or_else(|| last.pop()) {
            if let Some((parent, _)) = parent {
                self.parents.entry(node.digest).or_default().push(parent);
            }
            if self.seen.contains(&node.digest) {
                continue;
            }
            // An index may be sparse, and a foreign layer comes from its publisher.
            let need = parent.filter(|_| !listed.contains(&node.digest)).map_or(Need::Due, |(_, need)| need);
            self.seen.insert(node.digest);
            if self.judge(&node, node.is_foreign() || need != Need::Due) && node.is_manifest() {
                let is_deleted = need == Need::OfDeleted || self.deleted.contains(&node.digest);
                let children = self.children(&node, is_deleted);
                if is_deleted { &mut last } else { &mut open }.extend(children);
            }
        }
    }

    /// Whether `node` exists and is right; records its fault if not.
    fn judge(&mut self, node: &Descriptor, may_lack: bool) -> bool {
        // The listing may lack a blob that came later, or whose folder cannot be listed: look for it by name.
        let held = self.held.get(&node.digest).cloned();
        let (fault, why) = match held.or_else(|| self.hashed.one(&self.folder.place, &node.digest)) {
            None if may_lack => return false,
            None => (NodeFault::Missing, "there is no such file".to_owned()),
            Some(HeldFile::Strange(what)) => (NodeFault::Damaged, format!("{what} lies there, and no plain file")),
            Some(HeldFile::Closed(why)) => (NodeFault::Damaged, why),
            Some(HeldFile::Right(length) | HeldFile::Wrong(length)) if length != node.size => {
                (NodeFault::Damaged, format!("it holds {length} bytes, and {} are listed", node.size))
            }
            Some(HeldFile::Wrong(_)) => (NodeFault::Damaged, "its bytes hash to something else".to_owned()),
            Some(HeldFile::Right(_)) => return true,
        };
        self.note(node.digest, Some(node.clone()), fault, why);
        false
    }

    /// Returns a manifest's children, and how strongly it needs each.
    fn children(&mut self, node: &Descriptor, is_deleted: bool) -> Vec<(Descriptor, Option<(Digest, Need)>)> {
        self.audit.manifests += 1;
        let bytes = manifest::read(&index::blob(&self.folder.place, &node.digest));
        match bytes.and_then(|bytes| manifest::parse(&bytes, &node.media_type)) {
            Ok(manifest) => {
                let need = |child: &Descriptor| match is_deleted {
                    true => Need::OfDeleted,
                    false if child.is_manifest() => Need::MayLack,
                    false => Need::Due,
                };
                manifest.children().map(|child| (child.clone(), Some((node.digest, need(child))))).collect()
            }
            // Removed after it was hashed.
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            Err(error) => {
                self.note(node.digest, Some(node.clone()), NodeFault::Damaged, error.chain());
                Vec::new()
            }
        }
    }

    /// Records the fault of a file that has no digest.
    fn note_file(&mut self, place: &Place, why: String) {
        let fault =
            if place.look().is_ok_and(|about| about.is_none()) { NodeFault::Missing } else { NodeFault::Damaged };
        let names = Vec::new();
        self.audit.findings.push(Finding { digest: None, node: None, path: place.path(), fault, why, names });
    }

    fn note(&mut self, digest: Digest, node: Option<Descriptor>, fault: NodeFault, why: String) {
        let path = index::blob(&self.folder.place, &digest).path();
        self.audit.findings.push(Finding { digest: Some(digest), node, path, fault, why, names: Vec::new() });
    }

    /// Adds damaged files that nothing refers to, and the names that lead to each finding.
    fn end(mut self) -> LayoutAudit {
        let others = self.held.iter().filter(|(digest, _)| !self.seen.contains(*digest));
        let others: Vec<_> = others.filter_map(|(digest, held)| Some((*digest, held.alone()?))).collect();
        for (digest, why) in others {
            self.note(digest, None, NodeFault::Damaged, why);
        }
        let mut findings = std::mem::take(&mut self.audit.findings);
        for finding in &mut findings {
            finding.names = finding.digest.map(|digest| self.names_of(digest)).unwrap_or_default();
        }
        findings.sort_by(|one, other| one.path.cmp(&other.path));
        LayoutAudit { findings, ..self.audit }
    }

    fn names_of(&self, digest: Digest) -> Vec<String> {
        let (mut open, mut seen, mut names) = (vec![digest], HashSet::new(), Vec::new());
        while let Some(digest) = open.pop() {
            if seen.insert(digest) {
                names.extend(self.names.get(&digest).into_iter().flatten().cloned());
                open.extend(self.parents.get(&digest).into_iter().flatten());
            }
        }
        names.sort();
        names.dedup();
        names
    }
}
