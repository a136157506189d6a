//! Files for other programs. Copies nothing and starts nothing.

pub(super) mod zarf;
pub(super) mod zot;
