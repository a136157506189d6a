//! The commands, a folder for each group and a file for each command.

pub(super) mod bundle;
pub(super) mod copying;
pub(super) mod prepare;
pub(super) mod serving;
