//! Blobs whose files do not have the length that an image states.
//!
//! The word of an image takes no blob away: a client can state any length for a blob of others, for example in an image
//! that it sends as a blob and lists in an index. Such a file is hashed, and its hash decides. A right hash proves the
//! length of that content for every file that is to hold it, so no file of it is hashed again.

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

/// Most lengths, and most damaged files, that are remembered.
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

/// The results of the hashes.
#[derive(Debug, Default)]
struct HashResults {
    /// The lengths of contents whose hash was right.
    proven: HashMap<Digest, u64>,
    damaged: HashMap<HashedFile, ()>,
}

impl HashResults {
    /// Whether the file holds its blob, if that is known.
    fn of(&self, file: &HashedFile) -> Option<bool> {
        let is_right = self.proven.get(&file.digest) == Some(&file.length);
        (is_right || self.damaged.contains_key(file)).then_some(is_right)
    }

    fn add(&mut self, file: HashedFile, is_right: bool) {
        if is_right {
            remember(&mut self.proven, file.digest, file.length);
        } else {
            remember(&mut self.damaged, file, ());
        }
    }
}

/// Adds an entry, in place of any other one if there are as many as there may be.
fn remember<K: Clone + Eq + std::hash::Hash, V>(known: &mut HashMap<K, V>, key: K, value: V) {
    if known.len() >= MAX_REMEMBERED
        && let Some(other) = known.keys().next().cloned()
    {
        known.remove(&other);
    }
    known.insert(key, value);
}

/// Whether each doubtful file holds its blob after all.
#[derive(Debug, Default)]
pub(super) struct BlobDoubts {
    results: Arc<Mutex<HashResults>>,
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
        let known = || crate::sync::lock(&self.results).of(&hashed);
        if let Some(is_right) = known() {
            return Ok(is_right.then_some(file));
        }
        let taken = timeout(WAIT, Arc::clone(&self.turn).lock_owned()).await;
        let turn = taken.map_err(|_| Error::new(Kind::Unavailable, "hash").on(digest).because(Busy))?;
        if let Some(is_right) = known() {
            return Ok(is_right.then_some(file));
        }
        let (results, place) = (Arc::clone(&self.results), layout.blob(&digest));
        // It runs on when its client has gone, so that the next one need not wait as long.
        let work = move || {
            let _turn = turn;
            let has_other_length = crate::sync::lock(&results).proven.contains_key(&digest);
            let is_right = !has_other_length && {
                let mut hasher = Hasher::new(digest.algorithm());
                disk::hash(&file, &mut hasher).map_err(failed)?;
                hasher.finish() == digest
            };
            if !is_right {
                let (file, length) = (place.path(), hashed.length);
                tracing::warn!(file = %file.display(), length, ?stated, "damaged: not served; run autonomy registry check");
            }
            crate::sync::lock(&results).add(hashed, is_right);
            Ok(is_right.then_some(file))
        };
        blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_hash_proves_the_length_for_every_file_and_no_more_than_some_results_are_kept() {
        let file = |content: u32, number: u64, length: u64| HashedFile {
            digest: Digest::sha256(&content.to_le_bytes()),
            number: (1, number),
            length,
            modified: None,
        };
        let mut results = HashResults::default();
        assert_eq!(results.of(&file(0, 1, 10)), None);
        results.add(file(0, 1, 10), true);
        let newer = HashedFile { modified: Some(SystemTime::now()), ..file(0, 2, 10) };
        assert_eq!([results.of(&file(0, 1, 10)), results.of(&newer)], [Some(true); 2]);
        assert_eq!(results.of(&file(0, 2, 9)), None, "told once that it is damaged");
        results.add(file(0, 2, 9), false);
        assert_eq!([results.of(&file(0, 2, 9)), results.of(&file(0, 3, 9))], [Some(false), None]);
        for content in 1..2000 {
            results.add(file(content, 1, 1), content % 2 == 0);
            assert!(results.of(&file(content, 1, 1)).is_some());
        }
        assert!(results.proven.len() <= MAX_REMEMBERED && results.damaged.len() <= MAX_REMEMBERED);
    }
}
