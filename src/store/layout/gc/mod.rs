//! Garbage collection in one layout: removes content that nothing needs, and keeps content that a client relies on.
//!
//! Garbage is: blobs that no manifest in `index.json` reaches, files that writers left unfinished, and, on request,
//! manifests that no tag leads to ([`KeptManifests::Named`]). Blobs of several repositories may be one file (mounts are
//! hard links): each repository decides for its own name alone, and the bytes are freed with the last name.
//!
//! It may run while others write to the layout, for four reasons together:
//!
//! 1. Files younger than [`GcRules::older_than`] are never removed. A push puts its blobs before its manifest, and an
//!    index after its children. A client that learns that a blob exists may rely on that and not send it, so this
//!    answer makes the file young again ([`renew`]): its time stamp says when it was adopted, mounted or asked for by
//!    name.
//! 2. Files are added, renewed and linked under the shared lock on `.lock`; manifests are put, after a check that their
//!    blobs exist, under the exclusive one. Garbage is removed under the exclusive lock too, in small portions, and
//!    only after a second check under that lock: of the age, and, if `index.json` has changed, of reachability.
//! 3. `index.json` is written before a manifest's file is removed: a crash leaves garbage, not a name without content.
//!
//! 4. A layout without content is moved away in one step, under the exclusive lock: a writer that waits for the lock
//!    finds that the layout is gone and creates it again.
//!
//! A damaged layout loses nothing: the content of a lost or broken manifest looks like garbage, and may be needed for
//! the repair.

mod graph;

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::time::{Duration, SystemTime};

use self::graph::LayoutGraph;
use super::folder::{Changed, Hold, LOCK_FILE, LayoutFolder, VERSION_FILE};
use super::index::{self, IndexStamp};
use super::{Layout, held};
use crate::disk::{self, Place, TEMPORARY};
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Digest};

/// Age below which a time stamp is not renewed: a blob that many clients ask for is not written to at each request.
const FRESH: Duration = Duration::from_secs(60);

/// Number of tries on a layout without `index.json`, and the pause between two: a writer creates it in some milliseconds.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Files checked and removed while the lock is held.
const PORTION: usize = 64;

/// Which manifests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptManifests {
    /// All that were put and not deleted, tagged or not.
    All,
    /// All tagged manifests, and everything connected with them: their children, their subjects, and their referrers,
    /// at any depth.
    Named,
}

/// Whether garbage is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Garbage is removed.
    Removed,
    /// Garbage is counted, and stays.
    Counted,
}

/// Decides which content is garbage, and whether it is removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GcRules {
    pub(crate) older_than: Duration,
    pub(crate) kept: KeptManifests,
    pub(crate) effect: Effect,
}

impl GcRules {
    /// Whether a file with this time stamp is old enough. A time stamp in the future is not.
    pub(crate) fn is_old(&self, modified: std::io::Result<SystemTime>) -> bool {
        modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= self.older_than))
    }
}

/// The garbage of one repository.
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
    /// Bytes that were freed: a blob that another repository has too still takes its space.
    pub bytes_freed: u64,
}

impl std::iter::Sum for Swept {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            manifests: sum.manifests + one.manifests,
            blobs: sum.blobs + one.blobs,
            temporary_files: sum.temporary_files + one.temporary_files,
            bytes: sum.bytes + one.bytes,
            bytes_freed: sum.bytes_freed + one.bytes_freed,
        })
    }
}

/// How often each file was met in this run, so that the last name of each is known even if none is removed.
#[derive(Debug, Default)]
pub(crate) struct LinkCounts(HashMap<(u64, u64), u64>);

impl LinkCounts {
    /// Whether this name was the file's last one.
    fn is_last(&mut self, data: &Metadata, effect: Effect) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let met = self.0.entry(disk::number(data)).or_default();
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

/// Returns the size of a blob if it is held, and makes the blob young.
pub(super) fn renew(folder: &LayoutFolder, digest: &Digest) -> Result<Option<u64>> {
    let place = index::blob(&folder.place, digest);
    let Some(data) = held(&place, digest)? else { return Ok(None) };
    let is_fresh = data.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age < FRESH));
    // Garbage collection ignores a folder that is not a layout.
    if is_fresh || !folder.is_layout() {
        return Ok(Some(data.len()));
    }
    let _lock = match folder.lock(Hold::Shared) {
        Ok(lock) => lock,
        // Garbage collection has removed the whole layout meanwhile.
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) if is_denied(&error) => {
            // Another user's folder may be served all the same.
            tracing::warn!(error = %error.chain(), "time stamp cannot be renewed; run gc and server as one user");
            return Ok(Some(data.len()));
        }
        Err(error) => return Err(error),
    };
    // Checks again: it may have been garbage a moment ago.
    let data = held(&place, digest)?;
    if data.is_some() {
        touch(&place);
    }
    Ok(data.map(|data| data.len()))
}

