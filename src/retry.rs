//! The only retry loop in the program.
//!
//! Waits grow exponentially with jitter over their upper half (AWS Architecture Blog, "Exponential Backoff and Jitter",
//! 2015, "Equal Jitter"), a peer's `Retry-After` is obeyed, and both the number of tries and the time spent are
//! bounded. A transfer that makes progress between failures starts counting again: a link that breaks every ten seconds
//! still ends with everything moved.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Kind, Result};

/// Bytes that must move between two failures so that the count starts again. Less than the slowest link brings between
/// two breaks (16 kbit/s for two seconds), and enough to give up on a peer that drops every connection after a few
/// bytes.
pub(crate) const PROGRESS: u64 = 4 << 10;

/// How often and how long to try an operation.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in total, including the first. Default 5, so that four failures in a row are survived.
    pub attempts: u32,
    /// Longest wait before the second try; doubles with every further one. Default 200 ms.
    pub first_pause: Duration,
    /// Longest wait between two tries, unless the peer asked for a longer one. Default 10 s.
    pub longest_pause: Duration,
    /// Longest wait that a peer may ask for with `Retry-After`; a longer one ends the tries. Default 120 s.
    pub longest_requested: Duration,
    /// Time after which no further try starts. Default 10 min.
    pub budget: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            longest_requested: Duration::from_secs(120),
            budget: Duration::from_secs(600),
        }
    }
}

impl Retry {
    /// Returns settings that never try twice.
    #[must_use]
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
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
        Tries { retry: *self, failures: 0, moved: 0, since: Instant::now(), hook: None }
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
    failures: u32,
    /// Bytes since the last failure.
    moved: u64,
    since: Instant,
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
        self.failures += 1;
        self.moved = 0;
        let mut attempts = self.retry.attempts;
        if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) {
            // Content that is wrong three times is wrong at its source, content that is lost three times is not kept
            // there; waiting longer does not help.
            attempts = attempts.min(3);
        } else if let Some(unreachable) = Unreachable::of(&error) {
            attempts = attempts.min(unreachable.attempts());
        }
        let Some(pause) = self.pause(&error) else { return Err(error) };
        if self.failures >= attempts || self.since.elapsed() + pause > self.retry.budget {
            return Err(error);
        }
        tracing::debug!(error = %error.chain(), failures = self.failures, pause_ms = pause.as_millis() as u64, "trying again");
        tokio::time::sleep(pause).await;
        if let Some(Hook(hook)) = &self.hook {
            hook();
        }
        Ok(())
    }

    /// Records that so many more bytes have moved. Once they are enough since the last failure, it is forgotten.
    pub fn progress(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
        if self.failures > 0 && self.moved >= PROGRESS {
            self.failures = 0;
            self.since = Instant::now();
        }
    }

    /// Returns the number of failures since the last progress.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn pause(&self, error: &Error) -> Option<Duration> {
        if let Some(requested) = error.requested_pause() {
            return (requested <= self.retry.longest_requested).then_some(requested);
        }
        let doubled = self.retry.first_pause.saturating_mul(1 << (self.failures - 1).min(16));
        Some(doubled.min(self.retry.longest_pause).mul_f64(jitter()))
    }
}

/// Returns a random factor from a half to one: clients that failed together must not come back together.
fn jitter() -> f64 {
    let mut bytes = [0; 2];
    match getrandom::fill(&mut bytes) {
        Ok(()) => 0.5 + f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX) / 2.0,
        Err(_) => 1.0,
    }
}

/// The cause of an error that waiting hardly helps: it is retried less often than others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The name is unknown.
    #[error("the host name does not resolve")]
    Name,
    /// Nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// Another server answers in its place, as captive portals do; holds the text to report.
    #[error("{0}")]
    Page(String),
}

impl Unreachable {
    /// Returns how often to try.
    pub(crate) fn attempts(&self) -> u32 {
        match self {
            Self::Name => 2,
            Self::Refused | Self::Page(_) => 3,
        }
    }

    /// Finds the cause in an error.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
    }

    /// Makes it the cause of `error`, and sets a hint for the operator.
    pub(crate) fn told(self, error: Error) -> Error {
        let hint = match self {
            Self::Name => "check the spelling of the host and this machine's name service",
            Self::Refused => "check host and port, and that the registry runs",
            Self::Page(_) => "check that the host is a registry, and that no portal answers in its place",
        };
        error.because(self).hint(hint)
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
    async fn what_waiting_hardly_mends_is_given_up_sooner() {
        let page = Unreachable::Page("a page".into());
        for (why, expected) in [(Unreachable::Name, 2), (Unreachable::Refused, 3), (page, 3)] {
            let (tried, error) = (AtomicU32::new(0), why.clone().told(Error::new(Kind::Unavailable, "get")));
            let result: Result<()> = Retry::default()
                .run(Retry::transient, || async {
                    tried.fetch_add(1, Ordering::Relaxed);
                    Err(error.clone())
                })
                .await;
            assert!(result.is_err());
            assert_eq!(tried.into_inner(), expected, "{why}");
        }
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

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_after_the_time_is_up() {
        let begun = Instant::now();
        let retry = Retry { attempts: u32::MAX, budget: Duration::from_secs(60), ..Retry::default() };
        assert!(count(retry, Kind::Unavailable, Retry::transient).await > 5);
        assert!(begun.elapsed() <= retry.budget, "{:?}", begun.elapsed());
    }
}
