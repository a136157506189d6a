//! The commands: one folder per group, one file per command.

pub(super) mod bundle;
pub(super) mod copying;
pub(super) mod everyday;
pub(super) mod installing;
pub(super) mod prepare;
pub(super) mod serving;
