//! Entries of a layout that do not belong there. None of them is opened.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::disk::{ASIDE, Place, TEMPORARY, is_sole, kind_of};
use crate::error::printable;
use crate::oci::{Algorithm, Digest};
use crate::store::layout::folder::{LOCK_FILE, VERSION_FILE};

/// The harm of an entry that does not belong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Some content is not served, or cannot be put.
    Some,
    /// None: no program of ours reads the entry.
    None,
}

/// An entry that does not belong there.
#[derive(Debug, Clone)]
pub(crate) struct Odd {
    pub(crate) path: PathBuf,
    pub(crate) harm: Harm,
    pub(crate) why: String,
}

impl Odd {
    pub(crate) fn new(place: &Place, harm: Harm, why: impl AsRef<str>) -> Self {
        Self { path: place.path(), harm, why: printable(why.as_ref()) }
    }
}

/// Passes the names in the folder `place` to `take`; the folder may be missing. Returns the fault of the folder.
pub(crate) fn each(place: &Place, take: &mut dyn FnMut(&OsStr)) -> Option<Odd> {
    let why = match place.look() {
        Ok(None) => return None,
        Ok(Some(about)) if about.is_dir() => match place.each(&mut |name| take(&name)) {
            Ok(()) => return None,
            Err(why) => format!("the folder cannot be listed: {why}"),
        },
        Ok(Some(about)) => {
            format!("{} lies where a folder belongs, and nothing is reached through it", kind_of(&about))
        }
        Err(why) => format!("it cannot be looked at: {why}"),
    };
    Some(Odd::new(place, Harm::Some, why))
}

/// Returns the fault of a lock file; the file may be missing.
pub(crate) fn lock(place: &Place) -> Option<Odd> {
    let why = match place.look() {
        Ok(Some(about)) if is_sole(&about) => return None,
        Ok(Some(about)) if about.is_file() => {
            "the file has a second name, under which others may hold a lock on it".into()
        }
        Ok(Some(about)) => format!("{} lies where a plain file belongs", kind_of(&about)),
        Ok(None) => return None,
        Err(why) => format!("it cannot be looked at: {why}"),
    };
    Some(Odd::new(place, Harm::Some, why))
}

/// Whether it is a writer's unfinished file.
pub(crate) fn is_passing(folder: &Place, name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(TEMPORARY)) && folder.join(name).is_file()
}

/// Reports every odd entry in a layout, except in the place of `index.json` or of a blob.
pub(super) fn look_over(folder: &Place, report: &mut dyn FnMut(Odd)) {
    let odd = each(folder, &mut |name| {
        let is_known = [VERSION_FILE, LOCK_FILE, "index.json", "blobs"].iter().any(|known| name == *known);
        if !is_known && !is_passing(folder, name) {
            report(Odd::new(&folder.join(name), Harm::None, "no part of an image layout; nothing reads it"));
        }
    });
    let is_reachable = odd.is_none();
    odd.into_iter().for_each(&mut *report);
    if !is_reachable && !folder.is_folder() {
        return;
    }
    lock(&folder.join(LOCK_FILE)).into_iter().for_each(&mut *report);
    // This file is never changed or locked, so it may have several names.
    let version = folder.join(VERSION_FILE);
    if let Ok(Some(about)) = version.look()
        && !about.is_file()
    {
        let why = format!("{} lies where a plain file belongs, so the repository is not served", kind_of(&about));
        report(Odd::new(&version, Harm::Some, why));
    }
    let blobs = folder.join("blobs");
    let odd = each(&blobs, &mut |name| {
        if ![Algorithm::Sha256, Algorithm::Sha512].iter().any(|algorithm| name == algorithm.as_str()) {
            report(Odd::new(&blobs.join(name), Harm::None, "no folder of blobs; nothing reads it"));
        }
    });
    odd.into_iter().for_each(report);
}

/// Returns the digests that name entries in the folders of blobs. Reports all other entries.
pub(super) fn digests(folder: &Place, report: &mut dyn FnMut(Odd)) -> Vec<Digest> {
    let mut digests = Vec::new();
    let blobs = folder.join("blobs");
    if !blobs.is_folder() {
        return digests;
    }
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let place = blobs.join(algorithm.as_str());
        let odd = each(&place, &mut |name| {
            let text = name.to_str().unwrap_or_default();
            let why = match format!("{}:{text}", algorithm.as_str()).parse() {
                Ok(digest) => return digests.push(digest),
                Err(_) if is_passing(&place, name) => return,
                Err(_) if text.starts_with(ASIDE) => "moved aside from the place of a blob; look into it and remove it",
                Err(_) => "its name is no digest; nothing reads it",
            };
            report(Odd::new(&place.join(name), Harm::None, why));
        });
        odd.into_iter().for_each(&mut *report);
    }
    digests
}
