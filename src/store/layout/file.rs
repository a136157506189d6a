//! Files, off the async threads: streams out of them, streams into them, and appearing whole or not at all.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::error::{Error, Kind, Result};
use crate::oci::{Hasher, Manifest};
use crate::store::{ByteStream, MAX_MANIFEST_BYTES};

/// Bytes per read. From here on larger pieces save no measurable time, and each open download holds two.
const PIECE: u64 = 256 << 10;

/// Bytes gathered before they are handed to the disk and the hash together.
const BATCH: usize = 512 << 10;

/// How temporary files are called; nothing that is content starts like this.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// An I/O failure as ours: what was done to which file.
pub(crate) fn failed(op: &str, path: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Local };
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    let told = Error::new(kind, op).on(path.display()).because(error);
    if is_full { told.hint("free some space on that file system, then run it again") } else { told }
}

/// Runs file work where waiting for a disk holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(spawn_blocking(work)).await
}

/// What file work that runs elsewhere came to.
pub(crate) async fn joined<T>(job: impl Future<Output = Result<Result<T>, JoinError>>) -> Result<T> {
    job.await.unwrap_or_else(|why| Err(Error::new(Kind::Local, "run file work").because(why)))
}

/// `length` bytes of `file` from offset `from`. While one piece is on its way the next is being read.
pub(crate) fn stream(mut file: File, from: u64, length: u64) -> ByteStream {
    if length == 0 {
        return Box::pin(stream::empty());
    }
    let first = spawn_blocking(move || {
        file.seek(SeekFrom::Start(from)).map_err(|e| Error::new(Kind::Local, "seek in blob").because(e))?;
        piece(file, length)
    });
    Box::pin(stream::try_unfold(Some(first), |ahead| async move {
        let Some(job) = ahead else { return Ok(None) };
        let (bytes, rest) = joined(job).await?;
        let ahead = rest.map(|(file, left)| spawn_blocking(move || piece(file, left)));
        Ok(Some((bytes, ahead)))
    }))
}

type Rest = Option<(File, u64)>;

fn piece(file: File, left: u64) -> Result<(Bytes, Rest)> {
    let want = left.min(PIECE);
    // `read_to_end` fills spare capacity without zeroing it first, and asks for no more than `take` leaves it.
    let mut bytes = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
    (&file).take(want).read_to_end(&mut bytes).map_err(|e| Error::new(Kind::Local, "read blob").because(e))?;
    if (bytes.len() as u64) < want {
        return Err(Error::new(Kind::Corrupt, "read blob").because("the file became shorter while it was read"));
    }
    let left = left - want;
    Ok((bytes.into(), (left > 0).then_some((file, left))))
}

/// Takes pieces into a file, and into a hash on the way, on a blocking thread while the next pieces arrive.
///
/// Holds a thread only while there is something to write: a slow peer costs memory (twice [`BATCH`]), not a thread.
#[derive(Debug)]
pub(crate) struct Writer {
    target: Target,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

/// A file, and the hash of what went into it.
type Open = (File, Option<Hasher>);

#[derive(Debug)]
enum Target {
    Idle(Box<Open>),
    Busy(JoinHandle<Result<Open>>),
    Gone,
}

impl Writer {
    /// Writes where `file` stands, feeding `hasher` if there is one.
    pub(crate) fn new(file: File, hasher: Option<Hasher>) -> Self {
        Self { target: Target::Idle(Box::new((file, hasher))), pending: Vec::new(), pending_bytes: 0 }
    }

