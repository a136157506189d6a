//! Logins: challenges, tokens, and the credentials that docker and podman keep.

pub(super) mod authenticator;
pub(super) mod challenge;
pub(super) mod keychain;
mod lookup;
pub(super) mod token;
