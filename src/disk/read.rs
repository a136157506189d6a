//! Files that an operator names: keys, certificates, credentials.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Largest file that is read, in bytes: a system's CA bundle has a quarter of a million.
const MAX_BYTES: u64 = 4 << 20;

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
}
