//! The read side of a server: the content that it answers from. A data folder is one; any other place of content can be
//! one, and a server over it only reads.

use std::fmt;
use std::fs::File;
use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream;

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, RepositoryPath};
use crate::store::{ByteStream, PagedStore};

/// The repositories of a registry, for reading.
#[async_trait]
pub trait RegistryReader: fmt::Debug + Send + Sync {
    /// Returns the paths of all repositories in order.
    ///
    /// # Errors
    ///
    /// Any error of the place that holds them.
    async fn repositories(&self) -> Result<Vec<RepositoryPath>>;

    /// Returns a repository. None if it does not exist.
    ///
    /// # Errors
    ///
    /// Any error of the place that holds it.
    async fn open(&self, path: &RepositoryPath) -> Result<Option<Arc<dyn PagedStore>>>;

    /// Opens content of a repository, blob or manifest. None if the repository does not hold it or does not exist.
    ///
    /// Most requests ask for a blob: one question answers them, and does not ask for the repository first.
    ///
    /// # Errors
    ///
    /// Any error of the place that holds it.
    async fn open_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<Option<Box<dyn BlobReader>>>;
}

/// Content that is open for reading.
pub trait BlobReader: Send + Sync {
    /// Returns the size of the content.
    fn size(&self) -> u64;

    /// Returns `length` bytes from offset `from`, in pieces of at most `piece` bytes. Both ends are inside the content.
    /// One stream is read to its end before the next one begins.
    fn stream(&self, from: u64, length: u64, piece: u64) -> ByteStream;
}

/// A blob in a file.
pub(super) struct BlobFile {
    pub(super) file: File,
    pub(super) size: u64,
}

impl BlobReader for BlobFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(&self, from: u64, length: u64, piece: u64) -> ByteStream {
        match self.file.try_clone() {
            Ok(file) => disk::stream_in(piece, file, from, length),
            Err(why) => Box::pin(stream::once(ready(Err(Error::new(Kind::Local, "open a blob again").because(why))))),
        }
    }
}
