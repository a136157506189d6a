//! Deletes a tag (distribution-spec, "Deleting tags"): optional, and many registries do not support it.

use http::Method;

use super::{Registry, own_failure_may_pass};
use crate::error::{Error, Kind, Result};
use crate::oci::Tag;

/// The result of deleting a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untagged {
    /// The registry deleted it.
    Removed,
    /// The registry has no such tag, or says so.
    Absent,
    /// The registry does not delete tags; the reason in its words.
    Unsupported(String),
}

impl Registry {
    /// Deletes `tag`. The registry may delete its manifest too, or not.
    ///
    /// # Errors
    ///
    /// [`Denied`](Kind::Denied) without the right to delete; otherwise fails like the transport.
    pub async fn untag(&self, tag: &Tag) -> Result<Untagged> {
        let scopes = self.scopes().and(&crate::wire::Scopes::delete(&self.path));
        let request =
            self.request(Method::DELETE, &format!("manifests/{tag}"), "delete tag", format!(":{tag}")).needing(scopes);
        self.host
            .retrying(own_failure_may_pass, || async {
                let answer = self.host.send(&request).await?;
                match answer.status().as_u16() {
                    200 | 202 | 204 => {
                        answer.discard().await;
                        Ok(Untagged::Removed)
                    }
                    400 | 404 | 405 | 501 => {
                        let problem = answer.problem().await;
                        let is_absent = problem.status == 404 && !problem.has_code("UNSUPPORTED");
                        // Registries that delete only by digest say that the tag is not a digest.
                        let is_refused = problem.kind == Kind::Unsupported
                            || problem.has_code("DIGEST_INVALID")
                            || problem.has_code("MANIFEST_INVALID");
                        match problem {
                            _ if is_absent => Ok(Untagged::Absent),
                            _ if is_refused => Ok(Untagged::Unsupported(Error::from(problem).chain())),
                            problem => Err(problem.into()),
                        }
                    }
                    _ => Err(answer.problem().await.into()),
                }
            })
            .await
    }
}
