//! Garbage in one layout: what nothing needs, removed without taking what somebody relies on.
//!
//! Garbage are blobs that no manifest of `index.json` reaches, what writers left unfinished, and, if that is asked for,
//! manifests that no tag leads to ([`Kept::Named`]). Blobs of several repositories may be one file (mounts are hard
//! links): each repository decides for its own name alone, and the bytes go with the last one.
//!
//! It may run while others write to the layout, for three reasons together:
//!
//! 1. What is younger than [`Rules::older_than`] is never taken. A push puts its blobs before its manifest, and an index
//!    after what it lists. Whoever is told that a blob is there may rely on that and not send it, so saying so makes the
//!    file young again ([`renew`]): with a time stamp from when it was adopted, mounted or asked for by name.
//! 2. Files are added, renewed and linked under the shared lock on `oci-layout`, manifests are put, with the question whether
//!    their blobs are there, under the exclusive one. Garbage is removed under the exclusive lock too, in small portions,
//!    and only after age and, where `index.json` is not what it was, reachability were looked at once more under it.
//! 3. `index.json` is written before a manifest's file goes: a crash leaves garbage, not a name without content.
//!
//! A layout that is damaged loses nothing: what a lost or broken manifest needs looks like garbage, and may be what it takes to
//! mend it.

mod graph;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::graph::Graph;
use super::Layout;
use super::file::{TEMPORARY, failed};
use super::folder::{Changed, Folder, Hold, VERSION_FILE};
use super::index::{self, Stamp};
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Digest};

/// Age below which a time stamp is good enough: a blob that everybody asks for is not written to with each request.
const FRESH: Duration = Duration::from_secs(60);

/// Files looked at and removed while the lock is held.
const PORTION: usize = 64;

/// Which manifests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All that were put and not deleted, tagged or not.
    All,
    /// Those with a tag, and all that those are connected with: what they list, what they are attached to, and what is attached
    /// to them, at any depth.
    Named,
}

/// Whether garbage is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is.
    Removed,
    /// It is counted, and stays.
    Counted,
}

/// What counts as garbage, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) older_than: Duration,
    pub(crate) kept: Kept,
    pub(crate) effect: Effect,
}

impl Rules {
    /// Whether a file of that time is old enough. One from the future is not.
    pub(crate) fn is_old(&self, modified: std::io::Result<SystemTime>) -> bool {
        modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= self.older_than))
    }
}

/// What was garbage in one repository.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Manifests that no tag leads to.
    pub manifests: u64,
    /// Blobs that no manifest needs.
    pub blobs: u64,
    /// Files that a writer never finished.
    pub temporary_files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Those of them that came free: a blob that another repository has too still takes its place.
    pub bytes_freed: u64,
}

/// How often the files of one run were met, so that the last name of each is known even if none is removed.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<(u64, u64), u64>);

impl Names {
    /// Whether the name just met was the file's last one.
    fn is_last(&mut self, data: &Metadata, effect: Effect) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let met = self.0.entry((data.dev(), data.ino())).or_default();
            *met += u64::from(effect == Effect::Counted);
            data.nlink() <= (*met).max(1)
        }
        #[cfg(not(unix))]
        {
            let _ = (data, effect, &mut self.0);
            true
        }
    }
}

/// Size of a blob if it is held, which makes it young.
pub(super) fn renew(folder: &Folder, digest: &Digest) -> Result<Option<u64>> {
    let path = index::blob(&folder.path, digest);
    let found = |path: &Path| match fs::metadata(path) {
        Ok(data) => Ok(Some(data)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    };
    let Some(data) = found(&path)? else { return Ok(None) };
    let is_whole = |size: &u64| !super::is_hollow(digest, *size);
    let is_fresh = data.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age < FRESH));
    // What is no layout is not collected either.
    if is_fresh || !folder.path.join(VERSION_FILE).is_file() {
        return Ok(Some(data.len()).filter(is_whole));
    }
    let _lock = folder.lock(Hold::Shared)?;
    // Looked at again: it may have been garbage a moment ago.
    let data = found(&path)?;
    if data.is_some() {
        touch(&path);
    }
    Ok(data.map(|data| data.len()).filter(is_whole))
}

/// Makes a file young.
pub(super) fn touch(path: &Path) {
    let touched = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        // Another user's file: nothing is wrong with it, but it stays as old as it is.
        tracing::warn!(file = %path.display(), %error, "time stamp cannot be renewed; run gc and server as one user");
    }
}

