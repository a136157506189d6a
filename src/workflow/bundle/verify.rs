//! Verifies a bundle in place: copies nothing, writes nothing.

use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::seed::explain;
use crate::store::{ListingStore, Registry, Role};
use crate::verify::{Candidate, Demands, Pipeline, VerifyReport};
use crate::wire::Client;

/// A verification without a verdict, because the registry could not be asked.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// The digest of the image, if it was resolved by then.
    pub digest: Option<Digest>,
    /// The error.
    pub error: Error,
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self { digest: None, error }
    }
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

/// Verifies the image that `reference` names against `demands`. A verification that fails is a report, not an error.
///
/// # Errors
///
/// Fails if the registry cannot be asked; this never becomes a report that says "not signed".
pub async fn verify(reference: &Reference, demands: Demands, client: &Client) -> Result<VerifyReport, Unfinished> {
    let store = Registry::new(client, &reference.repository, Role::Source);
    let subject = match Candidate::resolve_image(&store, reference).await {
        Ok(subject) => subject,
        Err(error) => return Err(explain::explained_with_tags(error, reference, &store).await.into()),
    };
    let digest = Some(subject.root.digest);
    verify_resolved(&store, subject, demands).await.map_err(|error| Unfinished { digest, error })
}

/// Does the same for an image whose root is resolved.
///
/// # Errors
///
/// Fails like [`verify`].
pub(crate) async fn verify_resolved(
    store: &dyn ListingStore,
    mut subject: Candidate,
    demands: Demands,
) -> Result<VerifyReport> {
    let reference = subject.reference.clone();
    let sidecars = subject.resolve_sidecars(store, &demands).await;
    sidecars.map_err(|error| explain::explained(error, &reference))?;
    let report = Pipeline::new(demands).run(store, &subject).await;
    report.map_err(|error| error.during("verify", &reference))
}
