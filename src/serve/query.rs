//! The query of a request: its parameters.

use super::error_response::ErrorResponse;
use crate::oci::Digest;

/// Most parameters in one query. The specification requires at least ten tags beside a digest; a parameter of two bytes
/// takes a hundred in memory.
pub(super) const MAX_PARAMETERS: usize = 100;

/// The decoded query of a request's address: at most one parameter more than [`MAX_PARAMETERS`].
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().take(MAX_PARAMETERS + 1).collect())
    }

    /// Returns the number of parameters.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first value of that name, parsed as a digest.
    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, ErrorResponse> {
        let digest = self.get(name).map(str::parse);
        digest.transpose().map_err(|why: crate::oci::DigestError| ErrorResponse::digest_invalid(why.to_string()))
    }
}
