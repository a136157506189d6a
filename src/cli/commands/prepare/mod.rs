//! Commands that write files or records for other tools: nothing is copied.

pub(crate) mod bootstrap_zot;
pub(crate) mod package;
pub(crate) mod pin;
pub(crate) mod publish_index;
