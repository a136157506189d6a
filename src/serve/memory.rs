//! The memory that all connections share.
//!
//! Each connection may hold a little: its buffers, a small manifest, a short page of a list. Larger things (manifests on their
//! way in, long pages) take their bytes from one budget first. Where the budget is used up, a page is short and a manifest waits;
//! after a while its client is told to come again. Blobs pass in pieces, the first few at a time in large ones. Together this is
//! far below 256 MiB at 400 connections that do their worst (`tests/it/serve_memory.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;
use crate::store::MAX_MANIFEST_BYTES;

/// Bytes that each request may hold without asking. Manifests of images have a few kilobytes.
pub(super) const SMALL_BYTES: u64 = 32 << 10;

/// Most values of a small manifest: in memory each takes a hundred bytes and more.
pub(super) const SMALL_VALUES: usize = 500;

/// Bytes that all requests may hold beyond that: eight of the largest manifests.
const BUDGET_BYTES: u64 = 8 * MAX_MANIFEST_BYTES;

/// Longest wait for a share of the budget.
const WAIT: Duration = Duration::from_secs(30);

/// When to ask again for a share.
const RETRY_SECONDS: u16 = 5;

/// Blobs that pass in large pieces at the same time.
const LARGE_LANES: usize = 24;

/// Unit of the budget: a semaphore counts in 32 bits.
const UNIT: u64 = 1 << 10;

/// The memory that is left.
#[derive(Debug)]
pub(super) struct Memory {
    budget: Arc<Semaphore>,
    waiting: AtomicUsize,
    lanes: Arc<Semaphore>,
    /// One large manifest at a time is read into values, which take many times its bytes.
    desk: Arc<Semaphore>,
    /// One walk through all repositories at a time.
    walks: Arc<Semaphore>,
}

/// Bytes of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

/// How a blob passes.
#[derive(Debug)]
pub(super) struct Lane {
    /// Bytes that are read from a file at once.
    pub(super) piece: u64,
    /// Bytes that are gathered before they are written to a file.
    pub(super) batch: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Memory {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            budget: semaphore(usize::try_from(BUDGET_BYTES / UNIT).unwrap_or(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            lanes: semaphore(LARGE_LANES),
            desk: semaphore(1),
            walks: semaphore(1),
        }
    }
}

impl Memory {
    /// Waits for a share of so many bytes.
    ///
    /// # Errors
    ///
    /// 429 if there is none for a while.
    pub(super) async fn share(&self, bytes: u64) -> Result<Share, Problem> {
        if bytes <= SMALL_BYTES {
            return Ok(Share { _permit: None });
        }
        let _waiting = Waiting::new(&self.waiting);
        let taken = timeout(WAIT, Arc::clone(&self.budget).acquire_many_owned(units(bytes))).await;
        let permit = taken.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok(Share { _permit: Some(permit) })
    }

    /// A share of so many bytes if it can be had at once.
    pub(super) fn share_now(&self, bytes: u64) -> Option<Share> {
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Share { _permit: Some(permit) })
    }

    /// Whether others wait for a share: whoever has one must not take all the time there is.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The way that a blob takes.
    pub(super) fn lane(&self) -> Lane {
        match Arc::clone(&self.lanes).try_acquire_owned() {
            Ok(permit) => Lane { piece: 256 << 10, batch: 512 << 10, _permit: Some(permit) },
            Err(_) => Lane { piece: 16 << 10, batch: 32 << 10, _permit: None },
        }
    }

    /// The place where large manifests are read.
    ///
    /// # Errors
    ///
    /// 429 if it is taken for a while.
    pub(super) async fn desk(&self) -> Result<Share, Problem> {
        alone(&self.desk).await
    }

    /// The right to walk through all repositories.
    ///
    /// # Errors
    ///
    /// 429 if others do so for a while.
    pub(super) async fn walk(&self) -> Result<Share, Problem> {
        alone(&self.walks).await
    }
}

impl Share {
    /// Bytes that carry the share until the last of them has left.
    pub(super) fn hold(self, bytes: Vec<u8>) -> Bytes {
        struct Held(Vec<u8>, #[expect(dead_code, reason = "dropped with the bytes")] Share);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Held(bytes, self))
    }
}

/// One of those who wait, until it is dropped: a client may go away meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn alone(semaphore: &Arc<Semaphore>) -> Result<Share, Problem> {
    let taken = timeout(WAIT, Arc::clone(semaphore).acquire_owned()).await;
    Ok(Share { _permit: Some(taken.map_err(|_| busy())?.map_err(|_| busy())?) })
}

pub(super) fn busy() -> Problem {
    Problem::too_many("too much is under way at this moment; try again", RETRY_SECONDS)
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_shares_are_bounded_small_ones_are_free_and_waiting_ends() {
        let memory = Memory::default();
        let mut held = Vec::new();
        while let Some(share) = memory.share_now(MAX_MANIFEST_BYTES) {
            held.push(share);
        }
        assert_eq!(held.len(), 8);
        assert!(memory.share(SMALL_BYTES).await.is_ok() && !memory.is_short());
        let refused = memory.share(SMALL_BYTES + 1).await.unwrap_err().response();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().unwrap()));
        let waiting = memory.share(MAX_MANIFEST_BYTES);
        let freeing = async {
            tokio::time::sleep(WAIT / 2).await;
            assert!(memory.is_short());
            held.pop();
        };
        assert!(tokio::join!(waiting, freeing).0.is_ok() && !memory.is_short());
    }

    #[test]
    fn bytes_carry_their_share_until_the_last_of_them_has_gone() {
        let memory = Memory::default();
        let bytes = memory.share_now(BUDGET_BYTES).unwrap().hold(vec![7; 10]);
        let part = bytes.slice(3..4);
        drop(bytes);
        assert!(memory.share_now(UNIT).is_none());
        drop(part);
        assert!(memory.share_now(UNIT).is_some());
    }

    #[test]
    fn the_first_blobs_pass_in_large_pieces_and_the_others_in_small_ones() {
        let memory = Memory::default();
        let lanes: Vec<_> = (0..LARGE_LANES + 2).map(|_| memory.lane()).collect();
        assert_eq!(lanes.iter().filter(|lane| lane.piece > SMALL_BYTES).count(), LARGE_LANES);
        drop(lanes);
        assert!(memory.lane().piece > SMALL_BYTES);
    }
}
