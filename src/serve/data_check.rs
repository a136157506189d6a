//! Checks a whole data folder, and puts single files back. It may run beside a server.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::data_dir::DataDir;
use super::data_dir_survey;
use crate::disk::{DiskRoot, blocking};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Descriptor, Digest, RepositoryPath};
use crate::store::Body;
pub use crate::store::layout::audit::NodeFault;
use crate::store::layout::audit::odd::{Harm, Odd};
use crate::store::layout::audit::{Finding, Hashed};

/// Most misplaced entries that are named: a folder may hold any number.
const MAX_ODD: usize = 1000;

/// The result of an audit of a data folder.
#[derive(Debug, Clone, Serialize)]
pub struct DataAudit {
    /// How many repositories there are.
    pub repositories: usize,
    /// How many manifests were read.
    pub manifests: u64,
    /// How many files were hashed; one that several repositories share counts once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Content that is damaged or missing.
    pub faults: Vec<Damage>,
    /// Entries that do not belong there and do no harm.
    pub notes: Vec<Note>,
    /// How many misplaced entries are not named.
    #[serde(skip_serializing_if = "is_none")]
    pub not_named: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// An entry that does not belong where it is, and that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its path below the data folder.
    pub path: String,
    /// Why it does not belong there.
    pub why: String,
}

/// One digest that is damaged or missing.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// The digest; null for something without one, such as an `index.json` or a folder.
    pub digest: Option<Digest>,
    /// The kind of damage.
    pub fault: NodeFault,
    /// Why.
    pub why: String,
    /// Its files, by their paths below the data folder.
    pub paths: Vec<String>,
    /// Which repositories use it.
    pub used_by: Vec<User>,
    /// Why it could not be repaired, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_repaired: Option<String>,
    /// The descriptor in the manifests that refer to it.
    #[serde(skip)]
    node: Option<Descriptor>,
    #[serde(skip)]
    repositories: Vec<RepositoryPath>,
}

/// A repository that uses a damaged or missing digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its path.
    pub repository: String,
    /// The tags that lead to the digest.
    pub tags: Vec<String>,
}

/// An audit of one data folder. Does not read again a file that it has hashed and that is unchanged since.
#[derive(Debug)]
pub struct Auditor {
    data: PathBuf,
    hashed: Arc<Hashed>,
}

impl Auditor {
    /// Audits `data`, and hashes `workers` files at the same time. Reads nothing yet.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, workers: NonZeroUsize) -> Self {
        Self { data: data.into(), hashed: Arc::new(Hashed::new(workers)) }
    }

    /// Hashes every file and checks that every manifest has the content it refers to.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such data folder, [`Local`](Kind::Local) if this user may not read
    /// something.
    pub async fn audit(&self) -> Result<DataAudit> {
        let (data, hashed) = (self.data.clone(), Arc::clone(&self.hashed));
        blocking(move || audit(&data, &hashed)).await
    }

    /// Replaces the damaged files by `body` in every repository that uses them. Each file appears whole. A repository
    /// that cannot be written to does not stop the others.
    ///
    /// # Errors
    ///
    /// The first error of the body or of the disk.
    pub async fn replace(&self, damage: &Damage, body: &Body) -> Result<()> {
        let (body, root) = (body.clone().replacing(), DiskRoot::at(&self.data));
        let layouts = damage.repositories.iter().map(|path| DataDir::layout_in(&root, path));
        let (mut first, mut failure) = (None, None);
        for layout in layouts {
            let placed = match &first {
                // All repositories share one file, as mounts do. A manifest is small, and has to be listed.
                Some(first) if !body.node().is_manifest() => layout.share(first, body.node().digest).await,
                _ => layout.restore(&body).await,
            };
            match placed {
                Ok(()) => drop(first.get_or_insert(layout)),
                // An error of this disk: another repository may be on another disk.
                Err(error) if error.kind() == Kind::Local => drop(failure.get_or_insert(error)),
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Damage {
    /// Returns the descriptor of the content that would replace it; none if it has no digest or nothing refers to it.
    #[must_use]
    pub fn wanted(&self) -> Option<&Descriptor> {
        self.node.as_ref()
    }
}

fn audit(data: &Path, hashed: &Hashed) -> Result<DataAudit> {
    let root = &DiskRoot::at(data);
    if !data_dir_survey::repositories(root).is_folder() {
        let told = Error::new(Kind::NotFound, "find repositories in").on(data.display());
        return Err(told.hint("name the folder that registry serve was given as --data-dir"));
    }
    let mut odd = Vec::new();
    let mut not_named = 0;
    let mut report = |found: Odd| if odd.len() < MAX_ODD { odd.push(found) } else { not_named += 1 };
    data_dir_survey::beside(root, &mut report);
    let repositories = data_dir_survey::find(&data_dir_survey::repositories(root), &mut report).paths();
    let (mut manifests, mut faults) = (0, BTreeMap::new());
    for path in &repositories {
        let found = DataDir::layout_in(root, path).audit(hashed)?;
        manifests += found.manifests;
        found.odd.into_iter().for_each(&mut report);
        for finding in found.findings {
            let below = below(data, &finding.path);
            // A finding without a digest is keyed by its path.
            let key = (finding.digest.map_or_else(|| below.clone(), |digest| digest.to_string()), finding.fault as u8);
            add(faults.entry(key).or_insert_with(|| Damage::of(&finding)), path, below, finding);
        }
    }
    odd.sort_by(|one, other| one.path.cmp(&other.path));
    let (harmful, harmless): (Vec<_>, Vec<_>) = odd.into_iter().partition(|odd| odd.harm == Harm::Some);
    let mut faults: Vec<_> = faults.into_values().collect();
    faults.extend(harmful.into_iter().map(|odd| Damage { paths: vec![below(data, &odd.path)], ..Damage::at(odd.why) }));
    let notes = harmless.into_iter().map(|odd| Note { path: below(data, &odd.path), why: odd.why }).collect();
    let (files, bytes) = hashed.totals();
    Ok(DataAudit { repositories: repositories.len(), manifests, files, bytes, faults, notes, not_named })
}

fn below(data: &Path, path: &Path) -> String {
    path.strip_prefix(data).unwrap_or(path).display().to_string()
}

impl Damage {
    fn of(finding: &Finding) -> Self {
        Self { digest: finding.digest, fault: finding.fault, ..Self::at(printable(&finding.why)) }
    }

    /// Returns damage that is no blob and does harm where it is.
    fn at(why: String) -> Self {
        Self {
            digest: None,
            fault: NodeFault::Damaged,
            why,
            paths: Vec::new(),
            used_by: Vec::new(),
            not_repaired: None,
            node: None,
            repositories: Vec::new(),
        }
    }
}

fn add(damage: &mut Damage, repository: &RepositoryPath, path: String, finding: Finding) {
    damage.paths.push(path);
    damage.repositories.push(repository.clone());
    if finding.node.is_some() || finding.digest.is_none() {
        damage.used_by.push(User { repository: repository.as_str().to_owned(), tags: finding.names });
    }
    damage.node = damage.node.take().or(finding.node);
}
