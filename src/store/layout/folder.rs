//! The folder of a layout with its index in memory: reading it, changing it, making it. All of it blocks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::file::{self, failed};
use super::index::{self, Index};
use crate::error::Result;
use crate::oci::Digest;

/// The file that makes a folder an image layout, and that writers of several processes lock.
pub(super) const VERSION_FILE: &str = "oci-layout";
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Whether an index was changed and has to be written, and what is to be told about it.
#[derive(Debug)]
pub(super) enum Changed<T> {
    Yes(T),
    No(T),
}

impl Changed<bool> {
    /// Changed, if that is what happened.
    pub(super) fn so(is_changed: bool) -> Self {
        if is_changed { Self::Yes(true) } else { Self::No(false) }
    }
}

/// How the lock on a layout is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// By one: who changes `index.json`, and who removes garbage.
    Alone,
    /// By all who add or vouch for blobs: they may do so together, but not while garbage is removed.
    Shared,
}

/// One folder, as all clones of a layout share it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) label: String,
    /// None until it is first asked for.
    index: RwLock<Option<Index>>,
    /// Held by the one writer of this process.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        let label = format!("oci:{}", path.display());
        Self { path, label, index: RwLock::default(), writing: Arc::default() }
    }

    /// Looks into the index, read anew if another process wrote it.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> Result<T> {
        {
            let held = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = held.as_ref().filter(|index| !index.is_stale(&self.path)) {
                return Ok(look(index));
            }
        }
        let mut held = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = self.fresh(&mut held)?;
        Ok(look(index))
    }

    fn fresh<'a>(&self, held: &'a mut Option<Index>) -> Result<&'a mut Index> {
        let index = match held.take() {
            Some(index) if !index.is_stale(&self.path) => index,
            _ => Index::load(&self.path)?,
        };
        Ok(held.insert(index))
    }

    /// Waits for the lock that processes share. None where the file system knows no locks, as some network and FAT file
    /// systems do; there one process at a time has to do.
    pub(super) fn lock(&self, how: Hold) -> Result<Option<File>> {
        let path = self.path.join(VERSION_FILE);
        let file = File::open(&path).map_err(|e| failed("open", &path, e))?;
        let locked = match how {
            Hold::Alone => file.lock(),
            Hold::Shared => file.lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(failed("lock", &path, error)),
        }
    }

    /// Changes the index and writes it, alone among processes. Alone in this one is whoever holds `writing`.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index, &Path) -> Result<Changed<T>>) -> Result<T> {
        self.create()?;
        let _lock = self.lock(Hold::Alone)?;
        self.change_locked(change)
    }

    /// The same for whoever holds the lock already.
    pub(super) fn change_locked<T>(&self, change: impl FnOnce(&mut Index, &Path) -> Result<Changed<T>>) -> Result<T> {
        // Readers go on with what was until the new index is on disk.
        let mut next = self.read(Index::clone)?;
        match change(&mut next, &self.path)? {
            Changed::No(told) => Ok(told),
            Changed::Yes(told) => {
                next.save(&self.path)?;
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
                Ok(told)
            }
        }
    }

    /// Makes the folder an image layout if it is not one, and gives the place of a blob in it.
    pub(super) fn ensure(&self, digest: &Digest) -> Result<PathBuf> {
        self.create()?;
        let path = index::blob(&self.path, digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
        }
        Ok(path)
    }

    fn create(&self) -> Result<()> {
        let path = self.path.join(VERSION_FILE);
        if path.is_file() {
            return Ok(());
        }
        let blobs = self.path.join("blobs");
        fs::create_dir_all(&blobs).map_err(|e| failed("create", &blobs, e))?;
        // Last what makes it a layout. A second writer may be doing the same: what is there already stays.
        file::publish_new(&self.path, &index::path(&self.path), &Index::empty().text()?)?;
        file::publish_new(&self.path, &path, VERSION)
    }
}