/// Whether this user may not write there, or the file system is read-only.
fn is_denied(error: &Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let why = std::error::Error::source(error).and_then(|why| why.downcast_ref::<std::io::Error>());
    why.is_some_and(|why| [PermissionDenied, ReadOnlyFilesystem].contains(&why.kind()))
}

/// Makes a file young.
pub(super) fn touch(place: &Place) {
    let touched = place.open().and_then(|(file, _)| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        // Another user's file: nothing is wrong with it, but it keeps its age.
        let file = place.path();
        tracing::warn!(file = %file.display(), %error, "time stamp cannot be renewed; run gc and server as one user");
    }
}

impl Layout {
    /// Finds and removes garbage, and counts it in `swept` on the way. Blocks.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](Kind::Corrupt) and [`Invalid`](Kind::Invalid) if the layout is damaged,
    /// [`Unsupported`](Kind::Unsupported) if the file system has no locks.
    pub(crate) fn sweep(&self, rules: &GcRules, names: &mut LinkCounts, swept: &mut Swept) -> Result<()> {
        let folder = &*self.inner;
        if !folder.is_layout() {
            return incomplete(folder);
        }
        for _ in 1..LOOKS {
            match self.sweep_held(rules, names, swept) {
                // Another garbage collection has removed the whole layout meanwhile.
                Err(_) if !folder.is_layout() => return incomplete(folder),
                // Two writers create the layout, and the second wrote `oci-layout` first: `index.json` will follow.
                Err(_) if !index::place(&folder.place).is_file() => std::thread::sleep(PAUSE),
                done => return done,
            }
        }
        self.sweep_held(rules, names, swept)
    }

    fn sweep_held(&self, rules: &GcRules, names: &mut LinkCounts, swept: &mut Swept) -> Result<()> {
        let folder = &*self.inner;
        let mut graph = LayoutGraph::read_steady(folder)?;
        let mut doomed = HashSet::new();
        if rules.kept == KeptManifests::Named {
            doomed = graph.doomed(rules);
            if rules.effect == Effect::Removed && !doomed.is_empty() {
                (graph, doomed) = dismiss(folder, rules, graph)?;
            }
        }
        let mut kept = graph.kept(&doomed);
        let suspects = suspects(&folder.place, rules, &kept)?;
        for portion in suspects.chunks(PORTION) {
            let _lock = match rules.effect {
                Effect::Removed => Some(alone(folder)?),
                Effect::Counted => None,
            };
            if rules.effect == Effect::Removed && graph.is_stale(&folder.place) {
                graph = LayoutGraph::read(&folder.place, Some(graph))?;
                kept = graph.kept(&HashSet::new());
            }
            for suspect in portion {
                suspect.judge(rules, &kept, &doomed, names, swept)?;
            }
        }
        Ok(())
    }

    /// Removes the whole layout if it is empty and has not changed for as long as `rules` say. Returns whether that
    /// holds; if garbage is only counted, the layout stays. Blocks.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if a folder cannot be read or changed.
    pub(crate) fn remove_empty(&self, rules: &GcRules) -> Result<bool> {
        let folder = &*self.inner;
        if !is_empty(folder, rules)? {
            return Ok(false);
        }
        if rules.effect == Effect::Counted {
            return Ok(true);
        }
        let _lock = alone(folder)?;
        // Checks once more, now that no other process can add content.
        if !is_empty(folder, rules)? {
            return Ok(false);
        }
        // Moved in one step, so that the next process finds no layout rather than half of one.
        let aside = folder.place.parent().join(disk::passing_name()?);
        folder.place.rename(&aside).map_err(folder.place.failed("move"))?;
        discard(&aside)?;
        Ok(true)
    }
}

/// Removes an empty layout that was moved aside. A layout that is not empty after all stays where it is.
pub(crate) fn discard(aside: &Place) -> Result<()> {
    for name in ["blobs/sha256", "blobs/sha512", "blobs"] {
        let place = aside.join(name);
        place.remove_folder().map_err(place.failed("remove"))?;
    }
    for name in [VERSION_FILE, "index.json", LOCK_FILE] {
        let place = aside.join(name);
        place.remove().map_err(place.failed("remove"))?;
    }
    aside.remove_folder().map_err(aside.failed("remove")).map(drop)
}

/// Whether there is a layout without content that is old enough.
fn is_empty(folder: &LayoutFolder, rules: &GcRules) -> Result<bool> {
    let place = &folder.place;
    let names = |place: &Place| place.list().map_err(place.failed("list"));
    let only = |place: &Place, allowed: &[&str]| {
        Ok::<_, Error>(names(place)?.iter().all(|name| allowed.iter().any(|allowed| name == allowed)))
    };
    let blobs = place.join("blobs");
    if !only(place, &[VERSION_FILE, "index.json", LOCK_FILE, "blobs"])? || !only(&blobs, &["sha256", "sha512"])? {
        return Ok(false);
    }
    for algorithm in ALGORITHMS {
        let blobs = blobs.join(algorithm.as_str());
        if blobs.is_folder() && !names(&blobs)?.is_empty() {
            return Ok(false);
        }
    }
    let Some(index) = index::place(place).look().map_err(place.failed("look at"))? else { return Ok(false) };
    let is_old = folder.is_layout() && rules.is_old(index.modified());
    Ok(is_old && index::entries(place)?.1.is_empty())
}

