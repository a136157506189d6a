//! The space on a file system.

use std::fs::File;
use std::path::Path;

/// The space on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    /// The bytes that this user may still write.
    pub(crate) free: u64,
    pub(crate) size: u64,
}

/// Returns the space on the file system of `folder`; None if this system does not tell.
pub(crate) fn space_of(folder: &Path) -> Option<DiskSpace> {
    File::open(folder).ok().and_then(|folder| space_at(&folder))
}

/// Returns the space on the file system of an open file or folder.
pub(crate) fn space_at(file: &File) -> Option<DiskSpace> {
    #[cfg(unix)]
    {
        let told = rustix::fs::fstatvfs(file).ok()?;
        let bytes = |blocks: u64| blocks.checked_mul(told.f_frsize);
        Some(DiskSpace { free: bytes(told.f_bavail)?, size: bytes(told.f_blocks)? })
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}
