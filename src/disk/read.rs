//! Files that an operator names: keys, certificates, credentials.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Largest file that is read, in bytes: a system's CA bundle has a quarter of a million.
const MAX_BYTES: u64 = 4 << 20;

/// Most bytes of a file in memory at a time, where its length has no limit.
const PIECE: usize = 256 << 10;

/// Reads a file, which may be a pipe, but at most 4 MiB of it: `/dev/zero`, or an image given by mistake, is larger
/// than the memory of this machine.
///
/// # Errors
///
/// Fails if the file cannot be opened or read; with [`ErrorKind::FileTooLarge`] if it is larger.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Opens a file that an operator names: a plain file, or a pipe.
///
/// # Errors
///
/// Fails if the file cannot be opened; with [`ErrorKind::IsADirectory`] if it is a folder.
pub(crate) fn open(path: &Path) -> Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// Reads a file to its end, of any length, and hands it to `take` piece by piece.
///
/// # Errors
///
/// Fails if the file cannot be read.
pub(crate) fn read_through(mut file: File, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length]),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::fs::write(&path, "small").unwrap();
        assert_eq!(read(&path).unwrap(), b"small");
    }

    #[test]
    fn a_long_file_passes_in_pieces_and_a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let length = (5 << 20) + 1;
        File::create(&path).unwrap().set_len(length).unwrap();
        let (mut total, mut longest) = (0, 0);
        read_through(open(&path).unwrap(), &mut |piece| {
            total += piece.len() as u64;
            longest = longest.max(piece.len());
        })
        .unwrap();
        assert_eq!((total, longest), (length, PIECE));
        assert_eq!(open(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
