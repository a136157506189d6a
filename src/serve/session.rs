//! Upload sessions: files that grow until their digest is told.
//!
//! The file's length is the session's offset, so a session outlives the process; only the hash of what has arrived is
//! lost then, and is made again from the file when it is next needed. One request at a time works on a session.
//!
//! Several servers may work on one folder. Whoever writes to a session's file, or makes a blob of it, therefore holds the
//! lock on it, and looks under the lock whether it has the session's name yet: a file that has become a blob has not, so
//! nobody who has it open writes to it any more. It is for its owner alone until then, so that nobody else can hold the lock.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::limits::Limits;
use super::memory::Lane;
use super::pace::{Paced, Step};
use super::problem::is_no_room;
use super::quota::{Client, Exceeded, Part, Quota};
use crate::disk::{Missing, Place, blocking, is_sole};
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryPath};
use crate::store::layout::file::{self, Writer};

/// How often a session's file is asked for that another server is writing to, and how long between two tries.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// All sessions of a server.
#[derive(Debug)]
pub(super) struct Sessions {
    folder: Place,
    open: Mutex<HashMap<String, Handle>>,
    quota: Arc<Quota>,
    /// Parts of those that a process before this one left and nobody has come back to.
    left: Mutex<HashMap<String, Part>>,
}

type Handle = Arc<tokio::sync::Mutex<Session>>;

/// One upload. Whoever holds it is alone with it.
#[derive(Debug)]
pub(super) struct Session {
    id: String,
    place: Place,
    repository: RepositoryPath,
    offset: u64,
    algorithm: Algorithm,
    /// Of the first `offset` bytes. None after a restart or a failed write.
    hasher: Option<Hasher>,
    is_over: bool,
    /// None once it is over.
    part: Option<Part>,
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
    pub(super) fn new(folder: Place, limits: Limits) -> Self {
        Self { folder, open: Mutex::default(), quota: Quota::new(limits), left: Mutex::default() }
    }

    /// Counts what a process before this one left.
    pub(super) async fn count_left(&self) -> Result<()> {
        let folder = self.folder.clone();
        let found = blocking(move || Ok(files(&folder))).await?;
        let mut left = self.left();
        for (name, bytes) in found {
            left.insert(name, self.quota.found(bytes));
        }
        Ok(())
    }

    /// Room for one more session of `client`.
    pub(super) fn part(&self, client: Client) -> Result<Part, Exceeded> {
        self.quota.open(client)
    }

