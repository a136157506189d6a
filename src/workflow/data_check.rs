//! Checks the data folder of a server: reads every file back, and fetches damaged ones from a registry that has them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::error::{Error, Kind, Result, Side, printable};
use crate::oci::{Digest, Repository};
use crate::serve::{Auditor, Damage, DataAudit};
use crate::store::{Body, Registry, Role, Store};
use crate::wire::Client;

/// The check to run.
#[derive(Debug, Clone)]
pub struct DataCheck {
    /// The data folder of a server.
    pub data_dir: PathBuf,
    /// Files that are read, or fetched, at the same time.
    pub jobs: NonZeroUsize,
    /// A repository that may have the damaged content. `None` repairs nothing.
    pub repair_from: Option<Repository>,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The current content of the folder, with every fault that remains.
    #[serde(flatten)]
    pub audit: DataAudit,
    /// The faults that were repaired.
    pub repaired: Vec<Damage>,
}

/// Checks a data folder, which may belong to a running server.
///
/// Audits again after each repair, as long as that reveals new faults: a lost manifest hides what it refers to.
///
/// # Errors
///
/// [`NotFound`](Kind::NotFound) if there is no such folder, [`Usage`](Kind::Usage) if plain HTTP is not permitted. Any
/// other error of the source or the disk is reported with the file that it kept from being repaired, and the other files
/// are still repaired.
pub async fn check_data(check: &DataCheck, client: &Client) -> Result<Checked> {
    let auditor = Auditor::new(&check.data_dir, check.jobs);
    let mut audit = auditor.audit().await?;
    let (mut repaired, mut failures) = (Vec::new(), HashMap::new());
    if let Some(repository) = &check.repair_from {
        let source: Arc<dyn Store> = Arc::new(Registry::new(client, repository, Role::Source));
        // Tries each digest once, so the loop ends.
        let mut tried = Vec::new();
        loop {
            let wanted = |damage: &&Damage| damage.wanted().is_some_and(|node| !tried.contains(&node.digest));
            let wanted: Vec<_> = audit.faults.iter().filter(wanted).cloned().collect();
            if wanted.is_empty() {
                break;
            }
            tried.extend(wanted.iter().filter_map(|damage| damage.digest));
            let work: Vec<_> = wanted.into_iter().map(|damage| repair(&auditor, &source, damage)).collect();
            let done: Vec<_> = stream::iter(work).buffer_unordered(check.jobs.get()).try_collect().await?;
            for (damage, failure) in done {
                match failure {
                    Some(why) => drop(failures.insert(damage.digest, why)),
                    None => repaired.push(damage),
                }
            }
            audit = auditor.audit().await?;
        }
    }
    tell(&mut audit, &failures);
    let is_sound = |damage: &Damage| !audit.faults.iter().any(|fault| fault.digest == damage.digest);
    repaired.retain(is_sound);
    repaired.sort_by_key(|damage| damage.digest);
    Ok(Checked { audit, repaired })
}

/// Fetches one digest and checks every byte; returns the error if it cannot.
async fn repair(auditor: &Auditor, source: &Arc<dyn Store>, damage: Damage) -> Result<(Damage, Option<Error>)> {
    let Some(node) = damage.wanted() else { return Ok((damage, None)) };
    let body = Body::stored(node.clone(), Arc::clone(source));
    match auditor.replace(&damage, &body).await {
        Ok(()) => Ok((damage, None)),
        Err(error) if matches!(error.kind(), Kind::Usage | Kind::Interrupted) => Err(error),
        Err(error) if error.kind() == Kind::Local => Ok((damage, Some(error))),
        Err(error) => Ok((damage, Some(error.at(Side::Source)))),
    }
}

fn tell(audit: &mut DataAudit, failures: &HashMap<Option<Digest>, Error>) {
    for fault in &mut audit.faults {
        fault.not_repaired = failures.get(&fault.digest).map(|why| printable(&why.chain()));
    }
}
