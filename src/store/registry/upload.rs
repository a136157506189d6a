//! Writing blobs: one POST that asks whether the registry has the bytes and opens a session if not, and one PUT.

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_TYPE;
use tokio::sync::oneshot;

use super::manifest::claimed_digest;
use super::session::Session;
use super::{Registry, suffix};
use crate::error::{Kind, Result};
use crate::oci::{Algorithm, Descriptor, Name};
use crate::store::{Body, Put};
use crate::wire::{Answer, Payload, Scopes};

/// What a registry said to a POST.
enum Opened {
    /// It holds the blob now.
    Held,
    /// It wants the bytes.
    Session(Session),
}

impl Registry {
    /// One attempt from the beginning. A session that broke is never continued: registry 2.8 answers 404 there from
    /// then on, zot deletes it.
    pub(super) async fn put_blob(&self, node: &Descriptor, body: &Body) -> Result<Put> {
        let foreign = body.mount_from().map(|path| path.as_str()).filter(|path| **path != *self.path);
        let foreign = foreign.map(str::to_owned);
        let is_foreign = foreign.is_some();
        let session = match self.ask_to_the_end(node.clone(), foreign).await? {
            Opened::Held if is_foreign => return Ok(Put::Mounted),
            Opened::Held => return Ok(Put::Present),
            Opened::Session(session) => session,
        };
        self.send(node, body, session).await?;
        Ok(Put::Sent(node.size))
    }

    /// Asks in a task of its own, which goes on if whoever waits goes away: a session that was opened meanwhile would
    /// stay open for good, as nobody would know its place.
    async fn ask_to_the_end(&self, node: Descriptor, foreign: Option<String>) -> Result<Opened> {
        let (answer, opened) = oneshot::channel();
        let this = self.clone();
        self.host.client().tidy(async move {
            // Given back when nobody waits, and cancelled as it drops.
            drop(answer.send(this.ask(&node, foreign.as_deref()).await));
        });
        opened.await.unwrap_or_else(|_| Err(self.error(Kind::Interrupted, "start upload", "")))
    }

    async fn ask(&self, node: &Descriptor, foreign: Option<&str>) -> Result<Opened> {
        if self.notes(|notes| &notes.refuses_mounts) {
            return self.ask_plainly(node).await;
        }
        let answer = self.mount(node, foreign.unwrap_or(&self.path)).await;
        // The other repository may be out of our reach while this one is not.
        let is_denied = |answer: &Result<Answer>| match answer {
            Ok(answer) => [401, 403].contains(&answer.status().as_u16()),
            Err(error) => error.kind() == Kind::Denied,
        };
        let answer =
            if foreign.is_some() && is_denied(&answer) { self.mount(node, &self.path).await? } else { answer? };
        match answer.status().as_u16() {
            201 | 202 => self.opened(answer).await,
            // Not a refusal of the question, but of whoever asks, or of asking now.
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

    /// `POST ?mount=&from=`. With its own repository as `from` this is the question whether the blob is there, which
    /// opens the session in the same request: a HEAD less.
    async fn mount(&self, node: &Descriptor, from: &str) -> Result<Answer> {
        let below = format!("blobs/uploads/?mount={}&from={}{}", node.digest, query_safe(from), algorithm(node, '&'));
        let request = self
            .request(Method::POST, &below, "start upload", suffix(&Name::Digest(node.digest)))
            .needing(self.scopes.clone().and(&Scopes::pull(from)));
        self.host.send(&request).await
    }

    /// For registries that do not understand a mount: HEAD, and a POST if that says no.
    async fn ask_plainly(&self, node: &Descriptor) -> Result<Opened> {
        if self.contains_once(node).await? {
            return Ok(Opened::Held);
        }
        let below = format!("blobs/uploads/{}", algorithm(node, '?'));
        let request = self.request(Method::POST, &below, "start upload", suffix(&Name::Digest(node.digest)));
        let answer = self.host.send(&request).await?.expect(&[202]).await?;
        self.opened(answer).await
    }

    async fn opened(&self, answer: Answer) -> Result<Opened> {
        let opened = match answer.status().as_u16() {
            201 => Opened::Held,
            _ => Opened::Session(Session::new(&self.host, &self.label, &self.scopes, answer.location()?)),
        };
        answer.discard().await;
        Ok(opened)
    }

    /// One PUT with everything. Content-Length always: zot does not read a body without it.
    async fn send(&self, node: &Descriptor, body: &Body, session: Session) -> Result<()> {
        let what = suffix(&Name::Digest(node.digest));
        let Some(url) = session.closing(&node.digest) else {
            return Err(self.error(Kind::Invalid, "put blob", what));
        };
        let source = body.clone();
        let payload = Payload::Stream { length: node.size, open: Arc::new(move || source.open()) };
        let request = crate::wire::Request::at(Method::PUT, url, "put blob", format!("{}{what}", self.label))
            .needing(self.scopes.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .carrying(payload);
        let answer = self.host.send(&request).await?.expect(&[201]).await?;
        session.done();
        match claimed_digest(&answer) {
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

/// Registries hash with SHA-256 unless they are told otherwise (distribution-spec, end-4c).
fn algorithm(node: &Descriptor, separator: char) -> String {
    match node.digest.algorithm() {
        Algorithm::Sha256 => String::new(),
        other => format!("{separator}digest-algorithm={}", other.as_str()),
    }
}

/// A repository path as a query's value. All its characters but the slash are safe, and so is that in practice; some
/// gateways disagree.
fn query_safe(path: &str) -> String {
    path.replace('/', "%2F")
}
