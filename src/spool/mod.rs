//! The spool: a folder that keeps the beginnings of downloads, so that a killed run loses only the bytes that were on
//! their way.
//!
//! One file per blob, `sha256-<hex>.partial`, holds the blob's first bytes and nothing else: there is no header to
//! parse and nothing to trust. A pass that continues a file hashes it from its first byte; if the content is wrong, the
//! file is dropped and fetched again. Several processes may share the folder: a file belongs to the process that holds
//! the lock on it (the kernel releases the lock with the process, however that ends); other processes read the file and
//! write nothing.
//!
//! A body of the stores reads through the spool, which knows no stores. Other files in the folder are not ours: `disk`
//! never follows, changes or removes them.

mod entry;
mod folder;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::entry::{Next, SpoolEntry};
use self::folder::SpoolFolder;
use crate::disk::blocking;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest};

/// A folder of unfinished downloads. Clones share it.
#[derive(Clone)]
pub struct Spool {
    folder: Arc<SpoolFolder>,
    /// The digests that the folder held when it was opened: an earlier run can have left nothing else.
    left: Arc<HashSet<Digest>>,
}

impl Spool {
    /// Smallest blob that goes through the spool, in bytes: 1 MiB. A kill may cost that much of any stream, so a file
    /// for less would save nothing that is promised, and takes longer to create, lock and remove than a fast link to
    /// refetch it.
    pub const SMALLEST: u64 = 1 << 20;

    /// Opens the spool in `folder`, which is created (for this user alone) if it is missing, and tests that it takes
    /// files and locks. Removes files that were unused for 30 days, and beyond `max_bytes` the longest unused ones.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `folder` cannot be created or used; [`Local`](Kind::Local) if there is no room.
    pub async fn open(folder: &Path, max_bytes: u64) -> Result<Self> {
        let folder = Arc::new(SpoolFolder::new(folder, max_bytes));
        blocking(move || {
            let left = folder.prepare().map_err(|why| unusable(&folder, why))?;
            Ok(Self { folder, left: Arc::new(left) })
        })
        .await
    }

    /// Takes the file of `node` for as long as the entry lives. None if the node must do without: something else has
    /// that name, or another process works on a file from which nothing can be read yet.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if there is no room on the disk.
    pub(crate) async fn claim(&self, node: &Descriptor) -> Result<Option<SpoolEntry>> {
        let (folder, digest, size) = (Arc::clone(&self.folder), node.digest, node.size);
        blocking(move || match SpoolEntry::claim(&folder, &digest, size) {
            Ok(entry) => Ok(entry),
            Err(why) if folder::is_full(&why) => Err(folder.refused(why)),
            Err(why) => {
                let path = folder.file(&digest).path();
                tracing::warn!(file = %path.display(), "going without the spool for one blob: {why}");
                Ok(None)
            }
        })
        .await
    }

    /// Removes the file that an earlier run left for `digest`, unless it is in use.
    pub(crate) async fn forget(&self, digest: &Digest) {
        if !self.left.contains(digest) {
            return;
        }
        let (folder, digest) = (Arc::clone(&self.folder), *digest);
        // No caller waits for it, and otherwise the bounds remove it.
        let _ = blocking(move || Ok(folder.evict(&folder.file(&digest)).unwrap_or_default())).await;
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spool").field(&self.folder.place()).finish()
    }
}

fn unusable(folder: &SpoolFolder, why: io::Error) -> Error {
    if folder::is_full(&why) {
        return folder.refused(why);
    }
    Error::new(Kind::Usage, "use the folder of --spool")
        .on(folder.place().display())
        .because(why)
        .hint("name a folder of this user's own on a local disk, or go without --spool")
}
