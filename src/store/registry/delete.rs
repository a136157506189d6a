//! Deletes a tag or a manifest (distribution-spec, "Content Management"): optional, and many registries do not support
//! it.

use http::Method;

use super::{Registry, own_failure_may_pass, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Name, Tag};

/// The result of deleting a tag or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untagged {
    /// The registry deleted it.
    Removed,
    /// The registry has no such tag or manifest, or says so.
    Absent,
    /// The registry does not delete; the reason in its words.
    Unsupported(String),
}

impl Registry {
    /// Deletes `tag`. The registry may delete its manifest too, or not.
    ///
    /// # Errors
    ///
    /// [`Denied`](Kind::Denied) without the right to delete; otherwise fails like the transport.
    pub async fn untag(&self, tag: &Tag) -> Result<Untagged> {
        self.delete(&Name::Tag(tag.clone()), "delete tag").await
    }

    /// Deletes the manifest `digest`, and with it every tag that names it.
    ///
    /// # Errors
    ///
    /// Fails like [`untag`](Self::untag).
    pub async fn delete_manifest(&self, digest: Digest) -> Result<Untagged> {
        self.delete(&Name::Digest(digest), "delete manifest").await
    }

    async fn delete(&self, name: &Name, op: &'static str) -> Result<Untagged> {
        let scopes = self.scopes().and(&crate::wire::Scopes::delete(&self.path));
        let request = self.request(Method::DELETE, &format!("manifests/{name}"), op, suffix(name)).needing(scopes);
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
