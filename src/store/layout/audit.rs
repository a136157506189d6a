//! Looking at one layout whole: every file is hashed, and every manifest has what it refers to, in the right length.
//!
//! It may run while others write to the layout. Files appear whole, so one that does not hash to its name is damaged however
//! busy the layout is; what is missing is believed only if `index.json` is still the one that was read.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::Layout;
use super::file;
use super::folder::Folder;
use super::index::{self, Stamp};
use crate::disk::{self, Place, blocking};
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Descriptor, Digest, Hasher};

/// How often a layout is looked at that others are changing.
const MAX_LOOKS: u32 = 3;

/// How a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Its file is there and is not what its name or a manifest says.
    Damaged,
    /// A manifest needs it, and there is no such file.
    Missing,
}

/// Something that is wrong in one layout.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// None for `index.json`, which has no digest.
    pub(crate) digest: Option<Digest>,
    /// What a manifest or `index.json` says of it; none if nothing refers to it.
    pub(crate) node: Option<Descriptor>,
    pub(crate) path: PathBuf,
    pub(crate) fault: Fault,
    pub(crate) why: String,
    /// Names in `index.json` that lead to it.
    pub(crate) names: Vec<String>,
}

/// What a look at one layout showed.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) manifests: u64,
    pub(crate) findings: Vec<Finding>,
}

/// The files that were hashed in one run, each once: blobs of several repositories may be one file.
#[derive(Debug)]
pub(crate) struct Hashed {
    workers: NonZeroUsize,
    known: Mutex<HashMap<Identity, bool>>,
    files: AtomicUsize,
    bytes: Mutex<u64>,
}

/// A file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    digest: Digest,
    file: (u64, u64),
    path: Option<PathBuf>,
    length: u64,
    modified: Option<SystemTime>,
}

/// A file that carries a digest as its name.
#[derive(Debug, Clone, Copy)]
struct Held {
    length: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Right,
    Wrong,
    /// A folder, a link, or something else that is no plain file.
    Strange,
}

impl Hashed {
    /// Nothing yet; `workers` files are read at the same time.
    pub(crate) fn new(workers: NonZeroUsize) -> Self {
        Self { workers, known: Mutex::default(), files: AtomicUsize::new(0), bytes: Mutex::default() }
    }

    /// How many files were read, and how many bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed) as u64, *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hashes every blob of a layout. What vanishes meanwhile is not there.
    fn all(&self, folder: &Place) -> Result<HashMap<Digest, Held>> {
        let named = named(folder)?;
        let (next, held) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
        let work = || -> Result<()> {
            while let Some((digest, place)) = named.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(found) = self.one(digest, place)? {
                    held.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, found);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers.get().min(named.len())).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|_| Err(Error::new(Kind::Local, "hash files").on(folder.path().display())))
            });
            done.collect::<Result<Vec<()>>>()
        })?;
        Ok(held.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn one(&self, digest: &Digest, place: &Place) -> Result<Option<Held>> {
        // Looked at first: a link or a pipe is not opened, and damage is no failure.
        match place.look().map_err(place.failed("look at"))? {
            None => return Ok(None),
            Some(about) if !about.is_file() => return Ok(Some(Held { length: 0, state: State::Strange })),
            Some(_) => {}
        }
        let (file, about) = match place.open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(place.failed("open"))?,
        };
        let identity = Identity {
            digest: *digest,
            file: disk::number(&about),
            path: if cfg!(unix) { None } else { Some(place.path()) },
            length: about.len(),
            modified: about.modified().ok(),
        };
        let length = identity.length;
        let is_known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&identity).copied();
        let is_right = match is_known {
            Some(is_right) => is_right,
            None => {
                let mut hasher = Hasher::new(digest.algorithm());
                let read = file::hash(&file, &mut hasher);
                let is_right = match read {
                    Ok(read) => {
                        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) += read;
                        hasher.finish() == *digest
                    }
                    // A disk that cannot give the bytes holds damage too.
                    Err(error) => {
                        tracing::warn!(file = %place.path().display(), %error, "cannot be read");
                        false
                    }
                };
                self.files.fetch_add(1, Ordering::Relaxed);
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(identity, is_right);
                is_right
            }
        };
        Ok(Some(Held { length, state: if is_right { State::Right } else { State::Wrong } }))
    }
}

/// Every entry of the blobs' folders that carries a digest as its name.
fn named(folder: &Place) -> Result<Vec<(Digest, Place)>> {
    let mut found = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let place = folder.join("blobs").join(algorithm.as_str());
        for name in place.list().map_err(place.failed("list"))? {
            let digest = name.to_str().and_then(|name| format!("{}:{name}", algorithm.as_str()).parse().ok());
            found.extend(digest.map(|digest| (digest, place.join(&name))));
        }
    }
    Ok(found)
}

impl Layout {
    /// Hashes every file and looks whether every manifest has what it refers to. Blocks.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) for a folder or file that this user may not read.
    pub(crate) fn audit(&self, hashed: &Hashed) -> Result<Audit> {
        let folder = &*self.inner;
        for look in 1.. {
            let stamp = Stamp::of(&folder.place);
            let audit = Walk::over(folder, hashed)?;
            if audit.findings.is_empty() || look == MAX_LOOKS || Stamp::of(&folder.place) == stamp {
                return Ok(audit);
            }
        }
        Ok(Audit::default())
    }

