//! Blobs whose files do not have the length that an image states.
//!
//! The word of an image takes no blob away: a client can state any length for a blob of others, for example in an image
//! that it sends as a blob and lists in an index. Such a file is hashed once, and its hash decides.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use crate::disk::{self, blocking};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Hasher};
use crate::store::Layout;
use crate::store::layout::StatedLength;
use crate::store::layout::index_memory::Busy;

/// Most results that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Longest wait while other files are hashed.
const WAIT: Duration = Duration::from_secs(30);

/// A file that is to hold a blob, as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HashedFile {
    digest: Digest,
    number: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl HashedFile {
    fn new(digest: Digest, about: &Metadata) -> Self {
        Self { digest, number: disk::number(about), length: about.len(), modified: about.modified().ok() }
    }
}

/// Whether each doubtful file holds its blob after all.
#[derive(Debug, Default)]
pub(super) struct BlobDoubts {
    known: Arc<Mutex<HashMap<HashedFile, bool>>>,
    /// One file at a time is hashed.
    turn: Arc<AsyncMutex<()>>,
}

impl BlobDoubts {
    /// Returns the file of a blob. None if it is damaged, as far as its length shows that.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](Kind::Unavailable), because of [`Busy`], if others are hashed for a while.
    pub(super) async fn sound(&self, layout: &Layout, digest: Digest, file: File) -> Result<Option<File>> {
        let failed = move |why| Error::new(Kind::Local, "read").on(digest).because(why);
        let about = file.metadata().map_err(failed)?;
        let stated = match layout.stated_length(digest).await {
            None => return Ok(Some(file)),
            Some(StatedLength::Bytes(length)) if length == about.len() => return Ok(Some(file)),
            Some(stated) => stated,
        };
        let hashed = HashedFile::new(digest, &about);
        let known = || crate::sync::lock(&self.known).get(&hashed).copied();
        if let Some(is_right) = known() {
            return Ok(is_right.then_some(file));
        }
        let taken = timeout(WAIT, Arc::clone(&self.turn).lock_owned()).await;
        let turn = taken.map_err(|_| Error::new(Kind::Unavailable, "hash").on(digest).because(Busy))?;
        if let Some(is_right) = known() {
            return Ok(is_right.then_some(file));
        }
        let (results, place) = (Arc::clone(&self.known), layout.blob(&digest));
        // It runs on when its client has gone, so that the next one need not wait as long.
        let work = move || {
            let _turn = turn;
            let mut hasher = Hasher::new(digest.algorithm());
            disk::hash(&file, &mut hasher).map_err(failed)?;
            let is_right = hasher.finish() == digest;
            if !is_right {
                let (file, length) = (place.path(), hashed.length);
                tracing::warn!(file = %file.display(), length, ?stated, "damaged: not served; run autonomy registry check");
            }
            let mut results = crate::sync::lock(&results);
            if results.len() >= MAX_REMEMBERED {
                results.clear();
            }
            results.insert(hashed, is_right);
            Ok(is_right.then_some(file))
        };
        blocking(work).await
    }
}
