//! Upload sessions: files that grow until their digest is told.
//!
//! The file's length is the session's offset, so a session outlives the process; only the hash of what has arrived is
//! lost then, and is made again from the file when it is next needed. One request at a time works on a session.
//!
//! Several servers may work on one folder. Whoever writes to a session's file, or makes a blob of it, therefore holds the
//! lock on it, and looks under the lock whether it has the session's name yet: a file that has become a blob has not, so
//! nobody who has it open writes to it any more. It is for its owner alone until then, so that nobody else can hold the lock.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::error_response::is_no_room;
use super::memory_budget::BlobLane;
use super::upload_files::{files, held, identifier, is_abandoned, is_identifier, old_files, remove_abandoned, seize};
use super::upload_quota::{Exceeded, SessionOwner, SessionPart, UploadQuota};
use crate::disk;
use crate::disk::Writer;
use crate::disk::{Place, blocking, taken};
use crate::error::{Error, Kind, Result};
use crate::http_server::limits::Limits;
use crate::http_server::paced_body::{BodyStep, PacedBody};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryPath};

/// How long nothing must have come for a session that its client gives up for another one: longer than clients wait for a link
/// to come back.
const IDLE: Duration = Duration::from_secs(1800);

/// How often a session's file is asked for that another server is writing to, and how long between two tries.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// All sessions of a server.
#[derive(Debug)]
pub(super) struct UploadSessions {
    folder: Place,
    open: Mutex<HashMap<String, SessionHandle>>,
    quota: Arc<UploadQuota>,
    /// Parts of those that a process before this one left and nobody has come back to.
    left: Mutex<HashMap<String, SessionPart>>,
}

type SessionHandle = Arc<tokio::sync::Mutex<UploadSession>>;

/// One upload. Whoever holds it is alone with it.
#[derive(Debug)]
pub(super) struct UploadSession {
    id: String,
    place: Place,
    repository: RepositoryPath,
    offset: u64,
    algorithm: Algorithm,
    /// Of the first `offset` bytes. None after a restart or a failed write.
    hasher: Option<Hasher>,
    is_over: bool,
    /// None once it is over.
    part: Option<SessionPart>,
    /// When a request last came for it.
    used: Instant,
}

/// How a request's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// All of it came.
    Whole,
    /// The connection broke, or went silent.
    Cut,
}

