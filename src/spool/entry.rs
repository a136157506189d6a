//! One blob's file: filled at its end as fast as bytes arrive, read from its beginning as slowly as the reader wants.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Mutex, watch};

use super::folder::{LockAttempt, SpoolFolder, lock};
use super::writer::{FileAccess, Filling, STEP, SpoolWriter, put, read};
use crate::disk::{Missing, Place, blocking};
use crate::error::Result;
use crate::oci::Digest;
use crate::stream::ByteStream;

/// Number of tries to open a file that other processes remove at the same time.
const LOOKS: usize = 8;

/// The beginning of a blob on disk, while one copy works on it. All passes over one body share it.
///
/// A separate task receives the source's bytes and never waits for the reader: a sink that is slower than the source
/// would otherwise leave megabytes of each stream in the kernel, where a kill loses them.
#[derive(Debug)]
pub(crate) struct SpoolEntry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: Arc<SpoolFolder>,
    place: Place,
    file: Arc<File>,
    size: u64,
    growth: Mutex<SpoolWriter>,
    /// Counts the events that readers wait for: new pieces, and the end of filling.
    news: watch::Sender<u64>,
    /// Whether any reader may still come.
    is_wanted: AtomicBool,
}

/// The result of one read.
#[derive(Debug)]
pub(crate) enum Next {
    Piece(Bytes),
    /// No bytes yet, and no task is filling the file: fill it from its end.
    Unfilled,
    /// No bytes, now or later.
    Nothing,
}

impl SpoolEntry {
    /// Takes the file of `digest`, and creates it if it is missing. Cuts off bytes that cannot belong to this blob, or
    /// that may not have reached the disk before the machine went down.
    pub(super) fn claim(folder: &Arc<SpoolFolder>, digest: &Digest, size: u64) -> io::Result<Option<Self>> {
        let place = folder.file(digest);
        for _ in 0..LOOKS {
            let (file, _) = place.open_own(Missing::IsMade)?;
            let about = file.metadata()?;
            let (access, written) = match lock(&file, &place)? {
                LockAttempt::Gone => continue,
                LockAttempt::Ours => (FileAccess::Grow, trusted(&file, size)?),
                LockAttempt::Theirs if (1..=size).contains(&about.len()) => (FileAccess::Borrow, about.len()),
                LockAttempt::Theirs => return Ok(None),
            };
            let growth = Mutex::new(SpoolWriter::new(access, written));
            let (folder, file, news) = (Arc::clone(folder), Arc::new(file), watch::Sender::new(0));
            let shared = Arc::new(Shared { folder, place, file, size, growth, news, is_wanted: AtomicBool::new(true) });
            return Ok(Some(Self(shared)));
        }
        Ok(None)
    }

    /// Returns how many bytes there are.
    pub(crate) async fn length(&self) -> u64 {
        self.0.growth.lock().await.length()
    }

    /// Starts filling the file unless already started; `open(offset)` supplies the bytes from `offset`.
    pub(crate) async fn fill<F>(&self, open: impl FnOnce(u64) -> F + Send)
    where
        F: Future<Output = Result<ByteStream>> + Send + 'static,
    {
        let mut growth = self.0.growth.lock().await;
        let at = growth.length();
        if growth.access == FileAccess::Grow && at < self.0.size && matches!(growth.filling, Filling::Idle) {
            let (shared, stream) = (Arc::clone(&self.0), open(at));
            growth.filling = Filling::UnderWay(tokio::spawn(async move {
                let done = shared.fill(at, stream).await;
                shared.growth.lock().await.filling = done.map_or_else(Filling::Broken, |()| Filling::Idle);
                shared.news.send_modify(|count| *count += 1);
            }));
        }
    }

    /// Returns some of the bytes from `from` on; waits for them if they are on their way.
    ///
    /// # Errors
    ///
    /// Fails as filling failed, however many bytes are still unread; with [`Local`](crate::Kind::Local) if the disk
    /// failed.
    pub(crate) async fn next(&self, from: u64) -> Result<Next> {
        loop {
            let mut news = self.0.news.subscribe();
            if let Some(failure) = self.0.growth.lock().await.failure() {
                return Err(failure);
            }
            if let Some(piece) = self.0.piece(from).await {
                return Ok(Next::Piece(piece));
            }
            let growth = self.0.growth.lock().await;
            match &growth.filling {
                Filling::Idle if growth.access == FileAccess::Grow => return Ok(Next::Unfilled),
                Filling::Idle => return Ok(Next::Nothing),
                Filling::UnderWay(_) | Filling::Broken(_) => drop(growth),
            }
            // The sender lives as long as the entry.
            let _ = news.changed().await;
        }
    }

    /// Drops everything from byte `at` on: it could not be read, or is wrong.
    pub(crate) async fn cut(&self, at: u64) {
        self.0.cut(at).await;
    }

    /// Removes the file: its blob has arrived.
    pub(crate) async fn landed(&self) {
        let mut growth = self.0.growth.lock().await;
        growth.forget().await;
        if growth.access.is_ours() {
            let shared = Arc::clone(&self.0);
            // If the file stays, nothing is lost: the bounds remove it later.
            let _ = blocking(move || Ok(shared.remove())).await;
        }
        growth.access = FileAccess::Nothing;
    }
}

