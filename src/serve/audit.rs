//! A data folder looked at whole, and single files put in place again. It may run beside a server.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::registry::{self, Registry};
use crate::disk::{Root, blocking};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Descriptor, Digest, RepositoryPath};
pub use crate::store::layout::audit::Fault;
use crate::store::layout::audit::{Finding, Hashed};
use crate::store::{Body, Store as _};

/// What a look at a data folder showed.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// How many repositories there are.
    pub repositories: usize,
    /// How many manifests were read.
    pub manifests: u64,
    /// How many files were hashed; one that several repositories share counts once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged or missing.
    pub faults: Vec<Damage>,
}

/// One digest that is damaged or missing.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// The digest; null for an `index.json`.
    pub digest: Option<Digest>,
    /// What is wrong.
    pub fault: Fault,
    /// Why.
    pub why: String,
    /// Its files, by their paths below the data folder.
    pub paths: Vec<String>,
    /// Which repositories use it.
    pub used_by: Vec<User>,
    /// Why it could not be repaired, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_repaired: Option<String>,
    /// What it is by those who refer to it.
    #[serde(skip)]
    node: Option<Descriptor>,
    #[serde(skip)]
    repositories: Vec<RepositoryPath>,
}

/// A repository that uses something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its path.
    pub repository: String,
    /// The tags that lead there.
    pub tags: Vec<String>,
}

/// A data folder that is being looked at. What was hashed once and is unchanged is not read again.
#[derive(Debug)]
pub struct Auditor {
    data: PathBuf,
    hashed: Arc<Hashed>,
}

impl Auditor {
    /// Looks at `data`, with `workers` files at the same time. Nothing is read yet.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, workers: NonZeroUsize) -> Self {
        Self { data: data.into(), hashed: Arc::new(Hashed::new(workers)) }
    }

    /// Hashes every file and looks whether every manifest has what it refers to.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such data folder, [`Local`](Kind::Local) for what this user may not read.
    pub async fn audit(&self) -> Result<Audit> {
        let (data, hashed) = (self.data.clone(), Arc::clone(&self.hashed));
        blocking(move || audit(&data, &hashed)).await
    }

    /// Puts what `body` brings in the place of what is damaged, in every repository that uses it. Each file appears whole.
    ///
    /// # Errors
    ///
    /// Those of the body and of the disk.
    pub async fn replace(&self, damage: &Damage, body: &Body) -> Result<()> {
        let (body, root) = (body.clone().replacing(), Root::at(&self.data));
        let layouts = damage.repositories.iter().map(|path| Registry::layout_in(&root, path));
        let mut first = None;
        for layout in layouts {
            match &first {
                // One file in all of them, as mounts are. A manifest is small, and has to be listed.
                Some(first) if !body.node().is_manifest() => layout.share(first, body.node().digest).await?,
                _ => {
                    layout.put(body.node(), &body, &[]).await?;
                    first.get_or_insert(layout);
                }
            }
        }
        Ok(())
    }
}

impl Damage {
    /// What would replace it; none for what has no digest or is not referred to.
    #[must_use]
    pub fn wanted(&self) -> Option<&Descriptor> {
        self.node.as_ref()
    }
}

fn audit(data: &Path, hashed: &Hashed) -> Result<Audit> {
    let root = &Root::at(data);
    if !registry::repositories(root).is_folder() {
        let told = Error::new(Kind::NotFound, "find repositories in").on(data.display());
        return Err(told.hint("name the folder that registry serve was given as --data-dir"));
    }
    let (mut manifests, mut faults) = (0, BTreeMap::new());
    let repositories = Registry::list_in(root);
    for path in &repositories {
        let found = Registry::layout_in(root, path).audit(hashed)?;
        manifests += found.manifests;
        for finding in found.findings {
            let below = finding.path.strip_prefix(data).unwrap_or(&finding.path).display().to_string();
            // What has no digest is a case of its own.
            let key = (finding.digest.map_or_else(|| below.clone(), |digest| digest.to_string()), finding.fault as u8);
            add(faults.entry(key).or_insert_with(|| Damage::of(&finding)), path, below, finding);
        }
    }
    let (files, bytes) = hashed.totals();
    let faults = faults.into_values().collect();
    Ok(Audit { repositories: repositories.len(), manifests, files, bytes, faults })
}

impl Damage {
    fn of(finding: &Finding) -> Self {
        Self {
            digest: finding.digest,
            fault: finding.fault,
            why: printable(&finding.why),
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
