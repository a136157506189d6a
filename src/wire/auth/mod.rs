//! Logins: challenges, tokens, and the credentials to get them with.

pub(super) mod authenticator;
pub(super) mod challenge;
mod lookup;
pub(super) mod token;
