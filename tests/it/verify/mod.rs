//! Verification: signatures, lock and policy, logs, and old content that is offered again.

mod hidden_sidecars;
mod replay;
mod seal_set;
mod sidecars;
mod signatures;
mod tlog;
mod vectors;