    /// Opens a session and says its name.
    pub(super) async fn begin(&self, repository: &RepositoryPath, algorithm: Algorithm, part: Part) -> Result<String> {
        let id = identifier()?;
        let place = self.folder.join(&id);
        let file = place.clone();
        blocking(move || file.create_new(0o600).map(drop).map_err(file.failed("create"))).await?;
        let session = Session {
            id: id.clone(),
            place,
            repository: repository.clone(),
            offset: 0,
            algorithm,
            hasher: Some(Hasher::new(algorithm)),
            is_over: false,
            part: Some(part),
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
        if handle.try_lock().is_ok_and(|session| session.is_over || session.repository != *repository) {
            return Ok(None);
        }
        // The file knows what another server has added, or that it has made a blob of it.
        let place = self.folder.join(id);
        blocking(move || Ok(held(&place).map(|data| data.len()))).await
    }

    /// Sessions in progress.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends a session and removes what it has gathered, unless that was moved away.
    pub(super) async fn end(&self, session: &mut Session) -> Result<()> {
        session.is_over = true;
        session.part = None;
        self.lock().remove(&session.id);
        let place = session.place.clone();
        blocking(move || {
            let _ = place.remove();
            Ok(())
        })
        .await
    }

    /// Ends the sessions that nobody came back to, those of a process before this one among them.
    pub(super) async fn sweep(&self, expiry: Duration) {
        let folder = self.folder.clone();
        let old = move || Ok(old_files(&folder, expiry));
        let folder = self.folder.clone();
        let there: HashSet<_> =
            blocking(move || Ok(files(&folder))).await.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        // Another server on the same folder ends its own.
        self.left().retain(|name, _| there.contains(name));
        for name in blocking(old).await.unwrap_or_default() {
            let open = self.lock().get(&name).map(Arc::clone);
            let Some(handle) = open else {
                self.discard(&name, expiry);
                continue;
            };
            // Busy is not abandoned, and what came back while this was waiting neither.
            let Ok(mut session) = handle.try_lock_owned() else { continue };
            let place = session.place.clone();
            if blocking(move || Ok(is_abandoned(&place, expiry))).await.unwrap_or_default() {
                tracing::debug!(upload = name, "removing an upload that nobody came back to");
                let _ = self.end(&mut session).await;
            }
        }
        self.forget_gone().await;
    }

    /// Forgets sessions that another server has ended, and those that found no room.
    async fn forget_gone(&self) {
        let handles: Vec<Handle> = self.lock().values().map(Arc::clone).collect();
        for handle in handles {
            let Ok(mut session) = handle.try_lock_owned() else { continue };
            let place = session.place();
            if blocking(move || Ok(held(&place).is_none())).await.unwrap_or_default() {
                session.is_over = true;
                session.part = None;
                self.lock().remove(&session.id);
            }
        }
    }

    /// Removes what a process before this one left, unless somebody has just come back to it.
    fn discard(&self, name: &str, expiry: Duration) {
        let open = self.lock();
        let place = self.folder.join(name);
        if !open.contains_key(name) && is_abandoned(&place, expiry) {
            tracing::debug!(upload = name, "removing what an earlier process left");
            let _ = place.remove();
            self.left().remove(name);
        }
    }

    async fn find(&self, repository: &RepositoryPath, id: &str) -> Result<Option<Handle>> {
        // The name becomes a path.
        if !is_identifier(id) {
            return Ok(None);
        }
        if let Some(handle) = self.lock().get(id) {
            return Ok(Some(Arc::clone(handle)));
        }
        let place = self.folder.join(id);
        let file = place.clone();
        let Some(offset) = blocking(move || Ok(held(&file).map(|data| data.len()))).await? else {
            return Ok(None);
        };
        let part = self.left().remove(id).unwrap_or_else(|| self.quota.found(offset));
        // Left by a process before this one. Its name cannot be guessed: whoever knows it began it.
        let session = Session {
            id: id.to_owned(),
            place,
            repository: repository.clone(),
            offset,
            algorithm: Algorithm::Sha256,
            hasher: None,
            is_over: false,
            part: Some(part),
        };
        let mut open = self.lock();
        Ok(Some(Arc::clone(open.entry(id.to_owned()).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(session))))))
    }

    fn left(&self) -> MutexGuard<'_, HashMap<String, Part>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Opens the file, alone among all requests of all servers for as long as it is open, and brings what is known about it
    /// up to date.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such session any more: it has become a blob, or was given up.
    /// [`Unavailable`](Kind::Unavailable) if another server is writing to it.
    pub(super) async fn open(&mut self) -> Result<File> {
        for _ in 0..TRIES {
            let place = self.place();
            let seized = blocking(move || seize(&place)).await;
            if seized.as_ref().is_err_and(|error| error.kind() == Kind::NotFound) {
                (self.is_over, self.part) = (true, None);
            }
            let Some((file, length)) = seized? else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if length != self.offset {
                // Another server has gone on with it, or what was written before a failure is there after all.
                (self.offset, self.hasher) = (length, None);
            }
            if let Some(part) = &mut self.part {
                part.correct(length);
            }
            return Ok(file);
        }
        Err(Error::new(Kind::Unavailable, "take upload").on(&self.id).because("another server is writing to it"))
    }

    /// Notes which hash will be asked for, so that the bytes need not be read twice.
    pub(super) fn expect(&mut self, algorithm: Algorithm) {
        if self.offset == 0 && self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// The digest of all bytes that have arrived.
    pub(super) async fn digest(&mut self, file: &File, algorithm: Algorithm) -> Result<Digest> {
        if self.hasher.is_none() || self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.hasher = None;
            self.rehash(file).await?;
        }
        let hasher = self.hasher.clone();
        hasher.map(Hasher::finish).ok_or_else(|| Error::new(Kind::Local, "hash upload").on(&self.id))
    }

    async fn rehash(&mut self, file: &File) -> Result<()> {
        if self.hasher.is_none() {
            let (place, mut hasher) = (self.place(), Hasher::new(self.algorithm));
            let file = file.try_clone().map_err(place.failed("open"))?;
            let (hasher, length) = blocking(move || {
                let length = file::hash(&file, &mut hasher).map_err(place.failed("read"))?;
                Ok((hasher, length))
            })
            .await?;
            (self.hasher, self.offset) = (Some(hasher), length);
        }
        Ok(())
    }

    /// Ends it, because nobody can go on with it before there is room, and what it holds is room.
    fn give_up(&mut self, error: Error) -> Error {
        self.is_over = true;
        self.part = None;
        let _ = self.place.remove();
        error
    }

    /// Takes a body of `expected` bytes, where that is known, into `file`. What arrived before a break stays.
    ///
    /// The work goes on in a task of its own: a server drops the request of a connection that broke, and what has
    /// arrived must be counted all the same.
    pub(super) async fn append(
        self_: OwnedMutexGuard<Self>,
        file: File,
        body: Paced,
        expected: Option<u64>,
        lane: Lane,
    ) -> Result<(OwnedMutexGuard<Self>, Arrival)> {
        let task = tokio::spawn(take_in(self_, file, body, expected, lane));
        task.await.unwrap_or_else(|why| Err(Error::new(Kind::Local, "take upload").because(why)))
    }
}

