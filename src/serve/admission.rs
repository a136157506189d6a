//! Admission: whether a server gives out content that it holds. Handed in with the server's options.

use std::fmt;

use async_trait::async_trait;

use crate::oci::{Descriptor, Digest, Name, RepositoryPath};

/// Decides about pulls.
#[async_trait]
pub trait Admission: fmt::Debug + Send + Sync {
    /// Decides whether the server gives out content that it holds. It asks for GET and for HEAD, before it sends
    /// anything, and also when a client mounts a blob from another repository. Lists (tags, referrers, repositories)
    /// are given out without a decision.
    ///
    /// # Errors
    ///
    /// A refusal, which becomes the answer.
    async fn pull(&self, pull: &Pull<'_>) -> Result<(), PullRefusal>;
}

/// Content that a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// The user, if there are users.
    pub user: Option<&'a str>,
    /// The repository.
    pub repository: &'a RepositoryPath,
    /// The content.
    pub content: PulledContent<'a>,
    /// Whether the request is a HEAD, whose answer has no content.
    pub is_head: bool,
}

/// The content of a pull.
#[derive(Debug, Clone, Copy)]
pub enum PulledContent<'a> {
    /// A manifest: the name that the client gave, and the manifest of that name. Also if the client asks for its
    /// digest as for a blob.
    Manifest(&'a Name, &'a Descriptor),
    /// A blob.
    Blob(&'a Digest),
}

/// Why a server does not give out content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRefusal {
    pub(super) message: String,
    pub(super) detail: Option<serde_json::Value>,
    pub(super) is_undecided: bool,
}

impl PullRefusal {
    /// Returns a refusal: the client gets 403 `DENIED` with this message.
    pub fn denied(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, is_undecided: false }
    }

    /// Returns a refusal because the decision could not be made: the client gets 503 with this message.
    pub fn undecided(message: impl Into<String>) -> Self {
        Self { is_undecided: true, ..Self::denied(message) }
    }

    /// Adds the member `detail` of the error.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }
}