    /// Gives the file of `digest` in `from` the place of whatever this layout has under that name. The name never vanishes.
    pub(crate) async fn share(&self, from: &Self, digest: Digest) -> Result<()> {
        let (source, target) = (from.blob(&digest), self.blob(&digest));
        blocking(move || {
            let passing = target.parent().join(disk::passing_name()?);
            // A copy where the file system knows no hard links.
            disk::link(&source, &passing)?;
            passing.rename(&target).map_err(target.failed("rename"))?;
            target.sync_name().map_err(target.failed("sync the folder of"))
        })
        .await
    }
}

/// A walk from `index.json` to everything that it leads to.
struct Walk<'a> {
    folder: &'a Folder,
    held: HashMap<Digest, Held>,
    /// Which manifests list a node.
    parents: HashMap<Digest, Vec<Digest>>,
    /// The names that entries of `index.json` carry.
    names: HashMap<Digest, Vec<String>>,
    seen: HashSet<Digest>,
    audit: Audit,
}

impl<'a> Walk<'a> {
    fn over(folder: &'a Folder, hashed: &Hashed) -> Result<Audit> {
        // The list first: what is pushed after that is not looked for, and what it needs is there before it is listed.
        let entries = index::entries(&folder.place);
        let held = hashed.all(&folder.place)?;
        let mut walk = Self {
            folder,
            held,
            parents: HashMap::new(),
            names: HashMap::new(),
            seen: HashSet::new(),
            audit: Audit::default(),
        };
        match entries {
            Ok((_, entries)) => walk.entries(entries),
            // A repository that was never finished holds nothing.
            Err(_) if walk.held.is_empty() && !folder.is_layout() => {}
            Err(error) => walk.audit.findings.push(Finding {
                digest: None,
                node: None,
                path: index::place(&folder.place).path(),
                fault: if index::place(&folder.place).is_file() { Fault::Damaged } else { Fault::Missing },
                why: error.chain(),
                names: Vec::new(),
            }),
        }
        Ok(walk.end())
    }

    fn entries(&mut self, entries: Vec<Descriptor>) {
        let listed: HashSet<_> = entries.iter().map(|entry| entry.digest).collect();
        for entry in &entries {
            let name = entry.annotations.get(index::REF_NAME).cloned();
            self.names.entry(entry.digest).or_default().extend(name);
        }
        let mut open: Vec<_> = entries.into_iter().map(|entry| (entry, None)).collect();
        // Each digest is looked at once, so this ends even on indexes that list one another.
        while let Some((node, parent)) = open.pop() {
            if let Some((parent, _)) = parent {
                self.parents.entry(node.digest).or_default().push(parent);
            }
            if !self.seen.insert(node.digest) {
                continue;
            }
            // An index may be sparse, and a foreign layer is had from its publisher.
            let is_sparse = parent.is_some_and(|(_, is_sparse)| is_sparse) && !listed.contains(&node.digest);
            let may_lack = node.is_foreign() || is_sparse;
            if self.judge(&node, may_lack) && node.is_manifest() {
                open.extend(self.children(&node));
            }
        }
    }

    /// Whether `node` is there and right; notes what is wrong.
    fn judge(&mut self, node: &Descriptor, may_lack: bool) -> bool {
        let (fault, why) = match self.held.get(&node.digest) {
            None if may_lack => return false,
            None => (Fault::Missing, "there is no such file".to_owned()),
            Some(Held { state: State::Strange, .. }) => (Fault::Damaged, "it is no plain file".to_owned()),
            Some(Held { length, .. }) if *length != node.size => {
                (Fault::Damaged, format!("it holds {length} bytes, and {} are listed", node.size))
            }
            Some(Held { state: State::Wrong, .. }) => (Fault::Damaged, "its bytes hash to something else".to_owned()),
            Some(Held { state: State::Right, .. }) => return true,
        };
        self.note(node.digest, Some(node.clone()), fault, why);
        false
    }

    /// What a manifest lists, and whether it may do so although it is not there.
    fn children(&mut self, node: &Descriptor) -> Vec<(Descriptor, Option<(Digest, bool)>)> {
        self.audit.manifests += 1;
        let bytes = file::small(&index::blob(&self.folder.place, &node.digest));
        match bytes.and_then(|bytes| file::parse(&bytes, &node.media_type)) {
            Ok(manifest) => {
                let parent = |child: &Descriptor| Some((node.digest, child.is_manifest()));
                manifest.children().map(|child| (child.clone(), parent(child))).collect()
            }
            // Removed since it was hashed.
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            Err(error) => {
                self.note(node.digest, Some(node.clone()), Fault::Damaged, error.chain());
                Vec::new()
            }
        }
    }

    fn note(&mut self, digest: Digest, node: Option<Descriptor>, fault: Fault, why: String) {
        let path = index::blob(&self.folder.place, &digest).path();
        self.audit.findings.push(Finding { digest: Some(digest), node, path, fault, why, names: Vec::new() });
    }

    /// Adds what is damaged and nothing refers to, and the names that lead to everything.
    fn end(mut self) -> Audit {
        let others =
            self.held.iter().filter(|(digest, held)| held.state != State::Right && !self.seen.contains(*digest));
        for digest in others.map(|(digest, _)| *digest).collect::<Vec<_>>() {
            let why = "its bytes hash to something else; nothing refers to it, and registry gc removes it".to_owned();
            self.note(digest, None, Fault::Damaged, why);
        }
        let mut findings = std::mem::take(&mut self.audit.findings);
        for finding in &mut findings {
            finding.names = finding.digest.map(|digest| self.names_of(digest)).unwrap_or_default();
        }
        findings.sort_by(|one, other| one.path.cmp(&other.path));
        Audit { findings, ..self.audit }
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