/// Handles an unfinished layout: it is empty, or damaged.
fn incomplete(folder: &LayoutFolder) -> Result<()> {
    for algorithm in ALGORITHMS {
        let blobs = folder.place.join("blobs").join(algorithm.as_str());
        if !blobs.list().map_err(blobs.failed("list"))?.is_empty() {
            let told = Error::new(Kind::Invalid, "find").on(folder.place.join(VERSION_FILE).path().display());
            return Err(told.because("there are blobs, but the file that makes the folder an image layout is missing"));
        }
    }
    Ok(())
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// Takes the exclusive lock; nothing is removed without it.
fn alone(folder: &LayoutFolder) -> Result<File> {
    let told = || {
        let told = Error::new(Kind::Unsupported, "lock").on(folder.path.join(LOCK_FILE).display());
        told.because("the file system knows no locks").hint("run gc on a machine whose file system does")
    };
    folder.lock(Hold::Alone)?.ok_or_else(told)
}

/// Removes manifests that no tag leads to from `index.json`. Their files then become garbage.
fn dismiss(folder: &LayoutFolder, rules: &GcRules, graph: LayoutGraph) -> Result<(LayoutGraph, HashSet<Digest>)> {
    let _lock = alone(folder)?;
    let graph = LayoutGraph::read(&folder.place, Some(graph))?;
    let doomed = graph.doomed(rules);
    let orphans = graph.orphans(&doomed);
    folder.change_locked(|index, _| {
        index.dismiss(&doomed, &orphans);
        Ok(Changed::so(!doomed.is_empty()))
    })?;
    Ok((LayoutGraph::read(&folder.place, Some(graph))?, doomed))
}

/// A file that may be garbage.
#[derive(Debug)]
struct Suspect {
    place: Place,
    /// None for a file that a writer left.
    digest: Option<Digest>,
}

fn suspects(folder: &Place, rules: &GcRules, kept: &HashSet<Digest>) -> Result<Vec<Suspect>> {
    let mut found = Vec::new();
    let mut list = |place: &Place, algorithm: Option<Algorithm>| -> Result<()> {
        for name in place.list().map_err(place.failed("list"))? {
            let Some(name) = name.to_str() else { continue };
            let digest = algorithm.and_then(|algorithm| format!("{}:{name}", algorithm.as_str()).parse().ok());
            // Other names are not ours.
            let is_suspect = digest.map_or_else(|| name.starts_with(TEMPORARY), |digest| !kept.contains(&digest));
            let file = place.join(name);
            if is_suspect && is_old_file(&file, rules) {
                found.push(Suspect { place: file, digest });
            }
        }
        Ok(())
    };
    list(folder, None)?;
    for algorithm in ALGORITHMS {
        list(&folder.join("blobs").join(algorithm.as_str()), Some(algorithm))?;
    }
    Ok(found)
}

/// Whether it is a plain file that is old enough. Links, pipes and folders are not ours.
fn is_old_file(place: &Place, rules: &GcRules) -> bool {
    place.look().is_ok_and(|data| data.is_some_and(|data| data.is_file() && rules.is_old(data.modified())))
}

impl Suspect {
    /// Checks once more, now that no other process can change anything, and removes the file if it is still garbage.
    fn judge(
        &self,
        rules: &GcRules,
        kept: &HashSet<Digest>,
        doomed: &HashSet<Digest>,
        names: &mut LinkCounts,
        swept: &mut Swept,
    ) -> Result<()> {
        let Ok(Some(data)) = self.place.look() else { return Ok(()) };
        if !rules.is_old(data.modified()) || self.digest.is_some_and(|digest| kept.contains(&digest)) {
            return Ok(());
        }
        if rules.effect == Effect::Removed && !self.place.remove().map_err(self.place.failed("remove"))? {
            return Ok(());
        }
        tracing::debug!(file = %self.place.path().display(), bytes = data.len(), "garbage");
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

impl LayoutGraph {
    /// Reads the graph as of one moment. A file that vanishes between list and read is not damage: the graph is then
    /// read once more, while the list cannot change.
    fn read_steady(folder: &LayoutFolder) -> Result<Self> {
        match Self::read(&folder.place, None) {
            Err(error) if error.kind() != Kind::Local => {
                // If there is no lock, as on a read-only medium, no process changes anything either.
                let _lock = folder.lock_if_possible(Hold::Shared);
                tracing::debug!(layout = folder.label, error = %error.chain(), "reading once more");
                Self::read(&folder.place, None)
            }
            graph => graph,
        }
    }

    fn is_stale(&self, folder: &Place) -> bool {
        IndexStamp::of(folder) != Some(self.stamp)
    }
}