impl UploadSessions {
    pub(super) fn new(folder: Place, limits: Limits) -> Self {
        Self { folder, open: Mutex::default(), quota: UploadQuota::new(limits), left: Mutex::default() }
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

    /// Room for one more session of `client`. One that it has abandoned makes room.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] if there are too many, all of which are in use.
    pub(super) async fn part(&self, client: SessionOwner) -> Result<SessionPart, Exceeded> {
        match self.quota.open(client.clone()) {
            Err(_) if self.give_up_oldest(&client).await => self.quota.open(client),
            opened => opened,
        }
    }

    /// Ends the session of `client` that was not asked for in the longest time, if it is idle. False if there is none.
    async fn give_up_oldest(&self, client: &SessionOwner) -> bool {
        // Who has one in flight holds it.
        let idle = |handle: &SessionHandle| {
            let session = handle.try_lock().ok()?;
            (session.part.as_ref()?.client() == client).then_some(session.used)
        };
        let oldest = {
            let open = self.lock();
            let found = open.values().filter_map(|handle| Some((idle(handle)?, handle)));
            found.min_by_key(|(used, _)| *used).map(|(_, handle)| Arc::clone(handle))
        };
        let Some(Ok(mut session)) = oldest.map(|handle| handle.try_lock_owned()) else { return false };
        let place = session.place();
        let is_removed = blocking(move || Ok(remove_abandoned(&place, IDLE))).await.unwrap_or_default();
        if is_removed {
            tracing::debug!(upload = session.id, "removing an idle upload for another one of its client");
            self.forget(&mut session);
        }
        is_removed
    }

    fn forget(&self, session: &mut UploadSession) {
        (session.is_over, session.part) = (true, None);
        self.lock().remove(&session.id);
    }

    /// Opens a session and says its name.
    pub(super) async fn begin(
        &self,
        repository: &RepositoryPath,
        algorithm: Algorithm,
        part: SessionPart,
    ) -> Result<String> {
        let id = identifier()?;
        let place = self.folder.join(&id);
        let file = place.clone();
        blocking(move || file.create_new(0o600).map(drop).map_err(file.failed("create"))).await?;
        let session = UploadSession {
            id: id.clone(),
            place,
            repository: repository.clone(),
            offset: 0,
            algorithm,
            hasher: Some(Hasher::new(algorithm)),
            is_over: false,
            part: Some(part),
            used: Instant::now(),
        };
        self.lock().insert(id.clone(), Arc::new(tokio::sync::Mutex::new(session)));
        Ok(id)
    }

    /// Waits for the session of that name. None if `repository` has no such session.
    pub(super) async fn take(
        &self,
        repository: &RepositoryPath,
        id: &str,
    ) -> Result<Option<OwnedMutexGuard<UploadSession>>> {
        let Some(handle) = self.find(repository, id).await? else { return Ok(None) };
        let mut session = handle.lock_owned().await;
        session.used = Instant::now();
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
    pub(super) async fn end(&self, session: &mut UploadSession) -> Result<()> {
        self.forget(session);
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
                self.discard(&name, expiry).await;
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
        let handles: Vec<SessionHandle> = self.lock().values().map(Arc::clone).collect();
        for handle in handles {
            let Ok(mut session) = handle.try_lock_owned() else { continue };
            let place = session.place();
            if blocking(move || Ok(held(&place).is_none())).await.unwrap_or_default() {
                self.forget(&mut session);
            }
        }
    }

    /// Removes what a process before this one left. Who has just come back to it finds that it is gone.
    async fn discard(&self, name: &str, expiry: Duration) {
        let place = self.folder.join(name);
        if blocking(move || Ok(remove_abandoned(&place, expiry))).await.unwrap_or_default() {
            tracing::debug!(upload = name, "removing what an earlier process left");
            self.left().remove(name);
        }
    }

    async fn find(&self, repository: &RepositoryPath, id: &str) -> Result<Option<SessionHandle>> {
        // The name becomes a path.
        if !is_identifier(id) {
            return Ok(None);
        }
        if let Some(handle) = self.lock().get(id) {
            return Ok(Some(Arc::clone(handle)));
        }
        let place = self.folder.join(id);
        let file = place.clone();
        let found = blocking(move || Ok(held(&file).map(|data| (data.len(), taken(&data))))).await?;
        let Some((offset, taken)) = found else { return Ok(None) };
        let part = self.left().remove(id).unwrap_or_else(|| self.quota.found(taken));
        // Left by a process before this one. Its name cannot be guessed: whoever knows it began it.
        let session = UploadSession {
            id: id.to_owned(),
            place,
            repository: repository.clone(),
            offset,
            algorithm: Algorithm::Sha256,
            hasher: None,
            is_over: false,
            part: Some(part),
            used: Instant::now(),
        };
        let mut open = self.lock();
        Ok(Some(Arc::clone(open.entry(id.to_owned()).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(session))))))
    }

    fn left(&self) -> MutexGuard<'_, HashMap<String, SessionPart>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, SessionHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadSession {
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
            let Some((file, about)) = seized? else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let length = about.len();
            if length != self.offset {
                // Another server has gone on with it, or what was written before a failure is there after all.
                (self.offset, self.hasher) = (length, None);
            }
            if let Some(part) = &mut self.part {
                // What is written may not have come to its place on the disk yet.
                part.correct(length.min(taken(&about).max(part.bytes())));
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
                let length = disk::hash(&file, &mut hasher).map_err(place.failed("read"))?;
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
        body: PacedBody,
        expected: Option<u64>,
        lane: BlobLane,
    ) -> Result<(OwnedMutexGuard<Self>, BodyEnd)> {
        let task = tokio::spawn(take_in(self_, file, body, expected, lane));
        task.await.unwrap_or_else(|why| Err(Error::new(Kind::Local, "take upload").because(why)))
    }
}

async fn take_in(
    mut session: OwnedMutexGuard<UploadSession>,
    file: File,
    mut body: PacedBody,
    expected: Option<u64>,
    lane: BlobLane,
) -> Result<(OwnedMutexGuard<UploadSession>, BodyEnd)> {
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
    let (mut taken, mut arrival) = (0, BodyEnd::Whole);
    let written = loop {
        match body.next().await {
            BodyStep::Piece(bytes) => {
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
            BodyStep::End if expected.is_none_or(|expected| expected == taken) => break writer.finish().await,
            BodyStep::End | BodyStep::Cut => {
                arrival = BodyEnd::Cut;
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

/// As a disk that takes no more.
fn full(why: Exceeded) -> Error {
    Error::new(Kind::Local, "take upload").because(io::Error::new(io::ErrorKind::QuotaExceeded, why))
}
