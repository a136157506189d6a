//! Writes blobs: one POST that asks whether the registry has the bytes and opens a session if not, and one PUT.
//!
//! A PUT that broke is continued if the registry still knows the session and says how much has arrived (distribution
//! 3); otherwise a new session starts with the first byte. registry 2.8 answers 404 there from then on, zot deletes the
//! session: each is asked once. If a registry does not know the session when all bytes are sent to it, because its
//! Location was damaged on the way or led elsewhere, the session is lost: a new one starts, twice at most.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use tokio::sync::oneshot;

use super::manifest::claimed_digest;
use super::session::{PushSession, SessionStanding};
use super::{Registry, own_failure_may_pass, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Descriptor, Name};
use crate::retry::Outage;
use crate::store::body::checkpoints::Checkpoints;
use crate::store::{Body, ByteStream, Put};
use crate::wire::{Payload, Request, Response, Scopes};

/// How often in a row an upload may break in the middle without a byte more at the registry: a link that breaks each time
/// never carries the whole blob to a registry that forgets it.
const MOST_IN_VAIN: u32 = 20;

/// Slowest rate at which a registry works on a blob that it has received, in bytes per second: it hashes the blob again,
/// or moves it to an object store. Longest time that it may take.
const SLOWEST_COMMIT: u64 = 2 << 20;
const LONGEST_COMMIT: Duration = Duration::from_secs(270);

/// Below this many bytes, sending again is cheaper than asking how many arrived.
const WORTH_ASKING: u64 = 64 << 10;

/// A registry's answer to a POST.
enum PostAnswer {
    /// It holds the blob now.
    Held,
    /// It needs the bytes.
    Session(Box<PushSession>),
}

/// The purpose of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PostPurpose {
    /// A mount, or else a session.
    Mount,
    /// A session.
    Session,
}

/// An attempt that ended early.
struct BrokenAttempt {
    error: Error,
    /// The session that may still hold the bytes that arrived.
    session: Option<PushSession>,
    /// Whether another attempt may succeed.
    may_pass: bool,
    /// Whether the registry had a session for it, and the bytes were on their way.
    was_sending: bool,
}

impl BrokenAttempt {
    /// Returns an attempt that ended because the registry does not know the session. It may know the next one.
    fn lost(error: Error) -> Self {
        Self { error, session: None, may_pass: true, was_sending: true }
    }
}

impl From<Error> for BrokenAttempt {
    fn from(error: Error) -> Self {
        Self { may_pass: own_failure_may_pass(&error), error, session: None, was_sending: false }
    }
}

/// A blob that is being uploaded.
struct Upload<'a> {
    node: &'a Descriptor,
    body: &'a Body,
    /// The checkpoints of all attempts.
    trail: Arc<Checkpoints>,
}

impl Upload<'_> {
    /// Returns a function that starts a pass over the bytes after `from`.
    fn opener(&self, from: u64) -> impl Fn() -> ByteStream + use<> {
        let (source, trail) = (self.body.clone(), Arc::clone(&self.trail));
        move || source.open_at(from, &trail)
    }
}

/// Reads `stream` to its first piece while `work` runs; the piece may be there or not when `work` is done.
async fn begun_beside<T>(stream: ByteStream, work: impl Future<Output = T>) -> (T, ByteStream) {
    let mut stream = Box::pin(stream.peekable());
    let begin = async {
        stream.as_mut().peek().await;
        std::future::pending().await
    };
    let done = tokio::select! {
        done = work => done,
        done = begin => done,
    };
    (done, stream)
}

