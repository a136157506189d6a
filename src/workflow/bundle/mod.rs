//! Bundles: made, sealed and verified.

pub(super) mod keygen;
pub(super) mod make;
pub(super) mod seal;
pub(super) mod verify;
