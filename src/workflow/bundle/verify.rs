//! Verification of a bundle where it stands: nothing is copied, nothing is written.

use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::store::{Registry, Role};
use crate::verify::{Candidate, Demands, Pipeline, VerifyReport};
use crate::wire::Client;
use crate::workflow::seed::explain;

/// A verification that came to no verdict, because the registry could not be asked.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// What the image had been resolved to by then.
    pub digest: Option<Digest>,
    /// What went wrong.
    pub error: Error,
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

/// Verifies what `reference` names against `demands`. A verification that fails is a report.
///
/// # Errors
///
/// Those of the registry when it could not be asked: never a report that says "not signed".
pub async fn verify(reference: &Reference, demands: Demands, client: &Client) -> Result<VerifyReport, Unfinished> {
    let store = Registry::new(client, &reference.repository, Role::Source);
    let unresolved = |digest| move |error| Unfinished { digest, error: explain::explained(error, reference) };
    let mut subject = Candidate::resolve_image(&store, reference).await.map_err(unresolved(None))?;
    let digest = Some(subject.root.digest);
    subject.resolve_sidecars(&store, &demands).await.map_err(unresolved(digest))?;
    let report = Pipeline::new(demands).run(&store, &subject).await;
    report.map_err(|error| Unfinished { digest, error: error.during("verify", reference) })
}
