//! Counts upload sessions and the bytes that they hold, for each client and in all.
//!
//! A session is a file that stays for a day: without a bound one client can fill the disk, the memory and the folder.
//! The bound for bytes is a share of the room: the free bytes on the disk and the bytes that sessions hold already.

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk;
use crate::http_server::limits::Limits;

/// The client that sessions are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum SessionOwner {
    /// A user who has logged in.
    User(Arc<str>),
    /// All clients behind an address, or in the /64 of an IPv6 address (`connection_slots::network`).
    Network(IpAddr),
    /// An earlier process left it; its client is not known.
    Unknown,
}

impl SessionOwner {
    /// Returns the user, if one has logged in.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(user),
            Self::Network(_) | Self::Unknown => None,
        }
    }
}

/// The counts of all sessions of a server.
#[derive(Debug)]
pub(super) struct UploadQuota {
    limits: Limits,
    state: Mutex<QuotaState>,
}

#[derive(Debug, Default)]
struct QuotaState {
    all: Count,
    clients: HashMap<SessionOwner, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    sessions: usize,
    bytes: u64,
}

/// Why a session, or bytes in it, are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("open uploads of this client hold as much as they may")]
    Own,
    #[error("open uploads hold as much as they may")]
    All,
}

/// The part that one session has in the counts, or some sessions together, until it is dropped.
#[derive(Debug)]
pub(super) struct SessionPart {
    quota: Arc<UploadQuota>,
    client: SessionOwner,
    sessions: usize,
    bytes: u64,
}

/// Bytes that sessions may hold at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionRoom {
    own: u64,
    all: u64,
}

impl UploadQuota {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Counts a new session.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] if there are too many.
    pub(super) fn open(self: &Arc<Self>, client: SessionOwner) -> Result<SessionPart, Exceeded> {
        let mut state = self.lock();
        let own = state.clients.get(&client).copied().unwrap_or_default();
        if own.sessions >= self.limits.sessions_of_one {
            return Err(Exceeded::Own);
        }
        if state.all.sessions >= self.limits.sessions {
            return Err(Exceeded::All);
        }
        state.add(&client, 1, 0);
        Ok(SessionPart { quota: Arc::clone(self), client, sessions: 1, bytes: 0 })
    }

    /// Counts sessions that exist already, however many there are.
    pub(super) fn found(self: &Arc<Self>, sessions: usize, bytes: u64) -> SessionPart {
        self.lock().add(&SessionOwner::Unknown, sessions, bytes);
        SessionPart { quota: Arc::clone(self), client: SessionOwner::Unknown, sessions, bytes }
    }

    /// Returns the most sessions of all clients together.
    pub(super) fn most_sessions(&self) -> usize {
        self.limits.sessions
    }

    /// Returns the room for sessions on the disk of `file`: the limits, or without limits a share of the free bytes and
    /// the bytes that sessions hold. Blocks.
    pub(super) fn room(&self, file: &File) -> SessionRoom {
        let limits = &self.limits;
        let share = |percent: u64| {
            let held = self.lock().all.bytes;
            let share = |free: u64| (free.saturating_add(held) / 100 * percent).max(Limits::SESSION_BYTES_AT_LEAST);
            // A disk that does not report its free bytes still reports when it is full.
            free(file).map_or(u64::MAX, share)
        };
        SessionRoom {
            own: limits.session_bytes_of_one.unwrap_or_else(|| share(Limits::SESSION_PERCENT_OF_ONE)),
            all: limits.session_bytes.unwrap_or_else(|| share(Limits::SESSION_PERCENT)),
        }
    }

    /// Returns the number of all sessions and their bytes.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, u64) {
        let Count { sessions, bytes } = self.lock().all;
        (sessions, bytes)
    }

    fn lock(&self) -> MutexGuard<'_, QuotaState> {
        crate::sync::lock(&self.state)
    }
}

impl QuotaState {
    fn add(&mut self, client: &SessionOwner, sessions: usize, bytes: u64) {
        for count in [&mut self.all, self.clients.entry(client.clone()).or_default()] {
            count.sessions += sessions;
            count.bytes += bytes;
        }
    }

    fn take(&mut self, client: &SessionOwner, sessions: usize, bytes: u64) {
        self.all.sessions -= sessions;
        self.all.bytes -= bytes;
        let Some(count) = self.clients.get_mut(client) else { return };
        count.sessions -= sessions;
        count.bytes -= bytes;
        if count.sessions == 0 {
            self.clients.remove(client);
        }
    }
}

impl SessionPart {
    pub(super) fn quota(&self) -> &Arc<UploadQuota> {
        &self.quota
    }

