//! One blob's file: read from its beginning, grown at its end.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use super::folder::{Folder, Lock, Missing, is_same, lock, open};
use crate::error::Result;
use crate::oci::Digest;
use crate::store::ByteStream;
use crate::store::layout::file::{blocking, joined, stream, sync_parent, write_all};

/// Most bytes that are gathered before they are written; as many are on their way to the kernel meanwhile. Together no
/// more than the 1 MiB of a stream that a SIGKILL may cost, and half of it on average; a write for each piece (8 to 400
/// KiB, as the network gives them) would cost a change of threads each.
const BATCH: u64 = 128 << 10;

/// Bytes between two `fdatasync`. What a power cut costs of a stream is at most what the last two of them have not reached,
/// 16 MiB. Shorter steps cost: each sync waits for the file system's journal, 5 to 50 ms on the cards and disks of small
/// machines, and is to be over before the next one is due, so that no download waits for it.
const STEP: u64 = 8 << 20;

/// Times that a file is looked for which others remove meanwhile.
const LOOKS: usize = 8;

/// The beginning of a blob on disk, for as long as one copy works on it. All passes over one body share it.
#[derive(Debug)]
pub(in crate::store) struct Entry {
    folder: Arc<Folder>,
    path: PathBuf,
    file: Arc<File>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    access: Access,
    /// Bytes that are in the file.
    written: u64,
    /// What is being written, and how much that is.
    writing: Option<(JoinHandle<Result<Wrote>>, u64)>,
    pending: Vec<Bytes>,
    pending_bytes: u64,
    flushing: Option<JoinHandle<Result<()>>>,
    /// A step's end has been written since the last flush began.
    is_flush_due: bool,
}

/// What may be done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// It is ours, and takes more.
    Grow,
    /// It is ours; what is there may be read, and no more be written.
    Keep,
    /// It is another process's: what is there may be read.
    Borrow,
    /// Nothing: it is gone, or not to be trusted.
    Nothing,
}

/// How a write ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    All,
    /// The spool holds all that it may.
    NoRoom,
}

impl Entry {
    /// Takes the file of `digest`, making it if need be; what cannot be of this blob, or may not have reached the disk
    /// before the machine went down, is cut off.
    pub(super) fn claim(folder: &Arc<Folder>, digest: &Digest, size: u64) -> io::Result<Option<Self>> {
        let path = folder.path(digest);
        for _ in 0..LOOKS {
            let file = open(&path, Missing::IsMade)?;
            let about = file.metadata()?;
            let (access, written) = match lock(&file, &path)? {
                Lock::Gone => continue,
                Lock::Ours => (Access::Grow, trusted(&file, size)?),
                Lock::Theirs if (1..=size).contains(&about.len()) => (Access::Borrow, about.len()),
                Lock::Theirs => return Ok(None),
            };
            let state = State {
                access,
                written,
                writing: None,
                pending: Vec::new(),
                pending_bytes: 0,
                flushing: None,
                is_flush_due: written >= STEP,
            };
            return Ok(Some(Self { folder: Arc::clone(folder), path, file: Arc::new(file), state: Mutex::new(state) }));
        }
        Ok(None)
    }

    /// What is held from byte `from` on; none if that is nothing.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if what was taken cannot be written.
    pub(in crate::store) async fn read(&self, from: u64) -> Result<Option<ByteStream>> {
        let mut state = self.state.lock().await;
        self.write(&mut state).await?;
        state.settle().await?;
        let until = state.written;
        if state.access == Access::Nothing || from >= until {
            return Ok(None);
        }
        // A handle of its own: the writer's has its place.
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        let reader = blocking(move || {
            let reader = open(&path, Missing::Fails).ok();
            Ok(reader.filter(|reader| [reader, &file].iter().all(|file| is_same(file, &path).unwrap_or_default())))
        });
        Ok(reader.await?.map(|reader| stream(reader, from, until - from)))
    }

    /// Takes the blob's bytes from `at` on, unless they are not what is missing next.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if bytes taken before cannot be written.
    pub(in crate::store) async fn append(&self, at: u64, piece: &Bytes) -> Result<()> {
        let mut state = self.state.lock().await;
        let more = piece.len() as u64;
        if state.pending_bytes + more > BATCH {
            self.write(&mut state).await?;
        }
        if state.access == Access::Grow && at == state.length() {
            state.pending.push(piece.clone());
            state.pending_bytes += more;
        }
        Ok(())
    }

    /// Writes what is left: the blob is complete, and however long its sink takes over it, nothing has to come again.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if bytes taken before cannot be written.
    pub(in crate::store) async fn complete(&self) -> Result<()> {
        self.write(&mut *self.state.lock().await).await
    }

    /// Forgets everything from byte `at` on: it could not be read, or turned out wrong.
    pub(in crate::store) async fn cut(&self, at: u64) {
        let mut state = self.state.lock().await;
        // Whether it went well makes no difference to what goes.
        let _ = state.settle().await;
        (state.pending, state.pending_bytes) = (Vec::new(), 0);
        let file = Arc::clone(&self.file);
        let is_cut = match state.access {
            Access::Grow | Access::Keep => blocking(move || Ok(file.set_len(at).is_ok())).await.unwrap_or_default(),
            Access::Borrow | Access::Nothing => false,
        };
        if is_cut {
            state.written = at.min(state.written);
        } else {
            state.access = Access::Nothing;
        }
    }

