//! How much of a server one peer, or all of them, may have.

use std::time::Duration;

/// Bounds of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; further ones wait until one is closed, and idle ones are closed for them. Default 400:
    /// each may hold a socket and a file, and 1,024 open files is what a process is commonly given.
    pub connections: usize,
    /// Longest wait for a request's head, and for the next request of a connection that is kept. Default 60 s.
    pub head: Duration,
    /// Longest silence inside a request's body. Default 60 s.
    pub silence: Duration,
    /// The time in which a body must bring at least `floor` bytes. Default 5 min.
    pub window: Duration,
    /// Least bytes of a body in each `window`. Default 64 KiB: some 200 bytes a second.
    pub floor: u64,
    /// Age at which an upload goes that nobody came back to, be it one of a server before this one. Default 24 h.
    pub upload_expiry: Duration,
    /// Upload sessions that a client (a user, else an address) may have open. Default 1,024, as the contract says.
    pub sessions_of_one: usize,
    /// The same of all clients together, with those that an earlier process left. Default 16,384: each is a file, and takes a
    /// kilobyte of memory.
    pub sessions: usize,
    /// Bytes that the open sessions of a client may hold. Default none: 90% of what is free on the disk and what sessions hold, and
    /// 64 MiB in any case.
    /// One client that copies the largest layer that fits is what the server is mostly used for.
    pub session_bytes_of_one: Option<u64>,
    /// The same of all clients together. Default none: 95%.
    pub session_bytes: Option<u64>,
    /// How long requests in flight may go on after the server was told to stop. Default 10 s.
    pub grace: Duration,
}

/// Largest head of a request, in bytes. Tokens are the largest things in it; some are a few kilobytes.
pub(super) const MAX_HEAD_BYTES: usize = 32 << 10;

/// Bytes read from a connection at once, at most, and bytes that wait to be written to it: larger pieces save no measurable time.
pub(super) const MAX_BUFFER_BYTES: usize = 256 << 10;

/// The same for connections that come when [`WIDE_CONNECTIONS`] are open: all of them together must not fill the memory. A head
/// must fit in.
pub(super) const NARROW_BUFFER_BYTES: usize = MAX_HEAD_BYTES + (8 << 10);

/// Connections with large buffers.
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
