//! Commands that copy images, and `rollback`, which undoes a copy.

pub(crate) mod rollback;
pub(crate) mod seed;
pub(crate) mod seed_catalog;
