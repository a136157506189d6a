//! Reads files off the async threads: as streams, whole within a bound, or into a hash.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use futures_util::stream;
use tokio::task::spawn_blocking;

use super::{Place, failed, joined};
use crate::error::{Error, Kind, Result};
use crate::oci::Hasher;
use crate::stream::ByteStream;

/// Bytes per read. Larger pieces save no measurable time, and each open download holds two pieces.
const PIECE: u64 = 256 << 10;

/// Streams `length` bytes of `file` from offset `from`. Reads the next piece while the caller handles the current one.
pub(crate) fn stream(file: File, from: u64, length: u64) -> ByteStream {
    stream_in(PIECE, file, from, length)
}

/// Does the same in pieces of at most `most` bytes.
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

type FileRest = Option<(File, u64)>;

fn piece(file: File, left: u64, most: u64) -> Result<(Bytes, FileRest)> {
    let want = left.min(most);
    // `read_to_end` fills spare capacity without zeroing it first, and reads at most what `take` allows.
    let mut bytes = Vec::with_capacity(usize::try_from(want).unwrap_or_default());
    (&file).take(want).read_to_end(&mut bytes).map_err(|e| Error::new(Kind::Local, "read blob").because(e))?;
    if (bytes.len() as u64) < want {
        return Err(Error::new(Kind::Corrupt, "read blob").because("the file became shorter while it was read"));
    }
    let left = left - want;
    Ok((bytes.into(), (left > 0).then_some((file, left))))
}

/// Feeds all of `file` to `hasher`.
pub(crate) fn hash(file: &File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    // Small, because many hashes may run at once.
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

/// Reads a plain file of at most `limit` bytes.
pub(crate) fn read_bounded(place: &Place, limit: u64) -> Result<Vec<u8>> {
    place.read(limit).map_err(|why| match why.kind() {
        io::ErrorKind::FileTooLarge => {
            Error::new(Kind::Limit, "read").on(place.path().display()).because(why.to_string())
        }
        _ => failed("read", &place.path(), why),
    })
}
