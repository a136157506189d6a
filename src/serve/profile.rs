//! Choices of a server that the specification, or practice, leaves open.
//!
//! The server that people run has the defaults. The other choices let tests run a client against the behaviour of
//! registries in the field; each names the registry where it was seen.

use std::time::Duration;

/// The choices of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Whether `/v2/<name>/referrers/` exists; without it clients keep fallback tags. Default true; distribution up to
    /// 3.1 has none.
    pub has_referrers_api: bool,
    /// Whether an index with missing children is refused. Default false; distribution and zot refuse it.
    pub refuses_sparse: bool,
    /// Status and code for a manifest that refers to missing content. Default 404 and `MANIFEST_BLOB_UNKNOWN`, as in
    /// the specification's table of errors for unknown content; distribution answers 400, zot 400 and
    /// `MANIFEST_INVALID`.
    pub missing_child: (u16, &'static str),
    /// Whether the answer to a range past the end announces the whole blob's length and sends nothing, as the test bed
    /// simulates it. Default false; distribution 2.8 does so.
    pub overstates_unsatisfiable: bool,
    /// The state of an upload after its connection breaks inside a body. Default [`AfterCut::Resumable`].
    pub after_cut: AfterCut,
    /// Whether a chunk that does not start where the last one ended gets 416, as the specification says. Default true;
    /// distribution 2.8 appends it.
    pub checks_content_range: bool,
    /// Whether one `POST ?digest=` with a body makes a blob. Default true; distribution answers 202 and drops the body.
    pub takes_single_post: bool,
    /// Whether `?mount=` without `from` finds the blob in any repository. Default false; zot does so, and does not look
    /// at `from` either.
    pub mounts_from_anywhere: bool,
    /// Whether the body of a closing PUT counts even without Content-Length. Default true; zot ignores such a body.
    pub takes_unsized_put: bool,
    /// Whether a manifest is deleted when the last tag that named it moves. Default false; zot drops it with its
    /// children.
    pub forgets_untagged: bool,
    /// The authentication. Default [`ServerAuth::None`].
    pub auth: ServerAuth,
}

/// The state of an upload after its connection breaks inside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCut {
    /// The bytes that arrived stay; the status says how many, and the next chunk goes on from there (distribution 3).
    Resumable,
    /// The session cannot be used any more and is not found (distribution 2.8, Harbor).
    Unusable,
    /// The session is deleted (zot).
    Deleted,
}

/// The authentication of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAuth {
    /// No authentication.
    None,
    /// This user and password with each request.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token for the repository from this server's own `/token`.
    Bearer {
        /// User and password that the token endpoint requires; without them every client gets a token.
        login: Option<(String, String)>,
        /// The lifetime of a token, which the endpoint also announces.
        expires_in: Duration,
    },
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            has_referrers_api: true,
            refuses_sparse: false,
            missing_child: (404, "MANIFEST_BLOB_UNKNOWN"),
            overstates_unsatisfiable: false,
            after_cut: AfterCut::Resumable,
            checks_content_range: true,
            takes_single_post: true,
            mounts_from_anywhere: false,
            takes_unsized_put: true,
            forgets_untagged: false,
            auth: ServerAuth::None,
        }
    }
}

impl Profile {
    /// The choices of distribution 2.8 and of registries built on it (Harbor).
    #[must_use]
    pub fn distribution_2() -> Self {
        Self {
            after_cut: AfterCut::Unusable,
            checks_content_range: false,
            overstates_unsatisfiable: true,
            ..Self::distribution_3()
        }
    }

    /// The choices of distribution 3.
    #[must_use]
    pub fn distribution_3() -> Self {
        Self {
            has_referrers_api: false,
            refuses_sparse: true,
            missing_child: (400, "MANIFEST_BLOB_UNKNOWN"),
            takes_single_post: false,
            ..Self::default()
        }
    }

    /// The choices of zot.
    #[must_use]
    pub fn zot() -> Self {
        Self {
            refuses_sparse: true,
            missing_child: (400, "MANIFEST_INVALID"),
            after_cut: AfterCut::Deleted,
            mounts_from_anywhere: true,
            takes_unsized_put: false,
            forgets_untagged: true,
            ..Self::default()
        }
    }
}
