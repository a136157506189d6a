//! Files below a folder whose content is untrusted.
//!
//! A data folder is carried across gaps, and a spool may be in a folder where other users can write. Everything below a
//! [`DiskRoot`] is therefore reached from a handle on the folder, and never through a symbolic link: with `openat2`
//! where the kernel has it, else one component at a time. Files are opened without blocking, and only plain files are
//! accepted (a pipe, a device or a socket is an error at once). Reads into memory are bounded. Create, rename, link,
//! remove and list work the same way. The operator names the root itself, so the root may be a link.
//!
//! On systems other than Unix, each step checks for links first; a user who changes the folder between check and step
//! is not kept out.

pub(crate) mod file_set;
mod lock;
mod obstacle;
mod open_how;
mod passing_name;
mod place;
#[cfg(any(not(unix), test))]
mod portable;
mod publish;
mod read;
mod reader;
pub(crate) mod reload;
mod space;
#[cfg(test)]
mod tests;
#[cfg(unix)]
mod unix;
mod writer;

use std::io;
use std::path::Path;

use tokio::task::{JoinError, spawn_blocking};

pub use self::file_set::Existing;
pub(crate) use self::lock::{Hold, acquire, open_lock, open_up};
pub(crate) use self::obstacle::{ASIDE, kind_of};
pub(crate) use self::passing_name::{TEMPORARY, passing_name};
pub(crate) use self::place::{DiskRoot, Missing, Place, is_sole, number, taken};
#[cfg(not(unix))]
use self::portable as system;
pub(crate) use self::publish::{Temporary, link, link_over, publish, publish_new};
pub(crate) use self::read::{open as open_file, read as read_file, read_through};
pub(crate) use self::reader::{hash, read_bounded, stream, stream_in};
pub(crate) use self::space::{DiskSpace, space_at, space_of};
#[cfg(unix)]
use self::unix as system;
pub(crate) use self::writer::{Writer, write_all};
use crate::error::{Error, Kind, Result};

/// Converts an I/O error to ours, with the operation and the file.
pub(crate) fn failed(op: &str, path: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Local };
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    let told = Error::new(kind, op).on(path.display()).because(error);
    if is_full { told.hint("free some space on that file system, then run it again") } else { told }
}

/// Runs file work on a blocking thread, so that a slow disk does not block the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(spawn_blocking(work)).await
}

/// Returns the result of file work that runs on another thread.
pub(crate) async fn joined<T>(job: impl Future<Output = Result<Result<T>, JoinError>>) -> Result<T> {
    job.await.unwrap_or_else(|why| Err(Error::new(Kind::Local, "run file work").because(why)))
}