    /// Takes the next bytes. An error may be about bytes taken earlier.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes < BATCH {
            return Ok(());
        }
        let (file, hasher) = self.idle().await?;
        let batch = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.target = Target::Busy(spawn_blocking(move || write(file, hasher, &batch)));
        Ok(())
    }

    /// Writes what is left and gives back the file, and the hash of all that was pushed. Nothing is synced.
    pub(crate) async fn finish(mut self) -> Result<Open> {
        let (file, hasher) = self.idle().await?;
        let batch = std::mem::take(&mut self.pending);
        if batch.is_empty() {
            return Ok((file, hasher));
        }
        joined(spawn_blocking(move || write(file, hasher, &batch))).await
    }

    async fn idle(&mut self) -> Result<Open> {
        match std::mem::replace(&mut self.target, Target::Gone) {
            Target::Idle(open) => Ok(*open),
            Target::Busy(job) => joined(job).await,
            Target::Gone => Err(Error::new(Kind::Local, "write").because("an earlier write went wrong")),
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

/// Writes all pieces where `file` stands, in as few calls as may be.
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

/// Feeds all of `file` to `hasher`.
pub(crate) fn hash(file: &File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; PIECE as usize];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(total),
            n => hasher.update(&buffer[..n]),
        }
        total = reader.stream_position()?;
    }
}

/// A temporary file in `folder`, which is made if need be. Gone when dropped.
pub(crate) fn temporary(folder: &Path) -> Result<tempfile::NamedTempFile> {
    fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Content is as readable as the process's umask says, not for its owner alone: another user may serve the folder.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(|e| failed("create a file in", folder, e))
}

/// Makes a finished temporary file appear as `path`: synced, renamed, and the folder synced, so that after a power cut
/// it is there whole or not at all.
pub(crate) fn publish(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_data().map_err(|e| failed("sync", path, e))?;
    file.persist(path).map_err(|e| failed("rename", path, e.error))?;
    sync_parent(path)
}

/// Makes a small file appear as `path` unless there is one.
pub(crate) fn publish_new(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary(folder)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_data()).map_err(|e| failed("write", path, e))?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(failed("rename", path, error.error)),
        _ => sync_parent(path),
    }
}

/// Makes the entry of `path` in its folder last.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere the file system's own journal has to do.
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync", parent, e))?;
    }
    Ok(())
}

/// Gives `from` the second name `to`; copies where the file system knows no hard links (exFAT) or `to` is on another.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    let Some(folder) = to.parent() else { return Err(Error::new(Kind::Local, "link").on(to.display())) };
    fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
    match fs::hard_link(from, to) {
        Ok(()) => sync_parent(to),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(failed("link", from, error)),
        Err(_) => {
            let mut source = File::open(from).map_err(|e| failed("open", from, e))?;
            let mut copy = temporary(folder)?;
            io::copy(&mut source, copy.as_file_mut()).map_err(|e| failed("copy", to, e))?;
            publish(copy, to)
        }
    }
}

/// Makes `to` the same file as `from`, whatever it was: the new name takes the place of the old one in one step.
pub(crate) fn relink(from: &Path, to: &Path) -> Result<()> {
    let Some(folder) = to.parent() else { return Err(Error::new(Kind::Local, "link").on(to.display())) };
    let place = tempfile::Builder::new().prefix(TEMPORARY).make_in(folder, |path| fs::hard_link(from, path));
    match place {
        Ok(link) => {
            link.into_temp_path().persist(to).map_err(|e| failed("rename", to, e.error))?;
            sync_parent(to)
        }
        // Without hard links, or on another file system.
        Err(_) => {
            let mut source = File::open(from).map_err(|e| failed("open", from, e))?;
            let mut copy = temporary(folder)?;
            io::copy(&mut source, copy.as_file_mut()).map_err(|e| failed("copy", to, e))?;
            publish(copy, to)
        }
    }
}

/// A manifest's bytes, if the file is there and no larger than a manifest may be.
pub(crate) fn small(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| failed("open", path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        let why = format!("more than {MAX_MANIFEST_BYTES} bytes");
        return Err(Error::new(Kind::Limit, "read").on(path.display()).because(why));
    }
    Ok(bytes)
}

/// Reads `bytes` as the manifest that `node` says they are.
pub(crate) fn parse(bytes: &[u8], media_type: &crate::oci::MediaType) -> Result<Manifest> {
    Manifest::parse(bytes, media_type).map_err(|why| Error::new(Kind::Invalid, "read manifest").because(why))
}