    /// Removes the file: its blob has arrived.
    pub(in crate::store) async fn landed(&self) {
        let mut state = self.state.lock().await;
        let _ = state.settle().await;
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        if matches!(std::mem::replace(&mut state.access, Access::Nothing), Access::Grow | Access::Keep) {
            // Nothing is lost if it stays: the bounds remove it later.
            let _ =
                blocking(move || Ok(is_same(&file, &path).is_ok_and(|is| is && fs::remove_file(&path).is_ok()))).await;
        }
    }

    /// Begins to write what is pending, once what was before it is in the file.
    async fn write(&self, state: &mut State) -> Result<()> {
        if state.pending.is_empty() {
            return Ok(());
        }
        state.settle().await?;
        if state.access != Access::Grow {
            (state.pending, state.pending_bytes) = (Vec::new(), 0);
            return Ok(());
        }
        if std::mem::take(&mut state.is_flush_due) {
            let (file, folder, path) = (Arc::clone(&self.file), Arc::clone(&self.folder), self.path.clone());
            state.flushing = Some(spawn_blocking(move || {
                file.sync_data().map_err(|why| folder.refused(why))?;
                // And its name; where a folder cannot be synced, the file system's own journal has to do.
                let _ = sync_parent(&path);
                Ok(())
            }));
        }
        let (at, bytes) = (state.written, state.pending_bytes);
        if at / STEP < (at + bytes) / STEP {
            // Nothing is written past a step's end before the step before it is on disk: what `flushed` relies on.
            state.flushed().await?;
            state.is_flush_due = true;
        }
        let batch = std::mem::take(&mut state.pending);
        state.pending_bytes = 0;
        let (file, folder) = (Arc::clone(&self.file), Arc::clone(&self.folder));
        state.writing = Some((spawn_blocking(move || put(&folder, &file, at, &batch, bytes)), bytes));
        Ok(())
    }
}

impl State {
    /// Where the next byte goes.
    fn length(&self) -> u64 {
        self.written + self.writing.as_ref().map_or(0, |(_, bytes)| *bytes) + self.pending_bytes
    }

    /// Waits for what is being written. Given up while it waits, it has lost nothing.
    async fn settle(&mut self) -> Result<()> {
        let Some((job, bytes)) = &mut self.writing else { return Ok(()) };
        let (done, bytes) = (joined(job).await, *bytes);
        self.settled(done, bytes)
    }

    fn settled(&mut self, done: Result<Wrote>, bytes: u64) -> Result<()> {
        self.writing = None;
        match done {
            Ok(Wrote::All) => self.written += bytes,
            // What is there stays right; the rest goes from socket to socket.
            Ok(Wrote::NoRoom) | Err(_) => self.access = Access::Keep,
        }
        done.map(drop)
    }

    async fn flushed(&mut self) -> Result<()> {
        let Some(job) = &mut self.flushing else { return Ok(()) };
        let done = joined(job).await;
        self.flushing = None;
        done
    }
}

impl Drop for Entry {
    /// Writes what is pending, so that a run that is stopped loses nothing, and leaves no empty file.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some((job, bytes)) = &mut state.writing {
            let (done, bytes) = (joined(job).now_or_never(), *bytes);
            // What is not written yet must not be skipped over: the file would have a hole.
            let Some(done) = done else { return };
            if state.settled(done, bytes).is_err() {
                return;
            }
        }
        if state.access == Access::Grow && !state.pending.is_empty() {
            // At most 512 KiB into the kernel's memory, on the way out: another thread might not get to it any more.
            let _ = put(&self.folder, &self.file, state.written, &state.pending, state.pending_bytes);
        }
        let is_ours = matches!(state.access, Access::Grow | Access::Keep);
        if is_ours && self.file.metadata().is_ok_and(|about| about.len() == 0) {
            let _ = is_same(&self.file, &self.path).is_ok_and(|is| is && fs::remove_file(&self.path).is_ok());
        }
    }
}

fn put(folder: &Folder, file: &File, at: u64, batch: &[Bytes], bytes: u64) -> Result<Wrote> {
    if !folder.take(bytes) {
        tracing::debug!(spool = %folder.place().display(), "the spool is full: the rest of a blob goes without it");
        return Ok(Wrote::NoRoom);
    }
    let mut writer = file;
    let written = writer.seek(SeekFrom::Start(at)).and_then(|_| write_all(file, batch));
    written.map(|()| Wrote::All).map_err(|why| folder.refused(why))
}

/// How much of a file that is ours may be gone on with; the rest is cut off.
fn trusted(file: &File, size: u64) -> io::Result<u64> {
    let about = file.metadata()?;
    let length = about.len();
    let trusted = match length {
        // Not this blob's.
        _ if length > size => 0,
        _ if has_restarted_since(about.modified()?) => flushed(length),
        _ => length,
    };
    if trusted < length {
        file.set_len(trusted)?;
    }
    // So that it counts as used, for the bounds.
    file.set_modified(SystemTime::now())?;
    Ok(trusted)
}

/// How much of `length` bytes has surely been flushed: all steps but the last two, of which one may be half written and
/// one half flushed.
fn flushed(length: u64) -> u64 {
    (length / STEP).saturating_sub(1) * STEP
}

/// Whether this machine has started since `then`, as far as its clock can be believed: whatever that misses, the digest
/// finds.
fn has_restarted_since(then: SystemTime) -> bool {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
    let up = up.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    up.and_then(|up| SystemTime::now().checked_sub(up)).is_some_and(|started| then < started)
}
