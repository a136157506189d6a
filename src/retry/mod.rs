//! The only retry loop in the program.
//!
//! Waits grow exponentially with jitter over their upper half (AWS Architecture Blog, "Exponential Backoff and Jitter",
//! 2015, "Equal Jitter"), and a peer's `Retry-After` is obeyed. The class of the failure decides how long to go on: an
//! outage ([`Outages`]) is waited for by time, any other failure is tried a few times. A transfer that makes progress
//! between failures starts counting again: a link that breaks every ten seconds still ends with everything moved.

mod backoff;
mod outage;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use outage::{Contact, Outage};
pub use outage::{OutageNews, OutageReporter, OutageState, Outages, is_first_contact, is_outage};

use self::outage::OutagePause;
use crate::error::{Error, Kind, Result};

/// Bytes that must move between two failures so that the count starts again. Less than the slowest link brings between
/// two breaks (16 kbit/s for two seconds), and enough to give up on a peer that drops every connection after a few
/// bytes.
pub(crate) const PROGRESS: u64 = 4 << 10;

/// How often and how long to try an operation.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in total, including the first, of what fails otherwise than by an outage. Default 5, so that four failures
    /// in a row are survived.
    pub attempts: u32,
    /// Longest wait before the second try; doubles with every further one. Default 200 ms.
    pub first_pause: Duration,
    /// Longest wait between two tries, unless the peer asked for a longer one. Default 10 s.
    pub longest_pause: Duration,
    /// Longest wait that a peer may ask for with `Retry-After`; a longer one ends the tries. Default 120 s.
    pub longest_requested: Duration,
    /// How long an outage of a host is waited for that has not been reached before, while no content has moved: its
    /// name may be wrong. Zero never waits. Default 20 s.
    pub first_contact: Duration,
    /// How long any other outage is waited for. Zero never waits. Default 10 min.
    pub outage: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            longest_requested: Duration::from_secs(120),
            first_contact: Duration::from_secs(20),
            outage: Duration::from_secs(600),
        }
    }
}

impl Retry {
    /// Returns settings that never try twice.
    #[must_use]
    pub fn never() -> Self {
        Self { attempts: 1, first_contact: Duration::ZERO, outage: Duration::ZERO, ..Self::default() }
    }

    /// Runs `attempt` until it succeeds, fails in a way that `again` does not accept, or the tries are used up.
    ///
    /// # Errors
    ///
    /// Fails as the last attempt does.
    pub async fn run<T, F, Fut>(&self, again: fn(&Error) -> bool, attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        self.start().run(again, attempt).await
    }

    /// Starts counting, for a caller whose attempts are not one call: a stream that is reopened where it broke.
    #[must_use]
    pub fn start(&self) -> Tries {
        Tries { retry: *self, failures: 0, silences: 0, silent_since: None, moved: 0, hook: None }
    }

    /// Returns the wait after so many failures.
    fn pause(&self, failures: u32) -> Duration {
        backoff::pause(self.first_pause, self.longest_pause, failures)
    }

    /// Returns the outages of a run that waits as long as this says. Reports them to the log until
    /// [`report_to`](Outages::report_to) is called.
    #[must_use]
    pub fn outages(&self) -> Outages {
        Outages::new(self.first_contact, self.outage)
    }

    /// The usual condition: the failure is transient.
    #[must_use]
    pub fn transient(error: &Error) -> bool {
        error.kind().is_transient()
    }

    /// The condition for content: transient, or corrupted in transit.
    #[must_use]
    pub fn refetchable(error: &Error) -> bool {
        error.kind().is_worth_refetching()
    }
}

