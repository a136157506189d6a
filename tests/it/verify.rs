//! Verification against registries that lie, refuse, and answer at length.
