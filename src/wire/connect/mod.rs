//! Connections: names, proxies, TLS, pools, and why connecting failed.

pub(super) mod connector;
pub(super) mod failure;
pub(super) mod first_bytes;
pub(super) mod named_certificates;
pub(super) mod plain_http;
pub(super) mod pool;
pub(super) mod proxy;
pub(super) mod resolver;
pub(super) mod tls;
