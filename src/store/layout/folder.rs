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

    /// Changes the index and writes it, alone among processes. Alone in this one is whoever holds `writing`.
    pub(super) fn change(&self, change: impl FnOnce(&mut Index, &Path) -> Result<bool>) -> Result<bool> {
        self.create()?;
        let path = self.path.join(VERSION_FILE);
        let lock = File::open(&path).map_err(|e| failed("open", &path, e))?;
        // Some network and FAT file systems know no locks; there one process at a time has to do.
        match lock.lock() {
            Err(error) if error.kind() != std::io::ErrorKind::Unsupported => return Err(failed("lock", &path, error)),
            _ => {}
        }
        // Readers go on with what was until the new index is on disk.
        let mut next = self.read(Index::clone)?;
        let is_changed = change(&mut next, &self.path)?;
        if is_changed {
            next.save(&self.path)?;
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(next);
        }
        Ok(is_changed)
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
