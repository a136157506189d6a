//! Writes to files off the async threads, and hashes on the way.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::path::Path;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{failed, joined};
use crate::error::{Error, Kind, Result};
use crate::oci::Hasher;

/// Bytes gathered before they go to the disk and the hash together.
const BATCH: usize = 512 << 10;

/// Writes pieces to a file, and hashes them, on a blocking thread while the next pieces arrive.
///
/// Uses a thread only while there is something to write: a slow peer costs memory (twice a batch), not a thread. Small
/// pieces are copied together: each may be the last reference to a connection's buffer, and a body may arrive one byte
/// at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    target: FileTarget,
    batch: usize,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Small pieces that come after `pending`.
    tail: Vec<u8>,
}

/// A file, and the hash of the bytes written to it.
type Open = (File, Option<Hasher>);

#[derive(Debug)]
enum FileTarget {
    Idle(Box<Open>),
    Busy(JoinHandle<Result<Open>>),
    Gone,
}

impl Writer {
    /// Writes from the current position of `file`, and feeds `hasher` if there is one.
    pub(crate) fn new(file: File, hasher: Option<Hasher>) -> Self {
        Self::in_batches(BATCH, file, hasher)
    }

    /// Does the same in batches of `batch` bytes.
    pub(crate) fn in_batches(batch: usize, file: File, hasher: Option<Hasher>) -> Self {
        let target = FileTarget::Idle(Box::new((file, hasher)));
        Self { target, batch, pending: Vec::new(), pending_bytes: 0, tail: Vec::new() }
    }

    /// Accepts the next bytes. An error may be about earlier bytes.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.pending_bytes += bytes.len();
        if bytes.len() < self.batch / 8 {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.end_tail();
            self.pending.push(bytes);
        }
        if self.pending_bytes < self.batch {
            return Ok(());
        }
        let (file, hasher) = self.idle().await?;
        let batch = self.gathered();
        self.target = FileTarget::Busy(spawn_blocking(move || write(file, hasher, &batch)));
        Ok(())
    }

    /// Writes the rest and returns the file and the hash of all pushed bytes. Syncs nothing.
    pub(crate) async fn finish(mut self) -> Result<Open> {
        let (file, hasher) = self.idle().await?;
        let batch = self.gathered();
        if batch.is_empty() {
            return Ok((file, hasher));
        }
        joined(spawn_blocking(move || write(file, hasher, &batch))).await
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pending.push(std::mem::take(&mut self.tail).into());
        }
    }

    fn gathered(&mut self) -> Vec<Bytes> {
        self.end_tail();
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    async fn idle(&mut self) -> Result<Open> {
        match std::mem::replace(&mut self.target, FileTarget::Gone) {
            FileTarget::Idle(open) => Ok(*open),
            FileTarget::Busy(job) => joined(job).await,
            FileTarget::Gone => Err(Error::new(Kind::Local, "write").because("an earlier write went wrong")),
        }
    }
}

fn write(file: File, mut hasher: Option<Hasher>, batch: &[Bytes]) -> Result<Open> {
    write_all(&file, batch).map_err(|e| failed("write", Path::new("blob"), e))?;
    if let Some(hasher) = &mut hasher {
        batch.iter().for_each(|piece| hasher.update(piece));
    }
    Ok((file, hasher))
}

/// Writes all pieces at the current position of `file`, in as few calls as possible.
pub(crate) fn write_all(mut file: &File, batch: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
