//! Upload sessions: files that grow until their digest is told.
//!
//! The file's length is the session's offset, so a session outlives the process; only the hash of what has arrived is
//! lost then, and is made again from the file when it is next needed. One request at a time works on a session.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::pace::{Paced, Step};
use super::problem::is_no_room;
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryPath};
use crate::store::layout::file::{self, Writer, blocking, failed};

/// All sessions of a server.
#[derive(Debug)]
pub(super) struct Sessions {
    folder: PathBuf,
    open: Mutex<HashMap<String, Handle>>,
}

type Handle = Arc<tokio::sync::Mutex<Session>>;

/// One upload. Whoever holds it is alone with it.
#[derive(Debug)]
pub(super) struct Session {
    id: String,
    path: PathBuf,
    repository: RepositoryPath,
    offset: u64,
    algorithm: Algorithm,
    /// Of the first `offset` bytes. None after a restart or a failed write.
    hasher: Option<Hasher>,
    is_over: bool,
}

/// How a request's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// All of it came.
    Whole,
    /// The connection broke, or went silent.
    Cut,
}

impl Sessions {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    /// Opens a session and says its name.
    pub(super) async fn begin(&self, repository: &RepositoryPath, algorithm: Algorithm) -> Result<String> {
        let id = identifier()?;
        let path = self.folder.join(&id);
        let file = path.clone();
        blocking(move || File::create_new(&file).map(drop).map_err(|e| failed("create", &file, e))).await?;
        let session = Session {
            id: id.clone(),
            path,
            repository: repository.clone(),
            offset: 0,
            algorithm,
            hasher: Some(Hasher::new(algorithm)),
            is_over: false,
        };
        self.lock().insert(id.clone(), Arc::new(tokio::sync::Mutex::new(session)));
        Ok(id)
    }

    /// Waits for the session of that name. None if `repository` has no such session.
    pub(super) async fn take(&self, repository: &RepositoryPath, id: &str) -> Result<Option<OwnedMutexGuard<Session>>> {
        let Some(handle) = self.find(repository, id).await? else { return Ok(None) };
        let session = handle.lock_owned().await;
        Ok((!session.is_over && session.repository == *repository).then_some(session))
    }

    /// Bytes that have arrived so far, without waiting for a request that is bringing more.
    pub(super) async fn offset(&self, repository: &RepositoryPath, id: &str) -> Result<Option<u64>> {
        let Some(handle) = self.find(repository, id).await? else { return Ok(None) };
        if let Ok(session) = handle.try_lock() {
            return Ok((!session.is_over && session.repository == *repository).then_some(session.offset));
        }
        let path = self.folder.join(id);
        blocking(move || Ok(fs::metadata(path).ok().map(|data| data.len()))).await
    }

    /// Sessions in progress.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends a session and removes what it has gathered, unless that was moved away.
    pub(super) async fn end(&self, session: &mut Session) -> Result<()> {
        session.is_over = true;
        self.lock().remove(&session.id);
        let path = session.path.clone();
        blocking(move || {
            let _ = fs::remove_file(&path);
            Ok(())
        })
        .await
    }

    /// Ends the sessions that nobody came back to, those of a process before this one among them.
    pub(super) async fn sweep(&self, expiry: Duration) {
        let folder = self.folder.clone();
        let old = move || Ok(old_files(&folder, expiry));
        for name in blocking(old).await.unwrap_or_default() {
            let open = self.lock().get(&name).map(Arc::clone);
            let Some(handle) = open else {
                self.discard(&name);
                continue;
            };
            // Busy is not abandoned, and what came back while this was waiting neither.
            let Ok(mut session) = handle.try_lock_owned() else { continue };
            let path = session.path.clone();
            if blocking(move || Ok(is_old(&path, expiry))).await.unwrap_or_default() {
                tracing::debug!(upload = name, "removing an upload that nobody came back to");
                let _ = self.end(&mut session).await;
            }
        }
    }