impl Registry {
    /// Uploads a blob, in as many attempts as necessary.
    pub(super) async fn put_blob(&self, node: &Descriptor, body: &Body) -> Result<Put> {
        let (mut tries, mut in_vain) = (self.host.tries(), 0);
        let upload = Upload { node, body, trail: Arc::default() };
        let mut left = None;
        loop {
            let before = left.as_ref().map_or(0, |session: &PushSession| session.arrived);
            let attempt = match left.take() {
                Some(session) => self.continue_upload(&upload, session).await,
                None => self.begin_upload(&upload).await,
            };
            let broken = match attempt {
                Ok(put) => return Ok(put),
                Err(broken) if broken.may_pass => broken,
                Err(broken) => return Err(broken.error),
            };
            left = broken.session;
            let gained = left.as_ref().map_or(0, |session| session.arrived.saturating_sub(before));
            tries.progress(gained);
            if broken.was_sending && is_break(&broken.error) {
                // The registry was there: however long the attempt took, it is not part of an outage.
                tries.found_again();
                in_vain = if gained > 0 { 0 } else { in_vain + 1 };
                if in_vain >= MOST_IN_VAIN {
                    return Err(broken.error);
                }
            }
            tries.wait(broken.error).await?;
        }
    }

    async fn begin_upload(&self, upload: &Upload<'_>) -> Result<Put, BrokenAttempt> {
        let (node, body) = (upload.node, upload.body);
        // A copy that is damaged here may be damaged there too: only its bytes will do.
        let foreign = body.mount_from().filter(|_| !body.is_replacing()).map(|path| path.as_str());
        let foreign = foreign.filter(|path| **path != *self.path);
        let foreign = foreign.map(str::to_owned);
        let is_foreign = foreign.is_some();
        let asked = if body.is_replacing() { PostPurpose::Session } else { PostPurpose::Mount };
        let asked = self.ask_to_the_end(node.clone(), foreign, asked);
        let (opened, early) = if body.is_early() && !is_foreign {
            let (opened, stream) = begun_beside(upload.opener(0)(), asked).await;
            (opened, Some(stream))
        } else {
            (asked.await, None)
        };
        match opened? {
            PostAnswer::Held if is_foreign => Ok(Put::Mounted),
            PostAnswer::Held => Ok(Put::Present),
            PostAnswer::Session(session) => self.finish_upload(upload, *session, early).await,
        }
    }

    /// Continues a broken session if it still exists; otherwise starts again.
    async fn continue_upload(&self, upload: &Upload<'_>, mut session: PushSession) -> Result<Put, BrokenAttempt> {
        match session.standing().await {
            Ok(SessionStanding::At(count)) if count < WORTH_ASKING => {}
            Ok(SessionStanding::At(count)) if count <= upload.trail.reach() => {
                tracing::debug!(registry = %self.label, count, "an upload is continued");
                session.arrived = count;
                return self.finish_upload(upload, session, None).await;
            }
            Ok(standing) => {
                self.note(|notes| &notes.forgets_uploads);
                if standing == SessionStanding::Gone {
                    session.done();
                }
            }
            Err(error) => return Err(BrokenAttempt { session: Some(session), ..error.into() }),
        }
        self.begin_upload(upload).await
    }

