//! Bundles: made, sealed and verified; and signatures of files.

pub(super) mod blob;
pub(super) mod keygen;
pub(super) mod make;
pub(super) mod seal;
pub(super) mod verify;
