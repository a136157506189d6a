//! The memory that all connections share.
//!
//! Each connection may hold a little: its buffers, a small manifest, a short page of a list. Larger things (incoming
//! manifests, long pages) take their bytes from one budget first. When the budget is used up, a page is short and a
//! manifest waits; after a while its client gets 429. Blobs pass in pieces, the first few at a time in large ones.
//! Together this is far below 256 MiB at 400 connections that do their worst (`tests/it/serve/memory.rs`). One network
//! (`connection_slots.rs`) has at most half of the budget.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::error_response::ErrorResponse;
use crate::store::MAX_MANIFEST_BYTES;

/// Bytes that each request may hold without a share. Manifests of images have a few kilobytes.
pub(super) const SMALL_BYTES: u64 = 32 << 10;

/// Most values of a small manifest: each takes a hundred bytes or more in memory.
pub(super) const SMALL_VALUES: usize = 500;

/// Bytes that all requests may hold beyond that: eight of the largest manifests.
const BUDGET_BYTES: u64 = 8 * MAX_MANIFEST_BYTES;

/// How long a request with a share may take for its manifest while others wait for a share, and how long it may be
/// silent.
const PATIENCE: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(10);

/// Longest wait for a share of the budget.
const WAIT: Duration = Duration::from_secs(30);

/// Blobs that pass in large pieces at the same time.
const LARGE_LANES: usize = 24;

/// Unit of the budget: a semaphore counts in 32 bits.
const UNIT: u64 = 1 << 10;

/// The memory that is left.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    budget: Arc<Semaphore>,
    /// The part of each network, while it has or waits for a share.
    networks: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    waiting: AtomicUsize,
    lanes: Arc<Semaphore>,
    /// One large manifest at a time is parsed, which takes many times its bytes.
    desk: Arc<Semaphore>,
    /// One walk through all repositories at a time.
    walks: Arc<Semaphore>,
}

/// Bytes of the budget, held until the value is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
    _of_network: Option<OwnedSemaphorePermit>,
}

/// The sizes of the pieces in which a blob passes.
#[derive(Debug)]
pub(super) struct BlobLane {
    /// Bytes that one read takes from a file.
    pub(super) piece: u64,
    /// Bytes that are collected before one write to a file.
    pub(super) batch: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            budget: Arc::new(bytes(BUDGET_BYTES)),
            networks: Mutex::default(),
            waiting: AtomicUsize::new(0),
            lanes: semaphore(LARGE_LANES),
            desk: semaphore(1),
            walks: semaphore(1),
        }
    }
}

impl MemoryBudget {
    /// Waits for a share of `bytes` bytes for a client in `network`.
    ///
    /// # Errors
    ///
    /// 429 if there is none for a while.
    pub(super) async fn share(&self, network: IpAddr, bytes: u64) -> Result<Share, ErrorResponse> {
        if bytes <= SMALL_BYTES {
            return Ok(Share { _permit: None, _of_network: None });
        }
        let _waiting = WaitingShare::new(&self.waiting);
        // The network's own part first: a wait for that keeps no other network waiting.
        let taking = async {
            let of_network = self.of(network).acquire_many_owned(units(bytes)).await?;
            Ok::<_, AcquireError>((of_network, Arc::clone(&self.budget).acquire_many_owned(units(bytes)).await?))
        };
        let (of_network, permit) =
            timeout(WAIT, taking).await.map_err(|_| ErrorResponse::busy())?.map_err(|_| ErrorResponse::busy())?;
        Ok(Share { _permit: Some(permit), _of_network: Some(of_network) })
    }

    /// Returns a share of `bytes` bytes if there is one at once.
    pub(super) fn share_now(&self, network: IpAddr, bytes: u64) -> Option<Share> {
        let of_network = self.of(network).try_acquire_many_owned(units(bytes)).ok()?;
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Share { _permit: Some(permit), _of_network: Some(of_network) })
    }

    /// Returns the part of a network: half of all.
    fn of(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut networks = crate::sync::lock(&self.networks);
        if let Some(known) = networks.get(&network).and_then(Weak::upgrade) {
            return known;
        }
        networks.retain(|_, semaphore| semaphore.strong_count() > 0);
        let new = Arc::new(bytes(BUDGET_BYTES / 2));
        networks.insert(network, Arc::downgrade(&new));
        new
    }

    /// Returns once a request must give its share back because others wait: it has had the share since `begun`, and its
    /// body is silent from now on.
    pub(super) async fn is_wanted_back(&self, begun: Instant) {
        let silent = Instant::now();
        while !self.is_short() || (silent.elapsed() < SILENCE && begun.elapsed() < PATIENCE) {
            sleep(SILENCE / 10).await;
        }
    }

    fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Returns the lane for a blob: large pieces while there are lanes left, else small ones.
    pub(super) fn lane(&self) -> BlobLane {
        match Arc::clone(&self.lanes).try_acquire_owned() {
            Ok(permit) => BlobLane { piece: 256 << 10, batch: 512 << 10, _permit: Some(permit) },
            Err(_) => BlobLane { piece: 16 << 10, batch: 32 << 10, _permit: None },
        }
    }

    /// Waits for the permit to parse a large manifest.
    ///
    /// # Errors
    ///
    /// 429 if others have it for a while.
    pub(super) async fn desk(&self) -> Result<Share, ErrorResponse> {
        alone(&self.desk).await
    }

    /// Waits for the permit to walk through all repositories.
    ///
    /// # Errors
    ///
    /// 429 if others have it for a while.
    pub(super) async fn walk(&self) -> Result<Share, ErrorResponse> {
        alone(&self.walks).await
    }
}