    /// Removes what a process before this one left, unless somebody has just come back to it.
    fn discard(&self, name: &str) {
        let open = self.lock();
        if !open.contains_key(name) {
            tracing::debug!(upload = name, "removing what an earlier process left");
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    async fn find(&self, repository: &RepositoryPath, id: &str) -> Result<Option<Handle>> {
        // The name becomes a path.
        if id.len() != 36 || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Ok(None);
        }
        if let Some(handle) = self.lock().get(id) {
            return Ok(Some(Arc::clone(handle)));
        }
        let path = self.folder.join(id);
        let file = path.clone();
        let Some(offset) = blocking(move || Ok(fs::metadata(&file).ok().map(|data| data.len()))).await? else {
            return Ok(None);
        };
        // Left by a process before this one. Its name cannot be guessed: whoever knows it began it.
        let session = Session {
            id: id.to_owned(),
            path,
            repository: repository.clone(),
            offset,
            algorithm: Algorithm::Sha256,
            hasher: None,
            is_over: false,
        };
        let mut open = self.lock();
        Ok(Some(Arc::clone(open.entry(id.to_owned()).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(session))))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Bytes that have arrived.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the bytes lie.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Notes which hash will be asked for, so that the bytes need not be read twice.
    pub(super) fn expect(&mut self, algorithm: Algorithm) {
        if self.offset == 0 && self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// The digest of all bytes that have arrived.
    pub(super) async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        if self.hasher.is_none() || self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.hasher = None;
            self.rehash().await?;
        }
        let hasher = self.hasher.clone();
        hasher.map(Hasher::finish).ok_or_else(|| Error::new(Kind::Local, "hash upload").on(&self.id))
    }

    async fn rehash(&mut self) -> Result<()> {
        if self.hasher.is_none() {
            let (path, mut hasher) = (self.path(), Hasher::new(self.algorithm));
            let (hasher, length) = blocking(move || {
                let file = File::open(&path).map_err(|e| failed("open", &path, e))?;
                let length = file::hash(&file, &mut hasher).map_err(|e| failed("read", &path, e))?;
                Ok((hasher, length))
            })
            .await?;
            (self.hasher, self.offset) = (Some(hasher), length);
        }
        Ok(())
    }

    /// Takes in a body of `expected` bytes, where that is known. What arrived before a break stays.
    ///
    /// The work goes on in a task of its own: a server drops the request of a connection that broke, and what has
    /// arrived must be counted all the same.
    pub(super) async fn append(
        self_: OwnedMutexGuard<Self>,
        body: Paced,
        expected: Option<u64>,
    ) -> Result<(OwnedMutexGuard<Self>, Arrival)> {
        let task = tokio::spawn(take_in(self_, body, expected));
        task.await.unwrap_or_else(|why| Err(Error::new(Kind::Local, "take upload").because(why)))
    }
}

async fn take_in(
    mut session: OwnedMutexGuard<Session>,
    mut body: Paced,
    expected: Option<u64>,
) -> Result<(OwnedMutexGuard<Session>, Arrival)> {
    if expected == Some(0) {
        return Ok((session, Arrival::Whole));
    }
    session.rehash().await?;
    let path = session.path();
    let file =
        blocking(move || OpenOptions::new().append(true).open(&path).map_err(|e| failed("open", &path, e))).await?;
    let mut writer = Writer::new(file, session.hasher.take());
    let (mut taken, mut arrival) = (0, Arrival::Whole);
    let written = loop {
        match body.next().await {
            Step::Piece(bytes) => {
                taken += bytes.len() as u64;
                if let Err(error) = writer.push(bytes).await {
                    break Err(error);
                }
            }
            Step::End if expected.is_none_or(|expected| expected == taken) => break writer.finish().await,
            Step::End | Step::Cut => {
                arrival = Arrival::Cut;
                break writer.finish().await;
            }
        }
    };
    match written {
        Ok((_, hasher)) => {
            session.hasher = hasher;
            session.offset += taken;
            Ok((session, arrival))
        }
        Err(error) => {
            session.hasher = None;
            if is_no_room(&error) {
                // Nobody can go on with it before there is room, and what it holds is room.
                session.is_over = true;
                let _ = fs::remove_file(&session.path);
                return Err(error);
            }
            // How much was written before the failure only the file knows.
            session.offset = fs::metadata(&session.path).map(|data| data.len()).unwrap_or_default();
            Err(error)
        }
    }
}

/// Names of the files in `folder` that nothing was written to for so long.
fn old_files(folder: &Path, expiry: Duration) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let old = entries.filter(|entry| is_old(&entry.path(), expiry));
    old.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether that file is so old, or gone.
pub(super) fn is_old(path: &Path, expiry: Duration) -> bool {
    let Ok(data) = fs::symlink_metadata(path) else { return true };
    data.is_file() && data.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= expiry))
}

/// A random UUID (RFC 9562, version 4).
fn identifier() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|why| Error::new(Kind::Local, "draw a random name").because(why.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
