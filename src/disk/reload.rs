//! Values read from files, and read again when the files change: a server runs on while certificates are renewed and
//! passwords are changed.
//!
//! Each use checks the files, which costs a system call or two: a change applies to the next connection or request, and
//! needs no signal. If a changed file cannot be read, the old value stays and the log gets an error, because files are
//! not always replaced in one step.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::disk::blocking;
use crate::error::Result;

/// Age from which a file's time stamp distinguishes it from a later version.
const SETTLED: Duration = Duration::from_millis(100);

type Read<T> = fn(&[PathBuf]) -> Result<T>;

/// The value read from some files.
#[derive(Debug)]
pub(crate) struct Reloaded<T> {
    paths: Vec<PathBuf>,
    read: Read<T>,
    held: Mutex<LoadedFile<T>>,
}

#[derive(Debug)]
struct LoadedFile<T> {
    stamps: Option<Vec<FileStamp>>,
    value: Arc<T>,
    /// Why the files as they are now are of no use; `value` is that of an earlier version.
    fault: Option<String>,
}

/// When files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reread {
    /// If they have changed.
    IfChanged,
    /// In any case.
    Now,
}

/// Time, length and inode number of a file; None if it does not exist.
type FileStamp = Option<(SystemTime, u64, u64)>;

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    ///
    /// Fails like `read`.
    pub(crate) fn open(paths: Vec<PathBuf>, read: Read<T>) -> Result<Self> {
        let stamps = stamps(&paths);
        let value = Arc::new(read(&paths)?);
        Ok(Self { paths, read, held: Mutex::new(LoadedFile { stamps, value, fault: None }) })
    }

    /// Returns the current value.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Arc<T>> {
        let this = Arc::clone(self);
        blocking(move || Ok(this.look(Reread::IfChanged).0)).await
    }

    /// Returns why the files as they are now are of no use; the value that they had before stays in force.
    pub(crate) async fn fault(self: &Arc<Self>, reread: Reread) -> Option<String> {
        let this = Arc::clone(self);
        blocking(move || Ok(this.look(reread).1)).await.unwrap_or_else(|why| Some(why.chain()))
    }

    fn look(&self, reread: Reread) -> (Arc<T>, Option<String>) {
        let stamps = stamps(&self.paths);
        let mut held = crate::sync::lock(&self.held);
        if reread == Reread::Now || stamps.is_none() || stamps != held.stamps {
            match (self.read)(&self.paths) {
                Ok(value) => (held.value, held.fault) = (Arc::new(value), None),
                Err(error) => {
                    tracing::error!(error = %error.chain(), "a changed file is of no use; what was goes on");
                    held.fault = Some(error.chain());
                }
            }
            held.stamps = stamps;
        }
        (Arc::clone(&held.value), held.fault.clone())
    }
}

/// Returns the stamps that distinguish this version of the files from later ones. None if they cannot yet: a file that
/// was written a moment ago may be written again with the same time stamp.
fn stamps(paths: &[PathBuf]) -> Option<Vec<FileStamp>> {
    let stamps: Vec<FileStamp> = paths.iter().map(stamp).collect();
    let is_settled = |stamp: &FileStamp| stamp.is_none_or(|(time, ..)| time.elapsed().is_ok_and(|age| age > SETTLED));
    stamps.iter().all(is_settled).then_some(stamps)
}

fn stamp(path: &PathBuf) -> FileStamp {
    let data = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&data);
    #[cfg(not(unix))]
    let number = 0;
    Some((data.modified().ok()?, data.len(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    fn number(paths: &[PathBuf]) -> Result<u32> {
        let text = fs::read_to_string(&paths[0]).map_err(|e| Error::new(Kind::Local, "read").because(e))?;
        text.parse().map_err(|e| Error::new(Kind::Usage, "parse").because(e))
    }

    #[tokio::test]
    async fn a_change_holds_at_once_and_what_cannot_be_read_keeps_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let current = Arc::new(Reloaded::open(vec![path.clone()], number).unwrap());
        let now = async || *current.get().await.unwrap();
        // All have the same length and are written within one tick of many clocks.
        for text in ["2", "3", "4"] {
            fs::write(&path, text).unwrap();
            assert_eq!(now().await.to_string(), text);
        }
        for broken in ["", "x"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(now().await, 4);
            assert!(current.fault(Reread::IfChanged).await.is_some(), "{broken:?}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(now().await, 4);
        fs::write(&path, "5").unwrap();
        assert_eq!(now().await, 5);
        assert_eq!(current.fault(Reread::IfChanged).await, None);
    }

    #[tokio::test]
    async fn a_file_that_stays_as_it_is_is_read_once() {
        static READS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        fs::File::open(&path).unwrap().set_modified(SystemTime::now() - SETTLED * 20).unwrap();
        let counted = |paths: &[PathBuf]| {
            READS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            number(paths)
        };
        let current = Arc::new(Reloaded::open(vec![path], counted).unwrap());
        for _ in 0..5 {
            current.get().await.unwrap();
        }
        assert_eq!(READS.load(std::sync::atomic::Ordering::Relaxed), 1);
        current.fault(Reread::Now).await;
        assert_eq!(READS.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
