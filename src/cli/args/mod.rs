//! Groups of flags that several commands share.

pub(super) mod copy;
pub(super) mod network;
pub(super) mod pinned;
pub(super) mod platforms;
pub(super) mod trust;
