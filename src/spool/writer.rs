//! How a file grows: pieces gathered, written in order on other threads, flushed every few steps.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::folder::SpoolFolder;
use crate::disk::write_all;
use crate::disk::{Place, joined};
use crate::error::{Error, Result};

/// Bytes gathered before they are written. As many again are on their way to the kernel meanwhile, and no piece from
/// the network is larger than 417 KiB. So a SIGKILL costs a stream less than 1 MiB, and 64 KiB on average. One write
/// per piece, 8 KiB at worst, would cost a thread switch for each.
const BATCH: u64 = 128 << 10;

/// Bytes between two `fdatasync` calls. A power cut costs a stream at most what the last two of them have not flushed,
/// 16 MiB. Shorter steps cost more: each sync waits for the file system's journal, 5 to 50 ms on the cards and disks of
/// small machines, and must end before the next one is due, so that no download waits for it.
pub(super) const STEP: u64 = 8 << 20;

/// Bytes per read.
const PIECE: u64 = 256 << 10;

/// How this process may use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAccess {
    /// The file is ours, and grows.
    Grow,
    /// The file is ours; its content may be read, but not extended.
    Keep,
    /// The file is another process's; its content may be read.
    Borrow,
    /// No use: the file is gone, or not to be trusted.
    Nothing,
}

impl FileAccess {
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Grow | Self::Keep)
    }
}

/// The end of a file, and the bytes that come after it.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    pub(super) access: FileAccess,
    /// Bytes in the file.
    pub(super) written: u64,
    writing: Option<Writing>,
    pub(super) pending: Vec<Bytes>,
    flushing: Option<JoinHandle<Result<()>>>,
    /// Whether the end of a step has been written since the last flush began.
    is_flush_due: bool,
    pub(super) filling: Filling,
}

/// Whether the missing bytes are on their way.
#[derive(Debug)]
pub(super) enum Filling {
    /// No task is running.
    Idle,
    /// A task fetches them.
    UnderWay(JoinHandle<()>),
    /// The task failed, and no reader has seen the error yet.
    Broken(Error),
}

/// Pieces on their way to the kernel.
#[derive(Debug)]
struct Writing {
    job: JoinHandle<Result<Wrote>>,
    pieces: Arc<Vec<Bytes>>,
}

/// How a successful write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    All,
    /// The spool holds all that it may.
    NoRoom,
}

impl SpoolWriter {
    pub(super) fn new(access: FileAccess, written: u64) -> Self {
        let is_flush_due = written >= STEP;
        Self {
            access,
            written,
            writing: None,
            pending: Vec::new(),
            flushing: None,
            is_flush_due,
            filling: Filling::Idle,
        }
    }

    /// Returns the offset of the next byte.
    pub(super) fn length(&self) -> u64 {
        self.written + self.unwritten().map(|piece| piece.len() as u64).sum::<u64>()
    }

    fn unwritten(&self) -> impl Iterator<Item = &Bytes> {
        self.writing.iter().flat_map(|writing| writing.pieces.iter()).chain(&self.pending)
    }

    /// Returns the bytes from `from` on, if they are not yet written.
    pub(super) fn in_memory(&self, from: u64) -> Option<Bytes> {
        let mut skip = usize::try_from(from.checked_sub(self.written)?).ok()?;
        for piece in self.unwritten() {
            if skip < piece.len() {
                return Some(piece.slice(skip..));
            }
            skip -= piece.len();
        }
        None
    }

    /// Accepts the next piece. An error is about earlier pieces.
    pub(super) async fn push(
        &mut self,
        folder: &Arc<SpoolFolder>,
        file: &Arc<File>,
        place: &Place,
        piece: Bytes,
    ) -> Result<()> {
        if length_of(&self.pending) + piece.len() as u64 > BATCH {
            self.write(folder, file, place).await?;
        }
        if self.access == FileAccess::Grow {
            self.pending.push(piece);
        }
        Ok(())
    }