impl Drop for SpoolEntry {
    fn drop(&mut self) {
        // No wait: if the filling task holds the lock, it sees the flag at its next piece.
        self.0.is_wanted.store(false, Ordering::Relaxed);
        if let Ok(mut growth) = self.0.growth.try_lock() {
            growth.stop();
        }
    }
}

impl Shared {
    /// Takes all bytes of `open`, which start at `at`, up to the blob's size and as far as there is room.
    async fn fill(&self, mut at: u64, open: impl Future<Output = Result<ByteStream>> + Send) -> Result<()> {
        let mut stream = open.await?;
        while at < self.size
            && self.is_wanted.load(Ordering::Relaxed)
            && let Some(piece) = stream.next().await
        {
            let mut piece = piece?;
            // Bytes past the size are the source's mistake; the digest covers the bytes up to it.
            piece.truncate(usize::try_from(self.size - at).unwrap_or(usize::MAX));
            at += piece.len() as u64;
            let mut growth = self.growth.lock().await;
            growth.push(&self.folder, &self.file, &self.place, piece).await?;
            if at == self.size {
                // However slow its sink is, no byte of it must be fetched again.
                growth.write(&self.folder, &self.file, &self.place).await?;
            }
            if growth.access != FileAccess::Grow {
                return Ok(());
            }
            drop(growth);
            self.news.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Returns some bytes from `from` on, if they are there: from memory while they are on their way to the disk.
    async fn piece(&self, from: u64) -> Option<Bytes> {
        let growth = self.growth.lock().await;
        if growth.access == FileAccess::Nothing {
            return None;
        }
        if from >= growth.written {
            return growth.in_memory(from);
        }
        let (file, most) = (Arc::clone(&self.file), growth.written - from);
        drop(growth);
        match blocking(move || Ok(read(&file, from, most))).await {
            Ok(Ok(piece)) if !piece.is_empty() => Some(piece),
            Ok(Ok(_)) => self.unreadable(from, "it became shorter while it was read").await,
            Ok(Err(why)) => self.unreadable(from, &why.to_string()).await,
            Err(why) => self.unreadable(from, &why.chain()).await,
        }
    }

    /// Cuts the file at bytes that cannot be read; they are fetched instead.
    async fn unreadable(&self, from: u64, why: &str) -> Option<Bytes> {
        tracing::warn!(file = %self.place.path().display(), "going without the spool for the rest of one blob: {why}");
        self.cut(from).await;
        None
    }

    async fn cut(&self, at: u64) {
        let mut growth = self.growth.lock().await;
        let file = Arc::clone(&self.file);
        growth.forget().await;
        let is_cut =
            growth.access.is_ours() && blocking(move || Ok(file.set_len(at).is_ok())).await.unwrap_or_default();
        if is_cut {
            growth.written = at.min(growth.written);
        } else {
            growth.access = FileAccess::Nothing;
        }
    }

    /// Removes the file, which is ours, if it still has its name.
    fn remove(&self) -> bool {
        self.place.names(&self.file).is_ok_and(|is| is && self.place.remove().is_ok())
    }
}

impl Drop for Shared {
    /// Writes pending bytes, so that a run that is stopped loses almost nothing, and leaves no empty file.
    fn drop(&mut self) {
        let growth = self.growth.get_mut();
        // This write must not overtake one that is still running: a file with a hole would be worthless.
        let is_settled = growth.settle().now_or_never().is_some_and(|done| done.is_ok());
        if is_settled && growth.access == FileAccess::Grow {
            // At most 128 KiB into the kernel's memory, at exit: another thread might not run any more.
            let _ = put(&self.folder, &self.file, growth.written, &growth.pending);
        }
        if is_settled && growth.access.is_ours() && self.file.metadata().is_ok_and(|about| about.len() == 0) {
            self.remove();
        }
    }
}

/// Returns how many bytes of a file that is ours may be kept; the rest is cut off.
fn trusted(file: &File, size: u64) -> io::Result<u64> {
    let about = file.metadata()?;
    let length = about.len();
    let trusted = match length {
        // The file is not this blob's.
        _ if length > size => 0,
        _ if has_restarted_since(about.modified()?) => flushed(length),
        _ => length,
    };
    if trusted < length {
        file.set_len(trusted)?;
    }
    // Marks the file as used, for the bounds.
    file.set_modified(SystemTime::now())?;
    Ok(trusted)
}

/// Returns how many of `length` bytes have certainly been flushed: all steps but the last two, one of which may be half
/// written and the other half flushed.
fn flushed(length: u64) -> u64 {
    (length / STEP).saturating_sub(1) * STEP
}

/// Whether this machine has restarted since `then`, as far as its clock is right: the digest finds everything that this
/// check misses.
fn has_restarted_since(then: SystemTime) -> bool {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
    let up = up.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    up.and_then(|up| SystemTime::now().checked_sub(up)).is_some_and(|started| then < started)
}
