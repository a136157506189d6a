//! Catalogs: what a run of many entries does together, and how it is undone.

mod atomic;
mod journal;
mod nightly;
mod pinned;
mod rollback;
mod whole;
