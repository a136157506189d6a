//! Commands that copy images, and `rollback`, which undoes what they did.

pub(crate) mod rollback;
pub(crate) mod seed;
pub(crate) mod seed_catalog;
