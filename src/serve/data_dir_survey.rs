//! Surveys a data folder: repositories, layouts that a garbage collection moved aside, and entries that do not belong
//! there.

use super::data_dir_lock;
use super::upload_files;
use crate::disk::{DiskRoot, Place, TEMPORARY, kind_of};
use crate::oci::RepositoryPath;
use crate::store::layout::audit::odd::{self, Harm, Odd};

/// The folder of a repository's layout, below the repository's own.
pub(super) const LAYOUT: &str = "_layout";

/// The contents of the folder of repositories.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    /// Paths of the repositories.
    pub(super) layouts: Vec<String>,
    /// Layouts that were moved aside.
    pub(super) aside: Vec<Place>,
}

impl Surveyed {
    /// Paths of the repositories in order.
    pub(super) fn paths(&self) -> Vec<RepositoryPath> {
        let mut paths: Vec<RepositoryPath> = self.layouts.iter().filter_map(|path| path.parse().ok()).collect();
        paths.sort();
        paths
    }
}

/// Returns every folder that holds a layout, as the path of its repository. Enters only folders where a repository may
/// be, which bounds the depth, and follows no link. Reports any other entry.
pub(super) fn find(root: &Place, report: &mut dyn FnMut(Odd)) -> Surveyed {
    let (mut found, mut open) = (Surveyed::default(), vec![String::new()]);
    while let Some(path) = open.pop() {
        let folder = root.join(&path);
        let odd = odd::each(&folder, &mut |name| {
            let place = folder.join(name);
            let Some(name) = name.to_str() else {
                return report(Odd::new(&place, Harm::None, NO_NAME));
            };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if name == LAYOUT {
                found.layouts.push(path.clone());
            } else if name.starts_with(TEMPORARY) && place.is_folder() {
                found.aside.push(place);
            } else if below.parse::<RepositoryPath>().is_err() {
                report(Odd::new(&place, Harm::None, NO_NAME));
            } else {
                match place.look() {
                    Ok(Some(about)) if about.is_dir() => open.push(below),
                    Ok(Some(about)) => {
                        let why = format!("{} lies where the folder of a repository belongs", kind_of(&about));
                        report(Odd::new(&place, Harm::Some, why));
                    }
                    // It was removed meanwhile.
                    Ok(None) => {}
                    Err(why) => report(Odd::new(&place, Harm::Some, format!("it cannot be looked at: {why}"))),
                }
            }
        });
        odd.into_iter().for_each(&mut *report);
    }
    found
}

const NO_NAME: &str = "no name of a repository; nothing reads it";

/// Reports misplaced entries beside the repositories. Anything else in a data folder is not ours.
pub(super) fn beside(data: &DiskRoot, report: &mut dyn FnMut(Odd)) {
    odd::lock(&data.join(data_dir_lock::NAME)).into_iter().for_each(&mut *report);
    let folder = uploads(data);
    let odd = odd::each(&folder, &mut |name| {
        let place = folder.join(name);
        if !upload_files::may_be(&place, name) {
            report(Odd::new(&place, Harm::None, "no upload; nobody can go on with it"));
        }
    });
    odd.into_iter().for_each(report);
}

/// Returns the folder of uploads in progress.
pub(super) fn uploads(data: &DiskRoot) -> Place {
    data.join("uploads")
}

/// Returns the folder of repositories.
pub(super) fn repositories(data: &DiskRoot) -> Place {
    data.join("repositories")
}
