//! Upload sessions: files that grow until the client gives their digest.
//!
//! The file's length is the session's offset, so a session outlives the process; only the hash of the bytes so far is
//! lost then, and is computed again from the file when it is next needed. One request at a time works on a session.
//!
//! Several servers may work on one folder. A request that writes to a session's file, or makes a blob of it, therefore
//! holds the lock on the file, and checks under the lock that the file still has the session's name: a file that has
//! become a blob has lost it, so no process with the file open writes to it any more. Until then only its owner may
//! open it, so that no other user can hold the lock.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::error_response::is_no_room;
use super::memory_budget::BlobLane;
use super::upload_files::{
    LeftFiles, held, identifier, is_abandoned, is_identifier, remove_abandoned, remove_old, seize,
};
use super::upload_quota::{Exceeded, SessionOwner, SessionPart, UploadQuota};
use crate::disk;
use crate::disk::Writer;
use crate::disk::{Place, blocking, taken};
use crate::error::{Error, Kind, Result};
use crate::http_server::limits::Limits;
use crate::http_server::paced_body::{BodyStep, PacedBody};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryPath};

/// Idle time after which a client's session may be removed to make room for another one of that client: longer than
/// clients wait for a link to come back.
const IDLE: Duration = Duration::from_secs(1800);

/// How often to try a session's file that another server is writing to, and the pause between two tries.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// All sessions of a server.
#[derive(Debug)]
pub(super) struct UploadSessions {
    folder: Place,
    open: Mutex<HashMap<String, SessionHandle>>,
    quota: Arc<UploadQuota>,
    /// Parts of sessions that an earlier process left and that no client has resumed.
    left: Mutex<HashMap<String, SessionPart>>,
    /// The part of all other such sessions together, if there are more than there may be.
    others: Mutex<Option<SessionPart>>,
}

type SessionHandle = Arc<tokio::sync::Mutex<UploadSession>>;

/// One upload. The holder of its mutex has it alone.
#[derive(Debug)]
pub(super) struct UploadSession {
    id: String,
    place: Place,
    repository: RepositoryPath,
    offset: u64,
    algorithm: Algorithm,
    /// Hash of the first `offset` bytes. None after a restart or a failed write.
    hasher: Option<Hasher>,
    is_over: bool,
    /// None once the session is over.
    part: Option<SessionPart>,
    /// When a request last used it.
    used: Instant,
}

/// How a request's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The whole body arrived.
    Whole,
    /// The connection broke, or went silent.
    Cut,
}

impl UploadSessions {
    pub(super) fn new(folder: Place, limits: Limits) -> Self {
        Self {
            folder,
            open: Mutex::default(),
            quota: UploadQuota::new(limits),
            left: Mutex::default(),
            others: Mutex::default(),
        }
    }

    /// Counts the sessions that an earlier process left.
    pub(super) async fn count_left(&self) -> Result<()> {
        let (folder, most) = (self.folder.clone(), self.quota.most_sessions());
        let found = blocking(move || Ok(LeftFiles::find(&folder, &HashSet::new(), most))).await?;
        self.left().extend(found.first.into_iter().map(|(name, bytes)| (name, self.quota.found(1, bytes))));
        let (count, bytes) = found.others;
        *crate::sync::lock(&self.others) = (count > 0).then(|| self.quota.found(count, bytes));
        Ok(())
    }