impl Layout {
    /// Finds garbage and removes it, and counts it in `swept` as it goes. Blocks.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](Kind::Corrupt) and [`Invalid`](Kind::Invalid) if the layout is damaged, [`Unsupported`](Kind::Unsupported) if the
    /// file system knows no locks.
    pub(crate) fn sweep(&self, rules: &Rules, names: &mut Names, swept: &mut Swept) -> Result<()> {
        let folder = &*self.inner;
        if !folder.path.join(VERSION_FILE).is_file() {
            return incomplete(folder);
        }
        let mut graph = Graph::read(&folder.path, None)?;
        let mut doomed = HashSet::new();
        if rules.kept == Kept::Named {
            doomed = graph.doomed(rules);
            if rules.effect == Effect::Removed && !doomed.is_empty() {
                (graph, doomed) = dismiss(folder, rules, graph)?;
            }
        }
        let mut kept = graph.kept(&doomed);
        let suspects = suspects(&folder.path, rules, &kept)?;
        for portion in suspects.chunks(PORTION) {
            let _lock = match rules.effect {
                Effect::Removed => Some(alone(folder)?),
                Effect::Counted => None,
            };
            if rules.effect == Effect::Removed && graph.is_stale(&folder.path) {
                graph = Graph::read(&folder.path, Some(graph))?;
                kept = graph.kept(&HashSet::new());
            }
            for suspect in portion {
                suspect.judge(rules, &kept, &doomed, names, swept)?;
            }
        }
        Ok(())
    }
}

/// A layout that was not finished: nothing in it, or damage.
fn incomplete(folder: &Folder) -> Result<()> {
    let is_empty = ALGORITHMS.iter().all(|algorithm| {
        let files = fs::read_dir(folder.path.join("blobs").join(algorithm.as_str()));
        files.into_iter().flatten().next().is_none()
    });
    if is_empty {
        return Ok(());
    }
    let told = Error::new(Kind::Invalid, "find").on(folder.path.join(VERSION_FILE).display());
    Err(told.because("there are blobs, but the file that makes the folder an image layout is missing"))
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The exclusive lock, without which nothing is removed.
fn alone(folder: &Folder) -> Result<File> {
    let told = || {
        let told = Error::new(Kind::Unsupported, "lock").on(folder.path.join(VERSION_FILE).display());
        told.because("the file system knows no locks").hint("run gc on a machine whose file system does")
    };
    folder.lock(Hold::Alone)?.ok_or_else(told)
}

/// Takes manifests that no tag leads to out of `index.json`. Their files are garbage then.
fn dismiss(folder: &Folder, rules: &Rules, graph: Graph) -> Result<(Graph, HashSet<Digest>)> {
    let _lock = alone(folder)?;
    let graph = Graph::read(&folder.path, Some(graph))?;
    let doomed = graph.doomed(rules);
    let orphans = graph.orphans(&doomed);
    folder.change_locked(|index, _| {
        index.dismiss(&doomed, &orphans);
        Ok(Changed::so(!doomed.is_empty()))
    })?;
    Ok((Graph::read(&folder.path, Some(graph))?, doomed))
}

/// A file that may be garbage.
#[derive(Debug)]
struct Suspect {
    path: PathBuf,
    /// None for what a writer left.
    digest: Option<Digest>,
}

fn suspects(folder: &Path, rules: &Rules, kept: &HashSet<Digest>) -> Result<Vec<Suspect>> {
    let mut found = Vec::new();
    let mut list = |place: PathBuf, algorithm: Option<Algorithm>| -> Result<()> {
        let entries = match fs::read_dir(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|e| failed("list", &place, e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &place, e))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let digest = algorithm.and_then(|algorithm| format!("{}:{name}", algorithm.as_str()).parse().ok());
            // Other names are not ours.
            let is_suspect = digest.map_or_else(|| name.starts_with(TEMPORARY), |digest| !kept.contains(&digest));
            let is_old = || entry.metadata().is_ok_and(|data| data.is_file() && rules.is_old(data.modified()));
            if is_suspect && is_old() {
                found.push(Suspect { path: entry.path(), digest });
            }
        }
        Ok(())
    };
    list(folder.to_owned(), None)?;
    for algorithm in ALGORITHMS {
        list(folder.join("blobs").join(algorithm.as_str()), Some(algorithm))?;
    }
    Ok(found)
}

impl Suspect {
    /// Looks once more, now that nobody can be changing anything, and removes what is garbage still.
    fn judge(
        &self,
        rules: &Rules,
        kept: &HashSet<Digest>,
        doomed: &HashSet<Digest>,
        names: &mut Names,
        swept: &mut Swept,
    ) -> Result<()> {
        let Ok(data) = fs::symlink_metadata(&self.path) else { return Ok(()) };
        if !rules.is_old(data.modified()) || self.digest.is_some_and(|digest| kept.contains(&digest)) {
            return Ok(());
        }
        if rules.effect == Effect::Removed {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                removed => removed.map_err(|e| failed("remove", &self.path, e))?,
            }
        }
        tracing::debug!(file = %self.path.display(), bytes = data.len(), "garbage");
        match self.digest {
            None => swept.temporary_files += 1,
            Some(digest) if doomed.contains(&digest) => swept.manifests += 1,
            Some(_) => swept.blobs += 1,
        }
        swept.bytes += data.len();
        swept.bytes_freed += if names.is_last(&data, rules.effect) { data.len() } else { 0 };
        Ok(())
    }
}

impl Graph {
    fn is_stale(&self, folder: &Path) -> bool {
        Stamp::of(folder) != Some(self.stamp)
    }
}
