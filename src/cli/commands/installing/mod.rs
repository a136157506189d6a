//! Commands for installing the program: completions of shells and manual pages.

pub(crate) mod completion;
pub(crate) mod man;