    /// Counts again the sessions that an earlier process left: clients have resumed some, and some have gone.
    async fn recount_left(&self) {
        let mut known: HashSet<String> = self.left().keys().cloned().collect();
        let (folder, left) = (self.folder.clone(), known.clone());
        // Another server on the same folder ends its own.
        let is_gone = move |name: &String| held(&folder.join(name)).is_none();
        let gone = blocking(move || Ok(left.into_iter().filter(is_gone).collect::<HashSet<_>>())).await;
        let gone = gone.unwrap_or_default();
        self.left().retain(|name, _| !gone.contains(name));
        let Some(former) = crate::sync::lock(&self.others).as_ref().map(SessionPart::counted) else { return };
        known.extend(self.lock().keys().cloned());
        let folder = self.folder.clone();
        let found = blocking(move || Ok(LeftFiles::find(&folder, &known, 0))).await.unwrap_or_default();
        // Sessions that another server has begun since are its own.
        let (count, bytes) = (found.others.0.min(former.0), found.others.1.min(former.1));
        let mut others = crate::sync::lock(&self.others);
        drop(others.take());
        *others = (count > 0).then(|| self.quota.found(count, bytes));
    }

    /// Returns a part for one more session of `client`. Removes an abandoned session of that client if there is no
    /// room.
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

    /// Removes the least recently used session of `client`, if it is idle. Returns false if there is none.
    async fn give_up_oldest(&self, client: &SessionOwner) -> bool {
        // A request in flight holds the mutex of its session.
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

    /// Opens a session and returns its name.
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

    /// Waits for the session of that name. Returns None if `repository` has no such session.
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

    /// Returns the number of bytes so far, without waiting for a request that is sending more.
    pub(super) async fn offset(&self, repository: &RepositoryPath, id: &str) -> Result<Option<u64>> {
        let Some(handle) = self.find(repository, id).await? else { return Ok(None) };
        if handle.try_lock().is_ok_and(|session| session.is_over || session.repository != *repository) {
            return Ok(None);
        }
        // The file shows bytes that another server has added, or that it has made a blob of it.
        let place = self.folder.join(id);
        blocking(move || Ok(held(&place).map(|data| data.len()))).await
    }

    /// Returns the number of sessions in progress.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends a session and removes its file, unless it was moved away.
    pub(super) async fn end(&self, session: &mut UploadSession) -> Result<()> {
        self.forget(session);
        let place = session.place.clone();
        blocking(move || {
            let _ = place.remove();
            Ok(())
        })
        .await
    }

    /// Removes abandoned sessions, also of an earlier process.
    pub(super) async fn sweep(&self, expiry: Duration) {
        let (folder, open) = (self.folder.clone(), self.lock().keys().cloned().collect());
        // A client that resumes one of an earlier process at this moment finds it gone.
        let old = blocking(move || Ok(remove_old(&folder, &open, expiry))).await.unwrap_or_default();
        for name in old {
            let open = self.lock().get(&name).map(Arc::clone);
            // A session in use is not abandoned, nor is one that was resumed while this was waiting.
            let Some(Ok(mut session)) = open.map(|handle| handle.try_lock_owned()) else { continue };
            let place = session.place();
            if blocking(move || Ok(is_abandoned(&place, expiry))).await.unwrap_or_default() {
                tracing::debug!(upload = name, "removing an upload that nobody came back to");
                let _ = self.end(&mut session).await;
            }
        }
        self.forget_gone().await;
        self.recount_left().await;
    }

    /// Forgets sessions that another server has ended, and those that had no room.
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
        let Some(part) = self.part_of_found(id, taken) else { return Ok(None) };
        // An earlier process left it. Its name cannot be guessed: a client that knows it began it.
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

    /// Returns the part of a session that this process did not begin. None if as many are in memory as there may be.
    fn part_of_found(&self, id: &str, bytes: u64) -> Option<SessionPart> {
        let left = self.left().remove(id);
        left.or_else(|| (self.count() < self.quota.most_sessions()).then(|| self.quota.found(1, bytes)))
    }

    fn left(&self) -> MutexGuard<'_, HashMap<String, SessionPart>> {
        crate::sync::lock(&self.left)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, SessionHandle>> {
        crate::sync::lock(&self.open)
    }
}

impl UploadSession {
    /// Returns the number of bytes so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the session's file.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Opens the file, exclusively among all requests of all servers, and updates offset and count from it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if the session is gone: it has become a blob, or was cancelled.
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
                // Another server has gone on with it, or bytes written before an error are there after all.
                (self.offset, self.hasher) = (length, None);
            }
            if let Some(part) = &mut self.part {
                // The disk may not have allocated the written bytes yet.
                part.correct(length.min(taken(&about).max(part.bytes())));
            }
            return Ok(file);
        }
        Err(Error::new(Kind::Unavailable, "take upload").on(&self.id).because("another server is writing to it"))
    }

    /// Sets the hash algorithm early, so that the bytes need not be read twice.
    pub(super) fn expect(&mut self, algorithm: Algorithm) {
        if self.offset == 0 && self.algorithm != algorithm {
            self.algorithm = algorithm;
            self.hasher = Some(Hasher::new(algorithm));
        }
    }

    /// Returns the digest of all bytes so far.
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

    /// Ends the session, because it cannot go on before there is room, and removing it frees room.
    fn give_up(&mut self, error: Error) -> Error {
        self.is_over = true;
        self.part = None;
        let _ = self.place.remove();
        error
    }

    /// Appends a body of `expected` bytes, if known, to `file`. Bytes that arrived before a break stay.
    ///
    /// The work runs in its own task: a server drops the request of a broken connection, and the bytes that arrived
    /// must be counted all the same.
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
            // Only the file shows how many bytes were written before the error.
            session.offset = held(&session.place).map(|data| data.len()).unwrap_or_default();
            Err(error)
        }
    }
}

