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

/// Bytes that are gathered before they are written; as many are on their way to the kernel meanwhile, and no piece off the
/// network is larger than 417 KiB. So a SIGKILL costs a stream less than 1 MiB and 64 KiB on average; a write for each
/// piece, 8 KiB at worst, would cost a change of threads for each.
const BATCH: u64 = 128 << 10;

/// Bytes between two `fdatasync`. What a power cut costs of a stream is at most what the last two of them have not reached,
/// 16 MiB. Shorter steps cost: each sync waits for the file system's journal, 5 to 50 ms on the cards and disks of small
/// machines, and is to be over before the next one is due, so that no download waits for it.
pub(super) const STEP: u64 = 8 << 20;

/// Bytes per read.
const PIECE: u64 = 256 << 10;

/// What may be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAccess {
    /// It is ours, and takes more.
    Grow,
    /// It is ours; what is there may be read, and no more be written.
    Keep,
    /// It is another process's: what is there may be read.
    Borrow,
    /// Nothing: it is gone, or not to be trusted.
    Nothing,
}

impl FileAccess {
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Grow | Self::Keep)
    }
}

/// A file's end, and what is to come after it.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    pub(super) access: FileAccess,
    /// Bytes that are in the file.
    pub(super) written: u64,
    writing: Option<Writing>,
    pub(super) pending: Vec<Bytes>,
    flushing: Option<JoinHandle<Result<()>>>,
    /// A step's end has been written since the last flush began.
    is_flush_due: bool,
    pub(super) filling: Filling,
}

/// Whether what is missing is on its way.
#[derive(Debug)]
pub(super) enum Filling {
    /// It is not.
    Idle,
    /// A task is bringing it.
    UnderWay(JoinHandle<()>),
    /// It failed, and nobody has been told yet.
    Broken(Error),
}

/// Pieces on their way to the kernel.
#[derive(Debug)]
struct Writing {
    job: JoinHandle<Result<Wrote>>,
    pieces: Arc<Vec<Bytes>>,
}

/// How a write ended that did not fail.
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

    /// Where the next byte goes.
    pub(super) fn length(&self) -> u64 {
        self.written + self.unwritten().map(|piece| piece.len() as u64).sum::<u64>()
    }

    fn unwritten(&self) -> impl Iterator<Item = &Bytes> {
        self.writing.iter().flat_map(|writing| writing.pieces.iter()).chain(&self.pending)
    }

    /// The bytes from `from` on, if they are not yet written.
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

    /// Takes the next piece. An error is about pieces taken earlier.
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

    /// Begins to write what is pending, once what was before it is in the file.
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
            // Nothing is written past a step's end before the step before it is on disk: what `flushed` relies on.
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

    /// Waits for what is being written. Given up while it waits, it has lost nothing.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let Some(Writing { job, pieces }) = &mut self.writing else { return Ok(()) };
        let (done, bytes) = (joined(job).await, length_of(pieces));
        self.writing = None;
        if let Ok(Wrote::All) = done {
            self.written += bytes;
        } else {
            // What is there stays right. The rest goes from socket to socket, or nowhere.
            self.access = FileAccess::Keep;
            self.pending.clear();
        }
        done.map(drop)
    }

    /// What filling has failed with, once.
    pub(super) fn failure(&mut self) -> Option<Error> {
        match std::mem::replace(&mut self.filling, Filling::Idle) {
            Filling::Broken(error) => Some(error),
            other => {
                self.filling = other;
                None
            }
        }
    }

    /// Ends filling, whatever it has come to.
    pub(super) fn stop(&mut self) {
        if let Filling::UnderWay(task) = std::mem::replace(&mut self.filling, Filling::Idle) {
            task.abort();
        }
    }

    /// Ends filling and lets go of what is not written.
    pub(super) async fn forget(&mut self) {
        self.stop();
        // Whether it went well makes no difference to what goes.
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
        // And its name; where a folder cannot be synced, the file system's own journal has to do.
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

/// Some bytes from `at` on, at most `most`. Leaves the writer's place where it is.
pub(super) fn read(file: &File, at: u64, most: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(most.min(PIECE)).unwrap_or_default()];
    #[cfg(unix)]
    let count = std::os::unix::fs::FileExt::read_at(file, &mut buffer, at)?;
    #[cfg(windows)]
    let count = std::os::windows::fs::FileExt::seek_read(file, &mut buffer, at)?;
    buffer.truncate(count);
    Ok(buffer.into())
}
