//! Logins: challenges, tokens, and the credentials that docker and podman keep.

pub(super) mod authenticator;
pub(super) mod challenge;
pub(super) mod keychain;
pub(super) mod probe;
pub(super) mod scope;
pub(super) mod token;