    /// Sends the bytes that have not arrived, from `begun` if a pass has already started, and closes the session.
    async fn finish_upload(
        &self,
        upload: &Upload<'_>,
        session: PushSession,
        begun: Option<ByteStream>,
    ) -> Result<Put, BrokenAttempt> {
        let is_continued = session.arrived > 0;
        match self.send(upload, &session, begun).await {
            Ok(()) => {
                session.done();
                Ok(Put::Sent(upload.node.size))
            }
            Err(error) if own_failure_may_pass(&error) && error.kind() == Kind::Unavailable => {
                let is_worth_it = upload.trail.reach() >= WORTH_ASKING;
                let may_go_on = is_worth_it && !self.notes(|notes| &notes.forgets_uploads);
                Err(BrokenAttempt { session: may_go_on.then_some(session), was_sending: true, ..error.into() })
            }
            // The registry's answer about the session was wrong: do not trust it again, and send the whole blob.
            Err(error) if is_continued && matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Corrupt) => {
                if error.side().is_none() {
                    self.note(|notes| &notes.forgets_uploads);
                    let what = suffix(&Name::Digest(upload.node.digest));
                    return Err(self.error(Kind::Unavailable, "continue upload", what).because(error).into());
                }
                Err(error.into())
            }
            // An error of the session, wherever its Location or a redirect led: an error of the source carries its
            // side.
            Err(error) if error.side().is_none() && error.kind() == Kind::NotFound => Err(BrokenAttempt::lost(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks in a separate task, which runs on if the caller is dropped: a session that was opened meanwhile would
    /// otherwise stay open for ever, as no task would know its URL.
    async fn ask_to_the_end(
        &self,
        node: Descriptor,
        foreign: Option<String>,
        asked: PostPurpose,
    ) -> Result<PostAnswer> {
        let (answer, opened) = oneshot::channel();
        let this = self.clone();
        self.host.tidy(async move {
            // Returned by `send` if no caller waits, and cancelled when dropped.
            let opened = match asked {
                PostPurpose::Mount => this.ask(&node, foreign.as_deref()).await,
                PostPurpose::Session => this.open_session(&node).await,
            };
            drop(answer.send(opened));
        });
        opened.await.unwrap_or_else(|_| Err(self.error(Kind::Interrupted, "start upload", "")))
    }

    async fn ask(&self, node: &Descriptor, foreign: Option<&str>) -> Result<PostAnswer> {
        if self.notes(|notes| &notes.refuses_mounts) {
            return self.ask_plainly(node).await;
        }
        let answer = self.mount(node, foreign.unwrap_or(&self.path)).await;
        // The other repository may be out of our reach while this one is not.
        let is_denied = |answer: &Result<Response>| match answer {
            Ok(answer) => [401, 403].contains(&answer.status().as_u16()),
            Err(error) => error.kind() == Kind::Denied,
        };
        let answer =
            if foreign.is_some() && is_denied(&answer) { self.mount(node, &self.path).await? } else { answer? };
        match answer.status().as_u16() {
            201 => self.opened(answer, PostPurpose::Mount).await,
            200..=299 if answer.header(LOCATION.as_str()).is_some() => self.opened(answer, PostPurpose::Mount).await,
            // Not about the request itself, but about the client, or about the moment.
            401 | 403 | 408 | 413 | 425 | 429 | 500.. => Err(answer.problem().await.into()),
            _ => {
                let problem = answer.problem().await;
                tracing::debug!(registry = %self.label, status = %problem.status, "a mount is not understood");
                let opened = self.ask_plainly(node).await?;
                self.note(|notes| &notes.refuses_mounts);
                Ok(opened)
            }
        }
    }

    /// `POST ?mount=&from=`. With its own repository as `from` this asks whether the blob is there, and opens the
    /// session in the same request: this saves a HEAD.
    async fn mount(&self, node: &Descriptor, from: &str) -> Result<Response> {
        let below = format!("blobs/uploads/?mount={}&from={}{}", node.digest, query_safe(from), algorithm(node, '&'));
        let request = self
            .request(Method::POST, &below, "start upload", suffix(&Name::Digest(node.digest)))
            .needing(self.scopes().and(&Scopes::pull(from)));
        self.host.send(&request).await
    }

    /// For registries that do not understand a mount: a HEAD, and a POST if the blob is missing.
    async fn ask_plainly(&self, node: &Descriptor) -> Result<PostAnswer> {
        if self.contains_once(node).await? {
            return Ok(PostAnswer::Held);
        }
        self.open_session(node).await
    }

    async fn open_session(&self, node: &Descriptor) -> Result<PostAnswer> {
        let below = format!("blobs/uploads/{}", algorithm(node, '?'));
        let request = self.request(Method::POST, &below, "start upload", suffix(&Name::Digest(node.digest)));
        let answer = self.host.send(&request).await?;
        if !answer.status().is_success() || answer.is_page() {
            return Err(answer.problem().await.into());
        }
        self.opened(answer, PostPurpose::Session).await
    }

    /// Interprets a success. Any answer with a Location opens a session, under 200 and 204 too.
    async fn opened(&self, answer: Response, asked: PostPurpose) -> Result<PostAnswer> {
        let opened = match (asked, answer.status().as_u16()) {
            (PostPurpose::Mount, 201) => PostAnswer::Held,
            _ => {
                let session = PushSession::new(&self.host, &self.label, self.scopes(), answer.location()?);
                PostAnswer::Session(Box::new(session))
            }
        };
        answer.discard().await;
        Ok(opened)
    }

    /// Sends one PUT with all bytes that have not arrived. Always with Content-Length: zot does not read a body without
    /// it.
    async fn send(&self, upload: &Upload<'_>, session: &PushSession, begun: Option<ByteStream>) -> Result<()> {
        let (node, from) = (upload.node, session.arrived);
        let what = suffix(&Name::Digest(node.digest));
        let Some(url) = session.closing(&node.digest) else {
            return Err(self.error(Kind::Invalid, "put blob", what));
        };
        self.host.content_moved();
        let mut request = Request::at(Method::PUT, url, "put blob", format!("{}{what}", self.label))
            .needing(self.scopes())
            .working_for(Duration::from_secs(node.size / SLOWEST_COMMIT).min(LONGEST_COMMIT))
            .header(CONTENT_TYPE, "application/octet-stream");
        // All bytes arrived, but the answer did not: the digest was right, or the last bytes would not have been sent.
        if from == 0 || from < node.size {
            let (open, begun) = (upload.opener(from), Mutex::new(begun));
            let open = Arc::new(move || crate::sync::lock(&begun).take().unwrap_or_else(&open));
            request = request.carrying(Payload::Stream { length: node.size - from, open });
        }
        if from > 0 && from < node.size {
            // Without a unit, both ends included (distribution-spec, "Pushing a blob in chunks").
            request = request.header(CONTENT_RANGE, &format!("{from}-{}", node.size - 1));
        }
        let answer = self.host.send(&request).await?;
        if from > 0 && answer.status().as_u16() == 416 {
            // The registry was still receiving the broken request when it was asked.
            return Err(answer.error(Kind::Unavailable, "the upload stands elsewhere than the registry said"));
        }
        // Any other success than 201 counts if it names the digest, or if the blob turns out to be there.
        let is_created = answer.status().as_u16() == 201;
        if !answer.status().is_success() || answer.is_page() {
            return Err(answer.problem().await.into());
        }
        match claimed_digest(&answer) {
            None if !is_created => {
                let why = format!("{}, and no such blob is there", answer.status());
                let lost = answer.error(Kind::Unavailable, why);
                answer.discard().await;
                if self.contains_once(node).await? { Ok(()) } else { Err(lost) }
            }
            Some(stored) if stored.algorithm() == node.digest.algorithm() && stored != node.digest => {
                Err(answer.error(Kind::Corrupt, format!("the registry stored {stored} in its place")))
            }
            _ => {
                answer.discard().await;
                Ok(())
            }
        }
    }
}

/// Returns whether the connection to the registry broke.
fn is_break(error: &Error) -> bool {
    Outage::of(error).is_some_and(Outage::is_break)
}

/// Registries hash with SHA-256 unless the request names another algorithm (distribution-spec, end-4c).
fn algorithm(node: &Descriptor, separator: char) -> String {
    match node.digest.algorithm() {
        Algorithm::Sha256 => String::new(),
        other => format!("{separator}digest-algorithm={}", other.as_str()),
    }
}

/// Escapes a repository path for a query. All its characters but the slash are safe, and in practice the slash is too;
/// some gateways disagree.
fn query_safe(path: &str) -> String {
    path.replace('/', "%2F")
}