    /// Returns the number of sessions and their bytes.
    pub(super) fn counted(&self) -> (usize, u64) {
        (self.sessions, self.bytes)
    }

    /// Returns the client that it is counted for.
    pub(super) fn client(&self) -> &SessionOwner {
        &self.client
    }

    /// Returns the bytes that are counted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts bytes that are about to be written.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] if there is no room for them; they are not counted then.
    pub(super) fn grow(&mut self, bytes: u64, room: SessionRoom) -> Result<(), Exceeded> {
        let mut state = self.quota.lock();
        self.look(&state, bytes, room)?;
        state.add(&self.client, 0, bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// Sets the count to the size of the session's file: a write may have failed, or another server may have gone on
    /// with it.
    pub(super) fn correct(&mut self, bytes: u64) {
        let mut state = self.quota.lock();
        state.add(&self.client, 0, bytes);
        state.take(&self.client, 0, self.bytes);
        self.bytes = bytes;
    }

    /// Checks whether that many more bytes have room.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] if not.
    pub(super) fn fits(&self, bytes: u64, room: SessionRoom) -> Result<(), Exceeded> {
        self.look(&self.quota.lock(), bytes, room)
    }

    fn look(&self, state: &QuotaState, bytes: u64, room: SessionRoom) -> Result<(), Exceeded> {
        let own = state.clients.get(&self.client).map_or(0, |count| count.bytes);
        let exceeds = |held: u64, most: u64| held.checked_add(bytes).is_none_or(|sum| sum > most);
        if self.client != SessionOwner::Unknown && exceeds(own, room.own) {
            return Err(Exceeded::Own);
        }
        if exceeds(state.all.bytes, room.all) { Err(Exceeded::All) } else { Ok(()) }
    }
}

impl Drop for SessionPart {
    fn drop(&mut self) {
        self.quota.lock().take(&self.client, self.sessions, self.bytes);
    }
}

/// Returns the bytes that this user may still write to the file system of `file`.
fn free(file: &File) -> Option<u64> {
    disk::space_at(file).map(|space| space.free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> SessionOwner {
        SessionOwner::User(name.into())
    }

    #[test]
    fn sessions_are_bounded_for_each_client_and_in_all_and_those_found_on_the_disk_count() {
        let quota = UploadQuota::new(Limits { sessions_of_one: 2, sessions: 5, ..Limits::default() });
        let found = quota.found(1, 10);
        let mut held: Vec<_> = (0..2).map(|_| quota.open(user("ann")).unwrap()).collect();
        assert_eq!(quota.open(user("ann")).unwrap_err(), Exceeded::Own);
        held.extend((0..2).map(|_| quota.open(SessionOwner::Network([10, 0, 0, 1].into())).unwrap()));
        assert_eq!(quota.open(user("bob")).unwrap_err(), Exceeded::All);
        drop(found);
        held.push(quota.open(user("bob")).unwrap());
        held.remove(0);
        held.push(quota.open(user("ann")).unwrap());
        drop(held);
        assert!(quota.lock().clients.is_empty() && quota.lock().all.bytes == 0);
    }

    #[test]
    fn bytes_are_bounded_for_each_client_and_in_all() {
        let quota =
            UploadQuota::new(Limits { session_bytes_of_one: Some(100), session_bytes: Some(150), ..Limits::default() });
        let room = quota.room(&tempfile::tempfile().unwrap());
        let [mut first, mut second, mut third] = ["ann", "ann", "bob"].map(|name| quota.open(user(name)).unwrap());
        assert_eq!(first.grow(60, room), Ok(()));
        assert_eq!(second.grow(41, room), Err(Exceeded::Own));
        assert_eq!(second.fits(40, room), Ok(()));
        assert_eq!([41, u64::MAX].map(|bytes| second.fits(bytes, room)), [Err(Exceeded::Own); 2]);
        assert_eq!(second.grow(40, room), Ok(()));
        assert_eq!(third.grow(51, room), Err(Exceeded::All));
        first.correct(59);
        assert_eq!(second.fits(1, room), Ok(()), "another server's bytes, or a write that failed");
        drop(first);
        assert_eq!(third.grow(100, room), Ok(()));
        third.correct(0);
        assert_eq!(quota.lock().all.bytes, 40);
    }

    #[cfg(unix)]
    #[test]
    fn without_limits_the_room_is_a_share_of_what_is_free() {
        let file = tempfile::tempfile().unwrap();
        let SessionRoom { own, all } = UploadQuota::new(Limits::default()).room(&file);
        let free = free(&file).unwrap();
        assert!(own <= all && (all < free * 2 || all == Limits::SESSION_BYTES_AT_LEAST), "{own} of {all}");
    }
}
