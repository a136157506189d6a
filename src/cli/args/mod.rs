//! Groups of flags that several commands share, and the forms of their values.

pub(super) mod copy;
mod decimal;
pub(super) mod duration;
pub(super) mod network;
pub(super) mod pinned;
pub(super) mod platforms;
pub(super) mod size;
pub(super) mod trust;
