//! Files, off the async threads: streams out of them and streams into them.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::disk::Place;
pub(crate) use crate::disk::{blocking, failed, joined};
use crate::error::{Error, Kind, Result};
use crate::oci::{Hasher, Manifest};
use crate::store::{ByteStream, MAX_MANIFEST_BYTES};

/// Bytes per read. From here on larger pieces save no measurable time, and each open download holds two.
const PIECE: u64 = 256 << 10;

/// Bytes gathered before they are handed to the disk and the hash together.
const BATCH: usize = 512 << 10;

/// `length` bytes of `file` from offset `from`. While one piece is on its way the next is being read.
pub(crate) fn stream(file: File, from: u64, length: u64) -> ByteStream {
    stream_in(PIECE, file, from, length)
}

/// The same in pieces of so many bytes at most.
pub(crate) fn stream_in(most: u64, mut file: File, from: u64, length: u64) -> ByteStream {
    if length == 0 {
        return Box::pin(stream::empty());
    }
    let first = spawn_blocking(move || {
        file.seek(SeekFrom::Start(from)).map_err(|e| Error::new(Kind::Local, "seek in blob").because(e))?;
        piece(file, length, most)
    });
    Box::pin(stream::try_unfold(Some(first), move |ahead| async move {
        let Some(job) = ahead else { return Ok(None) };
        let (bytes, rest) = joined(job).await?;
        let ahead = rest.map(|(file, left)| spawn_blocking(move || piece(file, left, most)));
        Ok(Some((bytes, ahead)))
    }))
}

type Rest = Option<(File, u64)>;

fn piece(file: File, left: u64, most: u64) -> Result<(Bytes, Rest)> {
    let want = left.min(most);
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
/// Holds a thread only while there is something to write: a slow peer costs memory (twice a batch), not a thread. Small pieces
/// are copied together: each may be the last that holds a buffer of a connection, and a body may come a byte at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    target: Target,
    batch: usize,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Small pieces that follow those in `pending`.
    tail: Vec<u8>,
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
        Self::in_batches(BATCH, file, hasher)
    }

    /// The same with so many bytes gathered before they are handed on.
    pub(crate) fn in_batches(batch: usize, file: File, hasher: Option<Hasher>) -> Self {
        let target = Target::Idle(Box::new((file, hasher)));
        Self { target, batch, pending: Vec::new(), pending_bytes: 0, tail: Vec::new() }
    }

    /// Takes the next bytes. An error may be about bytes taken earlier.
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
        self.target = Target::Busy(spawn_blocking(move || write(file, hasher, &batch)));
        Ok(())
    }

    /// Writes what is left and gives back the file, and the hash of all that was pushed. Nothing is synced.
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
    // Many may be at it at once.
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(total),
            n => hasher.update(&buffer[..n]),
        }
        total = reader.stream_position()?;
    }
}

/// A manifest's bytes, if the file is there and no larger than a manifest may be.
pub(crate) fn small(place: &Place) -> Result<Vec<u8>> {
    bounded(place, MAX_MANIFEST_BYTES)
}

/// Reads a plain file of at most `limit` bytes.
pub(crate) fn bounded(place: &Place, limit: u64) -> Result<Vec<u8>> {
    place.read(limit).map_err(|why| match why.kind() {
        io::ErrorKind::FileTooLarge => {
            Error::new(Kind::Limit, "read").on(place.path().display()).because(why.to_string())
        }
        _ => failed("read", &place.path(), why),
    })
}

/// Reads `bytes` as the manifest that `node` says they are.
pub(crate) fn parse(bytes: &[u8], media_type: &crate::oci::MediaType) -> Result<Manifest> {
    Manifest::parse(bytes, media_type).map_err(|why| Error::new(Kind::Invalid, "read manifest").because(why))
}
