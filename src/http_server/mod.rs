//! The HTTP server below the registry: connections, TLS, passwords, limits.
//!
//! Knows nothing about images. `serve` passes it a service to run.

pub(crate) mod acceptor;
pub(crate) mod connection;
pub(crate) mod connection_slots;
pub(crate) mod htpasswd;
pub(crate) mod limits;
pub(crate) mod line_log;
pub(crate) mod metrics;
pub(crate) mod paced_body;
pub(crate) mod password_check;
pub(crate) mod tls;
