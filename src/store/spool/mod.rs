//! The spool: a folder that keeps the beginnings of downloads, so that a run that was killed costs what was on its way
//! and no more.
//!
//! One file a blob, `sha256-<hex>.partial`, which holds the blob's first bytes and nothing else: there is no header to
//! parse and nothing to believe. Whoever goes on with a file hashes it from its first byte, and what then turns out wrong
//! is thrown away and fetched anew. Several processes may share the folder: a file belongs to whoever holds the lock on it
//! (the kernel lets go of it with the process, however that ends); others read what is there and write nothing.
//!
//! Stands beside [`Body`](super::Body), which is what reads through it, and knows no stores.
//! Whatever else is found in the folder is not ours: never followed, never changed, never removed (`disk`).

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

pub(super) use self::entry::{Next, SpoolEntry};
use self::folder::SpoolFolder;
use crate::disk::blocking;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest};

/// A folder of unfinished downloads. Clones are the same one.
#[derive(Clone)]
pub struct Spool {
    folder: Arc<SpoolFolder>,
    /// What was there when it was opened: nothing else can be left of an earlier run.
    left: Arc<HashSet<Digest>>,
}

impl Spool {
    /// Smallest blob that goes through the spool, in bytes: 1 MiB. A kill may cost that much of any stream, so a file for
    /// less would save nothing that is promised, and takes longer to make, lock and remove than a fast link to refetch it.
    pub const SMALLEST: u64 = 1 << 20;

    /// Opens the spool in `folder`, which is made (for this user alone) if need be, after trying that it takes files and
    /// locks. What nobody has used for 30 days goes, and beyond `max_bytes` what was unused the longest.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if `folder` cannot be made or used; [`Local`](Kind::Local) if there is no room.
    pub async fn open(folder: &Path, max_bytes: u64) -> Result<Self> {
        let folder = Arc::new(SpoolFolder::new(folder, max_bytes));
        blocking(move || {
            let left = folder.prepare().map_err(|why| unusable(&folder, why))?;
            Ok(Self { folder, left: Arc::new(left) })
        })
        .await
    }

    /// Takes the file of `node` for as long as the entry lives. None if it has to go without: something else lies there,
    /// or another process is at work on a file of which nothing can be read yet.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if there is no room on the disk.
    pub(super) async fn claim(&self, node: &Descriptor) -> Result<Option<SpoolEntry>> {
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

    /// Removes what an earlier run has left of `digest`, unless somebody is using it.
    pub(super) async fn forget(&self, digest: &Digest) {
        if !self.left.contains(digest) {
            return;
        }
        let (folder, digest) = (Arc::clone(&self.folder), *digest);
        // Nobody waits for it, and the bounds remove it otherwise.
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