/// Called before every retry.
struct Hook(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// The tries of one operation so far.
#[derive(Debug)]
pub struct Tries {
    retry: Retry,
    /// Failures since the last progress that were no outages.
    failures: u32,
    /// Outages since the last progress, and when the first one began.
    silences: u32,
    silent_since: Option<Instant>,
    /// Bytes since the last failure.
    moved: u64,
    hook: Option<Hook>,
}

impl Tries {
    /// Calls `hook` before every retry, to count it.
    pub(crate) fn counted(self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self { hook: Some(Hook(Arc::new(hook))), ..self }
    }

    /// Runs `attempt` until it succeeds, fails in a way that `again` does not accept, or the tries are used up.
    ///
    /// # Errors
    ///
    /// Fails as the last attempt does.
    pub async fn run<T, F, Fut>(mut self, again: fn(&Error) -> bool, mut attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T>> + Send,
        T: Send,
    {
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if again(&error) => self.wait(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts the failure and waits before the next try.
    ///
    /// # Errors
    ///
    /// `error` itself, if there is no further try.
    pub async fn wait(&mut self, error: Error) -> Result<()> {
        self.moved = 0;
        let requested = error.requested_pause();
        if requested.is_some_and(|pause| pause > self.retry.longest_requested) {
            return Err(error);
        }
        match Outage::of(&error) {
            Some(outage) => {
                let outage = outage.clone();
                self.wait_out(&outage, requested, error).await?;
            }
            None => self.wait_once_more(requested, error).await?,
        }
        if let Some(Hook(hook)) = &self.hook {
            hook();
        }
        Ok(())
    }

    /// Waits before the next try of what is tried only a few times.
    async fn wait_once_more(&mut self, requested: Option<Duration>, error: Error) -> Result<()> {
        self.failures += 1;
        let mut attempts = self.retry.attempts;
        if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) || OtherServer::of(&error).is_some() {
            // Content that is wrong three times is wrong at its source, content that is lost three times is not kept
            // there, and a portal that answers three times will not go away: waiting longer does not help.
            attempts = attempts.min(3);
        }
        if self.failures >= attempts {
            return Err(error);
        }
        let pause = requested.unwrap_or_else(|| self.retry.pause(self.failures));
        tracing::debug!(error = %error.chain(), failures = self.failures, pause_ms = pause.as_millis() as u64, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Waits before the next try during an outage.
    async fn wait_out(&mut self, outage: &Outage, requested: Option<Duration>, error: Error) -> Result<()> {
        self.silences += 1;
        let since = *self.silent_since.get_or_insert(outage.since());
        let wanted = OutagePause { requested, ours: self.retry.pause(self.silences) };
        let Some(pause) = outage.pause(since, wanted, self.silences == 1) else {
            return Err(outage.given_up(error, since));
        };
        tracing::debug!(error = %error.chain(), outages = self.silences, pause_ms = pause.as_millis() as u64, "trying again");
        match requested {
            Some(_) => tokio::time::sleep(pause).await,
            None => outage.wait(pause).await,
        }
        Ok(())
    }

    /// Records that so many more bytes have moved. Once they are enough since the last failure, it is forgotten.
    pub fn progress(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
        if self.failures() > 0 && self.moved >= PROGRESS {
            (self.failures, self.silences) = (0, 0);
            self.found_again();
        }
    }

    /// Records that the peer was there, although nothing that it got counts: the time of an outage begins anew, and the
    /// pauses go on growing.
    pub(crate) fn found_again(&mut self) {
        self.silent_since = None;
    }

    /// Returns the number of failures since the last progress.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures + self.silences
    }
}

/// The cause of an error: another server answers in the place of the host, as captive portals do. Holds the text to
/// report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OtherServer(pub(crate) String);

impl OtherServer {
    /// Finds the cause in an error.
    fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
    }

    /// Makes it the cause of `error`, and sets a hint for the operator.
    pub(crate) fn told(self, error: Error) -> Error {
        error.because(self).hint("check that the host is a registry, and that no portal answers in its place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn count(retry: Retry, kind: Kind, again: fn(&Error) -> bool) -> u32 {
        let tried = AtomicU32::new(0);
        let result: Result<()> = retry
            .run(again, || async {
                tried.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(kind, "try"))
            })
            .await;
        assert_eq!(result.unwrap_err().kind(), kind);
        tried.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        let retry = Retry::default();
        assert_eq!(count(retry, Kind::Unavailable, Retry::transient).await, 5);
        assert_eq!(count(retry, Kind::Untrusted, Retry::transient).await, 1);
        assert_eq!(count(retry, Kind::Corrupt, Retry::transient).await, 1);
        assert_eq!(count(retry, Kind::Corrupt, Retry::refetchable).await, 3);
        assert_eq!(count(Retry::never(), Kind::Unavailable, Retry::transient).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_portal_is_given_up_sooner() {
        let (tried, error) =
            (AtomicU32::new(0), OtherServer("a page".into()).told(Error::new(Kind::Unavailable, "get")));
        let result: Result<()> = Retry::default()
            .run(Retry::transient, || async {
                tried.fetch_add(1, Ordering::Relaxed);
                Err(error.clone())
            })
            .await;
        assert!(result.is_err());
        assert_eq!(tried.into_inner(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_pause_is_obeyed_and_bounded() {
        let begun = Instant::now();
        let mut tries = Retry::default().start();
        let busy = || Error::new(Kind::Unavailable, "get");
        tries.wait(busy().retry_after(Duration::from_secs(7))).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 7);
        assert!(tries.wait(busy().retry_after(Duration::from_secs(86_400))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_the_count_anew() {
        let mut tries = Retry::default().start();
        let broken = || Error::new(Kind::Unavailable, "read");
        for _ in 0..20 {
            tries.wait(broken()).await.unwrap();
            tries.progress(PROGRESS - 1);
            tries.progress(1);
        }
        assert_eq!(tries.failures(), 0);
        // A few bytes per connection are no progress.
        let mut waits = 0;
        while tries.wait(broken()).await.is_ok() {
            tries.progress(PROGRESS - 1);
            waits += 1;
        }
        assert_eq!(waits, 4);
    }
}