/// Returns the error of a full disk.
fn full(why: Exceeded) -> Error {
    Error::new(Kind::Local, "take upload").because(io::Error::new(io::ErrorKind::QuotaExceeded, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskRoot;

    #[tokio::test]
    async fn of_many_files_that_were_left_few_are_kept_in_memory_and_all_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { sessions: 3, ..Limits::default() };
        let place = |id: &str| folder.path().join(id);
        let left: Vec<_> = (0..10).map(|_| identifier().unwrap()).collect();
        left.iter().for_each(|id| std::fs::write(place(id), "ten bytes.").unwrap());
        std::fs::write(place("of-no-upload"), "a file of another name").unwrap();
        let sessions = UploadSessions::new(DiskRoot::at(folder.path()).place(), limits);
        sessions.sweep(Duration::from_secs(3600)).await;
        sessions.count_left().await.unwrap();
        assert_eq!((sessions.left().len(), sessions.quota.counted()), (3, (10, 100)));
        let client = || SessionOwner::User("ann".into());
        assert_eq!(sessions.part(client()).await.unwrap_err(), Exceeded::All);
        for id in &left[..8] {
            let old = std::time::SystemTime::now() - Duration::from_secs(7200);
            File::options().append(true).open(place(id)).unwrap().set_modified(old).unwrap();
        }
        sessions.sweep(Duration::from_secs(3600)).await;
        assert_eq!(sessions.quota.counted(), (2, 20), "eight have gone");
        let repository: RepositoryPath = "app".parse().unwrap();
        let part = sessions.part(client()).await.unwrap();
        sessions.begin(&repository, Algorithm::Sha256, part).await.unwrap();
        sessions.sweep(Duration::from_secs(3600)).await;
        assert_eq!(sessions.quota.counted(), (3, 20), "what this process began is counted once");
        for id in &left[8..] {
            assert!(sessions.take(&repository, id).await.unwrap().is_some(), "what is left can go on");
        }
        sessions.sweep(Duration::from_secs(3600)).await;
        assert_eq!(sessions.quota.counted().0, 3);
        let foreign = identifier().unwrap();
        std::fs::write(place(&foreign), "of another server").unwrap();
        assert!(sessions.take(&repository, &foreign).await.unwrap().is_none(), "no more are held than there may be");
        sessions.sweep(Duration::ZERO).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!((sessions.quota.counted(), sessions.count()), ((0, 0), 0));
    }
}
