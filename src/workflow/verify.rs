//! Verification of a bundle where it stands: nothing is copied, nothing is written.

use super::resolve;
use crate::error::Result;
use crate::oci::Reference;
use crate::store::{Registry, Role};
use crate::verify::{Demands, Pipeline, Report, Subject};
use crate::wire::Client;

/// Verifies what `reference` names against `demands`. A verification that fails is a report.
///
/// # Errors
///
/// Those of the registry when it could not be asked: never a report that says "not signed".
pub async fn verify(reference: &Reference, demands: Demands, client: &Client) -> Result<Report> {
    let store = Registry::new(client, &reference.repository, Role::Source);
    let subject = Subject::resolve(&store, reference, &demands).await;
    let subject = subject.map_err(|error| resolve::explained(error, reference))?;
    let report = Pipeline::new(demands).run(&store, &subject).await;
    report.map_err(|error| error.during("verify", reference))
}