    /// Starts to write the pending bytes, once the bytes before them are in the file.
    pub(super) async fn write(&mut self, folder: &Arc<SpoolFolder>, file: &Arc<File>, place: &Place) -> Result<()> {
        self.settle().await?;
        if self.access != FileAccess::Grow || self.pending.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.is_flush_due) {
            self.flushing = Some(flush(folder, file, place));
        }
        let (at, end) = (self.written, self.written + length_of(&self.pending));
        if at / STEP < end / STEP {
            // No write goes past the end of a step before the step before it is on disk: `flushed` relies on that.
            if let Some(job) = &mut self.flushing {
                let done = joined(job).await;
                self.flushing = None;
                done?;
            }
            self.is_flush_due = true;
        }
        let pieces = Arc::new(std::mem::take(&mut self.pending));
        let (folder, file, batch) = (Arc::clone(folder), Arc::clone(file), Arc::clone(&pieces));
        self.writing = Some(Writing { job: spawn_blocking(move || put(&folder, &file, at, &batch)), pieces });
        Ok(())
    }

    /// Waits for the write in progress. Cancel-safe: loses nothing if dropped.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let Some(Writing { job, pieces }) = &mut self.writing else { return Ok(()) };
        let (done, bytes) = (joined(job).await, length_of(pieces));
        self.writing = None;
        if let Ok(Wrote::All) = done {
            self.written += bytes;
        } else {
            // The bytes in the file stay valid. The rest goes from socket to socket, or nowhere.
            self.access = FileAccess::Keep;
            self.pending.clear();
        }
        done.map(drop)
    }

    /// Returns the error of filling, once.
    pub(super) fn failure(&mut self) -> Option<Error> {
        match std::mem::replace(&mut self.filling, Filling::Idle) {
            Filling::Broken(error) => Some(error),
            other => {
                self.filling = other;
                None
            }
        }
    }

    /// Stops filling, whatever its state.
    pub(super) fn stop(&mut self) {
        if let Filling::UnderWay(task) = std::mem::replace(&mut self.filling, Filling::Idle) {
            task.abort();
        }
    }

    /// Stops filling and drops the unwritten bytes.
    pub(super) async fn forget(&mut self) {
        self.stop();
        // Success or failure makes no difference to the dropped bytes.
        let _ = self.settle().await;
        self.pending.clear();
    }
}

fn length_of(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

fn flush(folder: &Arc<SpoolFolder>, file: &Arc<File>, place: &Place) -> JoinHandle<Result<()>> {
    let (folder, file, place) = (Arc::clone(folder), Arc::clone(file), place.clone());
    spawn_blocking(move || {
        file.sync_data().map_err(|why| folder.refused(why))?;
        // Sync the name too; where a folder cannot be synced, the file system's own journal must do.
        let _ = place.sync_name();
        Ok(())
    })
}

/// Writes a batch at `at`, if there is room for it.
pub(super) fn put(folder: &SpoolFolder, file: &File, at: u64, batch: &[Bytes]) -> Result<Wrote> {
    if !folder.take(length_of(batch)) {
        tracing::debug!(spool = %folder.place().display(), "the spool is full: the rest of a blob goes without it");
        return Ok(Wrote::NoRoom);
    }
    let mut writer = file;
    let written = writer.seek(SeekFrom::Start(at)).and_then(|_| write_all(file, batch));
    written.map(|()| Wrote::All).map_err(|why| folder.refused(why))
}

/// Reads some bytes from `at` on, at most `most`. Does not move the writer's position.
pub(super) fn read(file: &File, at: u64, most: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(most.min(PIECE)).unwrap_or_default()];
    #[cfg(unix)]
    let count = std::os::unix::fs::FileExt::read_at(file, &mut buffer, at)?;
    #[cfg(windows)]
    let count = std::os::windows::fs::FileExt::seek_read(file, &mut buffer, at)?;
    buffer.truncate(count);
    Ok(buffer.into())
}
