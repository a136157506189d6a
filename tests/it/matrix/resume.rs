//! Downloads that are cut: how much is sent again.