async fn take_in(
    mut session: OwnedMutexGuard<Session>,
    file: File,
    mut body: Paced,
    expected: Option<u64>,
    lane: Lane,
) -> Result<(OwnedMutexGuard<Session>, Arrival)> {
    session.rehash(&file).await?;
    let Some(quota) = session.part.as_ref().map(|part| Arc::clone(part.quota())) else {
        return Err(Error::new(Kind::NotFound, "find upload").on(&session.id));
    };
    let (file, room) = blocking(move || {
        let room = quota.room(&file);
        Ok((file, room))
    })
    .await?;
    if let (Some(part), Some(expected)) = (&session.part, expected)
        && let Err(why) = part.fits(expected, room)
    {
        return Err(session.give_up(full(why)));
    }
    let mut writer = Writer::in_batches(lane.batch, file, session.hasher.take());
    let (mut taken, mut arrival) = (0, Arrival::Whole);
    let written = loop {
        match body.next().await {
            Step::Piece(bytes) => {
                taken += bytes.len() as u64;
                let counted = session.part.as_mut().map_or(Ok(()), |part| part.grow(bytes.len() as u64, room));
                let pushed = match counted {
                    Ok(()) => writer.push(bytes).await,
                    Err(why) => Err(full(why)),
                };
                if let Err(error) = pushed {
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
                return Err(session.give_up(error));
            }
            // How much was written before the failure only the file knows.
            session.offset = held(&session.place).map(|data| data.len()).unwrap_or_default();
            Err(error)
        }
    }
}

/// The session's file, locked, and its length. None if another server has it.
fn seize(place: &Place) -> Result<Option<(File, u64)>> {
    let gone = || place.failed("open")(io::ErrorKind::NotFound.into());
    // Whatever else lies there under its name is no session.
    let (file, _) = match place.open_own_to_append() {
        Err(why) if held(place).is_some() => return Err(place.failed("open")(why)),
        opened => opened.map_err(|_| gone())?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        // A file system without locks: there one process at a time has to do.
        Err(TryLockError::Error(why)) if why.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(why)) => return Err(place.failed("lock")(why)),
    }
    if !place.names(&file).map_err(place.failed("look at"))? {
        return Err(gone());
    }
    let length = file.metadata().map_err(place.failed("look at"))?.len();
    Ok(Some((file, length)))
}

/// About a session's file, if it is one.
fn held(place: &Place) -> Option<Metadata> {
    place.look().ok().flatten().filter(is_sole)
}

/// As a disk that takes no more.
fn full(why: Exceeded) -> Error {
    Error::new(Kind::Local, "take upload").because(io::Error::new(io::ErrorKind::QuotaExceeded, why))
}

/// Whether what lies there under `name` may be a session, or was one until a moment ago.
pub(super) fn may_be(place: &Place, name: &OsStr) -> bool {
    let is_other = |about: &Metadata| !is_sole(about);
    name.to_str().is_some_and(is_identifier) && !place.look().ok().flatten().is_some_and(|about| is_other(&about))
}

/// Whether `name` has the form of a session's name.
fn is_identifier(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Names and sizes of the sessions' files in `folder`. What has another name can be nobody's upload.
fn files(folder: &Place) -> Vec<(String, u64)> {
    let names = folder.list().unwrap_or_default().into_iter();
    let sized = names.filter_map(|name| {
        let name = name.into_string().ok().filter(|name| is_identifier(name))?;
        let bytes = held(&folder.join(&name))?.len();
        Some((name, bytes))
    });
    sized.collect()
}

/// Names of the files in `folder` that nothing was written to for so long.
fn old_files(folder: &Place, expiry: Duration) -> Vec<String> {
    let names = folder.list().unwrap_or_default().into_iter();
    let old = names.filter(|name| is_old(&folder.join(name), expiry));
    old.filter_map(|name| name.into_string().ok()).collect()
}

/// Whether that file is so old, or gone.
pub(super) fn is_old(place: &Place, expiry: Duration) -> bool {
    let Ok(Some(data)) = place.look() else { return true };
    data.is_file() && data.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= expiry))
}

/// The same, and no server is writing to it.
fn is_abandoned(place: &Place, expiry: Duration) -> bool {
    let is_locked = |(file, _): (File, Metadata)| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    !place.open_own(Missing::Fails).is_ok_and(is_locked) && is_old(place, expiry)
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
