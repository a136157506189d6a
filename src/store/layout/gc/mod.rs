//! Garbage in one layout: what nothing needs, removed without taking what somebody relies on.
//!
//! Garbage are blobs that no manifest of `index.json` reaches, what writers left unfinished, and, if that is asked for,
//! manifests that no tag leads to ([`Kept::Named`]). Blobs of several repositories may be one file (mounts are hard
//! links): each repository decides for its own name alone, and the bytes go with the last one.
//!
//! It may run while others write to the layout, for four reasons together:
//!
//! 1. What is younger than [`Rules::older_than`] is never taken. A push puts its blobs before its manifest, and an index
//!    after what it lists. Whoever is told that a blob is there may rely on that and not send it, so saying so makes the
//!    file young again ([`renew`]): with a time stamp from when it was adopted, mounted or asked for by name.
//! 2. Files are added, renewed and linked under the shared lock on `.lock`, manifests are put, with the question whether
//!    their blobs are there, under the exclusive one. Garbage is removed under the exclusive lock too, in small portions,
//!    and only after age and, where `index.json` is not what it was, reachability were looked at once more under it.
//! 3. `index.json` is written before a manifest's file goes: a crash leaves garbage, not a name without content.
//!
//! 4. A layout in which nothing is left is moved away in one step, under the exclusive lock: who waits for the lock finds
//!    that it is gone and makes it anew.
//!
//! A layout that is damaged loses nothing: what a lost or broken manifest needs looks like garbage, and may be what it takes to
//! mend it.

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

/// Age below which a time stamp is good enough: a blob that everybody asks for is not written to with each request.
const FRESH: Duration = Duration::from_secs(60);

/// Looks at a layout without `index.json`, and the pause between two: a writer that makes it needs some milliseconds.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Files looked at and removed while the lock is held.
const PORTION: usize = 64;

/// Which manifests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptManifests {
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
pub(crate) struct GcRules {
    pub(crate) older_than: Duration,
    pub(crate) kept: KeptManifests,
    pub(crate) effect: Effect,
}

impl GcRules {
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
pub(crate) struct LinkCounts(HashMap<(u64, u64), u64>);

impl LinkCounts {
    /// Whether the name just met was the file's last one.
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

/// Size of a blob if it is held, which makes it young.
pub(super) fn renew(folder: &LayoutFolder, digest: &Digest) -> Result<Option<u64>> {
    let place = index::blob(&folder.place, digest);
    let Some(data) = held(&place, digest)? else { return Ok(None) };
    let is_fresh = data.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age < FRESH));
    // What is no layout is not collected either.
    if is_fresh || !folder.is_layout() {
        return Ok(Some(data.len()));
    }
    let _lock = match folder.lock(Hold::Shared) {
        Ok(lock) => lock,
        // A collection has removed the whole layout meanwhile.
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) if is_denied(&error) => {
            // Another user's folder may be served all the same.
            tracing::warn!(error = %error.chain(), "time stamp cannot be renewed; run gc and server as one user");
            return Ok(Some(data.len()));
        }
        Err(error) => return Err(error),
    };
    // Looked at again: it may have been garbage a moment ago.
    let data = held(&place, digest)?;
    if data.is_some() {
        touch(&place);
    }
    Ok(data.map(|data| data.len()))
}

/// Whether this user may not write there, or nobody may.
fn is_denied(error: &Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let why = std::error::Error::source(error).and_then(|why| why.downcast_ref::<std::io::Error>());
    why.is_some_and(|why| [PermissionDenied, ReadOnlyFilesystem].contains(&why.kind()))
}

/// Makes a file young.
pub(super) fn touch(place: &Place) {
    let touched = place.open().and_then(|(file, _)| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        // Another user's file: nothing is wrong with it, but it stays as old as it is.
        let file = place.path();
        tracing::warn!(file = %file.display(), %error, "time stamp cannot be renewed; run gc and server as one user");
    }
}

impl Layout {
    /// Finds garbage and removes it, and counts it in `swept` as it goes. Blocks.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](Kind::Corrupt) and [`Invalid`](Kind::Invalid) if the layout is damaged, [`Unsupported`](Kind::Unsupported) if the
    /// file system knows no locks.
    pub(crate) fn sweep(&self, rules: &GcRules, names: &mut LinkCounts, swept: &mut Swept) -> Result<()> {
        let folder = &*self.inner;
        if !folder.is_layout() {
            return incomplete(folder);
        }
        for _ in 1..LOOKS {
            match self.sweep_held(rules, names, swept) {
                // Another collection has removed all of it meanwhile.
                Err(_) if !folder.is_layout() => return incomplete(folder),
                // Two writers make the layout anew, and the second was quicker with `oci-layout`: the list comes now.
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

    /// Removes the whole layout if nothing is in it and nobody has changed it for as long as `rules` say. Says whether it is
    /// so; if garbage is only counted, it stays. Blocks.
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
        // Once more, now that nobody can be adding anything.
        if !is_empty(folder, rules)? {
            return Ok(false);
        }
        // Moved in one step, so that whoever comes now finds no layout rather than half of one.
        let aside = folder.place.parent().join(disk::passing_name()?);
        folder.place.rename(&aside).map_err(folder.place.failed("move"))?;
        discard(&aside)?;
        Ok(true)
    }
}

/// Removes an empty layout that was moved aside. One that is not empty after all stays where it is.
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

/// Whether there is a layout with nothing in it that is old enough.
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

/// A layout that was not finished: nothing in it, or damage.
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

/// The exclusive lock, without which nothing is removed.
fn alone(folder: &LayoutFolder) -> Result<File> {
    let told = || {
        let told = Error::new(Kind::Unsupported, "lock").on(folder.path.join(LOCK_FILE).display());
        told.because("the file system knows no locks").hint("run gc on a machine whose file system does")
    };
    folder.lock(Hold::Alone)?.ok_or_else(told)
}

/// Takes manifests that no tag leads to out of `index.json`. Their files are garbage then.
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
    /// None for what a writer left.
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

/// Links, pipes and folders are not ours.
fn is_old_file(place: &Place, rules: &GcRules) -> bool {
    place.look().is_ok_and(|data| data.is_some_and(|data| data.is_file() && rules.is_old(data.modified())))
}

impl Suspect {
    /// Looks once more, now that nobody can be changing anything, and removes what is garbage still.
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
    /// Reads it as it is at one moment. What vanishes between the list and the reading of what it lists is no damage: it is
    /// read once more then, while nobody can change the list.
    fn read_steady(folder: &LayoutFolder) -> Result<Self> {
        match Self::read(&folder.place, None) {
            Err(error) if error.kind() != Kind::Local => {
                // Where no lock can be had, as on a medium that cannot be written, nobody changes anything either.
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
