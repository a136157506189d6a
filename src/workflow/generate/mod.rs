//! Files for other programs. Nothing is copied and nothing is started.

pub(super) mod zarf;
pub(super) mod zot;