impl Share {
    /// Returns `bytes` with the share, which is released when the last of them is sent.
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

/// Counts one waiting request until it is dropped: a client may go away meanwhile.
struct WaitingShare<'a>(&'a AtomicUsize);

impl<'a> WaitingShare<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingShare<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn alone(semaphore: &Arc<Semaphore>) -> Result<Share, ErrorResponse> {
    let taken = timeout(WAIT, Arc::clone(semaphore).acquire_owned()).await;
    Ok(Share {
        _permit: Some(taken.map_err(|_| ErrorResponse::busy())?.map_err(|_| ErrorResponse::busy())?),
        _of_network: None,
    })
}

fn bytes(bytes: u64) -> Semaphore {
    Semaphore::new(usize::try_from(bytes / UNIT).unwrap_or(Semaphore::MAX_PERMITS))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn large_shares_are_bounded_small_ones_are_free_and_waiting_ends() {
        let memory = MemoryBudget::default();
        let mut held = Vec::new();
        for n in 1..=3 {
            while let Some(share) = memory.share_now(ip(n), MAX_MANIFEST_BYTES) {
                held.push(share);
            }
            assert_eq!(held.len(), 8.min(4 * usize::from(n)), "a network has half");
        }
        assert!(memory.share(ip(1), SMALL_BYTES).await.is_ok() && !memory.is_short());
        let refused = memory.share(ip(3), SMALL_BYTES + 1).await.unwrap_err().response();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().unwrap()));
        let waiting = memory.share(ip(3), MAX_MANIFEST_BYTES);
        let freeing = async {
            sleep(WAIT / 2).await;
            assert!(memory.is_short());
            held.pop();
        };
        assert!(tokio::join!(waiting, freeing).0.is_ok() && !memory.is_short());
        drop(held);
        assert!(memory.share_now(ip(4), UNIT).is_some());
        assert_eq!(memory.networks.lock().unwrap().len(), 1, "networks that have nothing are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_that_waits_keeps_no_other_waiting() {
        let memory = MemoryBudget::default();
        let held: Vec<_> = (0..4).filter_map(|_| memory.share_now(ip(1), MAX_MANIFEST_BYTES)).collect();
        let own = memory.share(ip(1), MAX_MANIFEST_BYTES);
        let other = async {
            tokio::task::yield_now().await;
            assert!(memory.is_short());
            let begun = Instant::now();
            (memory.share(ip(2), MAX_MANIFEST_BYTES).await, begun.elapsed())
        };
        let (own, (other, waited)) = tokio::join!(own, other);
        assert!(own.is_err() && other.is_ok() && waited.is_zero() && held.len() == 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_wanted_back_after_silence_while_others_wait() {
        let memory = MemoryBudget::default();
        assert!(timeout(PATIENCE * 10, memory.is_wanted_back(Instant::now())).await.is_err(), "nobody waits");
        let _waiting = WaitingShare::new(&memory.waiting);
        let begun = Instant::now();
        memory.is_wanted_back(begun).await;
        assert!((SILENCE..SILENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let before = begun.elapsed();
        memory.is_wanted_back(begun.checked_sub(PATIENCE).unwrap()).await;
        assert_eq!(begun.elapsed(), before, "it has had all the time there is");
    }

    #[test]
    fn bytes_carry_their_share_until_the_last_of_them_has_gone() {
        let memory = MemoryBudget::default();
        let bytes = memory.share_now(ip(1), BUDGET_BYTES / 2).unwrap().hold(vec![7; 10]);
        let part = bytes.slice(3..4);
        drop(bytes);
        assert!(memory.share_now(ip(1), UNIT).is_none());
        drop(part);
        assert!(memory.share_now(ip(1), UNIT).is_some());
    }

    #[test]
    fn the_first_blobs_pass_in_large_pieces_and_the_others_in_small_ones() {
        let memory = MemoryBudget::default();
        let lanes: Vec<_> = (0..LARGE_LANES + 2).map(|_| memory.lane()).collect();
        assert_eq!(lanes.iter().filter(|lane| lane.piece > SMALL_BYTES).count(), LARGE_LANES);
        drop(lanes);
        assert!(memory.lane().piece > SMALL_BYTES);
    }
}
