//! Limits on the resources of a server for one peer, and for all of them.

use std::time::Duration;

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; further ones wait until one is closed, and idle ones are closed for them. Default
    /// 400: each may hold a socket and a file, and a process may commonly open 1,024 files.
    pub connections: usize,
    /// Longest wait for a request's head, and for the next request of a kept connection. Default 60 s.
    pub head: Duration,
    /// Longest silence inside a request's body. Default 60 s.
    pub silence: Duration,
    /// Time in which a body must bring at least `floor` bytes. Default 5 min.
    pub window: Duration,
    /// Least bytes of a body in each `window`. Default 64 KiB: some 200 bytes a second.
    pub floor: u64,
    /// Age at which an abandoned upload is removed, also one of an earlier process. Default 24 h.
    pub upload_expiry: Duration,
    /// Most open upload sessions of a client (a user, else an address). Default 1,024, from the contract.
    pub sessions_of_one: usize,
    /// The same for all clients together, including sessions that an earlier process left. Default 16,384: each is a
    /// file, and takes a kilobyte of memory.
    pub sessions: usize,
    /// Most bytes in a client's open sessions. Default none: 90% of the bytes that are free on the disk or held by
    /// sessions, and at least 64 MiB. The server is mostly used by one client that copies the largest layer that fits.
    pub session_bytes_of_one: Option<u64>,
    /// The same for all clients together. Default none: 95%.
    pub session_bytes: Option<u64>,
    /// Grace period for requests in flight at shutdown. Default 10 s.
    pub grace: Duration,
}

/// Largest head of a request, in bytes. Tokens are the largest part; some are a few kilobytes.
pub(super) const MAX_HEAD_BYTES: usize = 32 << 10;

/// Most bytes read from a connection at once, and most bytes waiting to be written to it: larger buffers save no
/// measurable time.
pub(super) const MAX_BUFFER_BYTES: usize = 256 << 10;

/// The same for connections that arrive when [`WIDE_CONNECTIONS`] are open: all of them together must not fill the
/// memory. A head must fit in.
pub(super) const NARROW_BUFFER_BYTES: usize = MAX_HEAD_BYTES + (8 << 10);

/// Number of connections with large buffers.
pub(super) const WIDE_CONNECTIONS: usize = 24;

impl Limits {
    pub(crate) const SESSION_PERCENT_OF_ONE: u64 = 90;
    pub(crate) const SESSION_PERCENT: u64 = 95;
    pub(crate) const SESSION_BYTES_AT_LEAST: u64 = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 400,
            head: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            window: Duration::from_secs(300),
            floor: 64 << 10,
            upload_expiry: Duration::from_secs(24 * 3600),
            sessions_of_one: 1024,
            sessions: 16_384,
            session_bytes_of_one: None,
            session_bytes: None,
            grace: Duration::from_secs(10),
        }
    }
}
