//! Events told to people and machines.
