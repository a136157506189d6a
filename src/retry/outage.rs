//! Outages: which hosts do not answer, since when, and how long the run waits for them.
//!
//! A client has one [`Outages`], which all its hosts and requests share. An error that is an outage carries its
//! [`Outage`] as its cause, so that the retry loop can tell it from a failure that the host answered with, whichever
//! store or stream the error has passed through.
//!
//! Time is counted for each host: a hundred images that want the same host wait for it once, not a hundred times. It is
//! reported for each host too: sixteen requests that wait for one host are one outage.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::backoff::jitter;
use crate::error::{Error, find_cause};
use crate::sync::lock;

/// An outage shorter than this is not reported: a connection that breaks once is no news.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Shortest time between two reports of one outage.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Two failures further apart than this belong to two outages, although no answer came in between: a host that is asked
/// once an hour gets its full time each hour. More than the longest `Retry-After` that is obeyed.
const CONTINUOUS: Duration = Duration::from_secs(300);

/// Longest wait of the others once a waiting request has got an answer: they do not come all at once.
const AFTER_ANSWER: Duration = Duration::from_secs(1);

/// A function that gets the news of outages.
pub type OutageReporter = Arc<dyn Fn(&OutageNews) + Send + Sync>;

/// The outages of a run. Clones share their state.
#[derive(Debug, Clone)]
pub struct Outages {
    shared: Arc<Shared>,
}

struct Shared {
    first_contact: Duration,
    longest: Duration,
    has_moved: AtomicBool,
    hosts: Mutex<HashMap<Arc<str>, HostState>>,
    /// Notified when a host answers after an outage.
    answered: Notify,
    reporter: Mutex<Option<OutageReporter>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outages")
            .field("has_moved", &self.has_moved)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct HostState {
    /// Whether the host has ever given what it was asked for, or said that it does not have it.
    is_met: bool,
    silence: Option<Silence>,
}

/// One outage of one host.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// The first and the last failure that showed it.
    first: Instant,
    last: Instant,
    /// The time of the last report, and of the next try that it announced.
    told: Option<(Instant, Instant)>,
}

impl Outages {
    /// Returns no outages, for hosts that are waited for so long at first contact and later.
    pub(super) fn new(first_contact: Duration, longest: Duration) -> Self {
        let shared = Shared {
            first_contact,
            longest,
            has_moved: AtomicBool::new(false),
            hosts: Mutex::default(),
            answered: Notify::new(),
            reporter: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Records that the run has moved content: from now on it waits for the longer time.
    pub fn content_moved(&self) {
        self.shared.has_moved.store(true, Ordering::Relaxed);
    }

    /// Returns whether the run has moved content.
    #[must_use]
    pub fn has_moved_content(&self) -> bool {
        self.shared.has_moved.load(Ordering::Relaxed)
    }

    /// Sends all further news to `reporter`; to the log if it is `None`.
    pub fn report_to(&self, reporter: Option<OutageReporter>) {
        *lock(&self.shared.reporter) = reporter;
    }

    /// Returns the contact with `host`.
    pub(crate) fn contact(&self, host: &str) -> Contact {
        Contact { outages: self.clone(), host: host.into() }
    }

    fn report(&self, news: &OutageNews) {
        let reporter = lock(&self.shared.reporter).clone();
        match reporter {
            Some(reporter) => reporter(news),
            None => tracing::warn!("{news}"),
        }
    }
}

/// The contact with one host, as the whole run sees it.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    outages: Outages,
    host: Arc<str>,
}

impl Contact {
    /// Records an answer, which ends an outage. `is_met` means that the host did what it is there for.
    pub(crate) fn answered(&self, is_met: bool) {
        let shared = &self.outages.shared;
        let over = {
            let mut hosts = lock(&shared.hosts);
            match hosts.get_mut(&self.host) {
                Some(state) => {
                    state.is_met |= is_met;
                    state.silence.take()
                }
                None => {
                    hosts.insert(Arc::clone(&self.host), HostState { is_met, silence: None });
                    None
                }
            }
        };
        let Some(silence) = over else { return };
        shared.answered.notify_waiters();
        if silence.told.is_some() {
            self.outages.report(&OutageNews::over(&self.host, silence.since.elapsed()));
        }
    }

    /// Returns the contact of the same run with another host.
    pub(crate) fn of_host(&self, host: &str) -> Self {
        self.outages.contact(host)
    }

    /// Records that content has moved to or from the host.
    pub(crate) fn content_moved(&self) {
        self.outages.content_moved();
    }

    /// Returns the cause of an error: the host has not answered since `since`.
    pub(crate) fn outage(&self, why: impl Into<String>, since: Instant) -> Outage {
        Outage { contact: self.clone(), why: why.into(), since, is_answer: false }
    }

    /// Returns the cause of an error: a gateway answers that the host is not there.
    pub(crate) fn refusal(&self, why: impl Into<String>) -> Outage {
        Outage { is_answer: true, ..self.outage(why, Instant::now()) }
    }
}

/// The cause of an error that waiting may cure: no connection, a connection that broke or is silent, a server that says
/// that it is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Outage {
    contact: Contact,
    why: String,
    since: Instant,
    is_answer: bool,
}

impl Outage {
    /// Finds the outage among the causes of `error`.
    pub(crate) fn of(error: &Error) -> Option<&Self> {
        find_cause(error)
    }

    /// Returns whether the connection is missing, broke or fell silent.
    pub(crate) fn is_break(&self) -> bool {
        !self.is_answer
    }

    /// Returns since when the host has been silent, as this error shows it.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Returns how long to wait before the next try; `None` if the time is over. `since` is when the
    /// operation last made progress, and `is_first` its first failure since then.
    pub(super) fn pause(&self, since: Instant, wanted: OutagePause, is_first: bool) -> Option<Duration> {
        let shared = &self.contact.outages.shared;
        let has_moved = self.contact.outages.has_moved_content();
        let now = Instant::now();
        let (pause, news) = {
            let mut hosts = lock(&shared.hosts);
            let state = hosts.entry(Arc::clone(&self.contact.host)).or_default();
            // A host that asks for a pause is there.
            let is_met = state.is_met || has_moved || wanted.requested.is_some();
            let limit = if is_met { shared.longest } else { shared.first_contact };
            state.silence.take_if(|silence| now.duration_since(silence.last) > CONTINUOUS);
            let first = Silence { since: self.since, first: now, last: now, told: None };
            let silence = state.silence.get_or_insert(first);
            silence.last = now;
            let left = limit.saturating_sub(now.saturating_duration_since(silence.since.min(since)));
            // A silence may be noticed late. Each operation gets one more try while the outage is news.
            let is_news = is_first && now.duration_since(silence.first) < limit;
            // Nothing that the host asks for is cut short.
            let pause = match wanted.requested {
                Some(requested) if requested > left => return None,
                None if left.is_zero() => is_news.then_some(wanted.ours)?,
                requested => wanted.ours.min(left).max(requested.unwrap_or_default()),
            };
            (pause, silence.news(&self.contact.host, &self.why, now, pause, left))
        };
        news.iter().for_each(|news| self.contact.outages.report(news));
        Some(pause)
    }

    /// Waits for `pause`, or less if the host answers another request meanwhile.
    pub(super) async fn wait(&self, pause: Duration) {
        let answered = self.contact.outages.shared.answered.notified();
        let begun = Instant::now();
        tokio::select! {
            () = sleep(pause) => {}
            () = answered => sleep(pause.saturating_sub(begun.elapsed()).min(AFTER_ANSWER.mul_f64(jitter()))).await,
        }
    }

    /// Returns `error`, which has this cause, with the time that was waited for nothing.
    pub(super) fn given_up(&self, error: Error, since: Instant) -> Error {
        let hosts = lock(&self.contact.outages.shared.hosts);
        let silence = hosts.get(&self.contact.host).and_then(|state| state.silence.as_ref());
        let waited = silence.map_or(since, |silence| silence.since.min(since)).elapsed();
        let is_direct = std::error::Error::source(&error).is_some_and(|cause| cause.is::<Self>());
        if waited < TELL_AFTER || !is_direct {
            return error;
        }
        let why = format!("{}, for {}", self.why, Seconds::nearest(waited));
        error.because(Self { why, ..self.clone() })
    }
}

/// Returns whether `error` is an outage.
#[must_use]
pub fn is_outage(error: &Error) -> bool {
    Outage::of(error).is_some()
}

/// Returns whether `error` is an outage of a host that the run has not reached before.
#[must_use]
pub fn is_first_contact(error: &Error) -> bool {
    Outage::of(error).is_some_and(|Outage { contact, .. }| {
        !lock(&contact.outages.shared.hosts).get(&contact.host).is_some_and(|state| state.is_met)
    })
}

/// The wait before the next try.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutagePause {
    /// The least that the host asks for.
    pub(super) requested: Option<Duration>,
    /// The usual one.
    pub(super) ours: Duration,
}

impl Silence {
    /// Returns the news of this outage, if it is time for some.
    fn news(&mut self, host: &str, why: &str, now: Instant, pause: Duration, left: Duration) -> Option<OutageNews> {
        let (next, since) = (now + pause, self.since.min(now));
        let is_due = match self.told {
            None => next >= since + TELL_AFTER,
            Some((told, announced)) => now >= told + TELL_EVERY && now >= announced,
        };
        if !is_due {
            return None;
        }
        self.told = Some((now, next));
        let lasted = now - since;
        let state = OutageState::Silent { why: why.to_owned(), next_try: pause, left };
        Some(OutageNews { host: host.to_owned(), since: ago(lasted), lasted, state })
    }
}

/// News of an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutageNews {
    /// `host[:port]`.
    pub host: String,
    /// When the silence began.
    pub since: Timestamp,
    /// How long it has lasted.
    pub lasted: Duration,
    /// Whether it goes on.
    pub state: OutageState,
}

/// How an outage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutageState {
    /// The host does not answer.
    Silent {
        /// The failure that shows it.
        why: String,
        /// Time until the next try.
        next_try: Duration,
        /// Time until the run gives up.
        left: Duration,
    },
    /// The host answers again.
    Over,
}

impl OutageNews {
    fn over(host: &str, lasted: Duration) -> Self {
        Self { host: host.to_owned(), since: ago(lasted), lasted, state: OutageState::Over }
    }
}

/// The one line that all forms of display and the log show.
impl fmt::Display for OutageNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, since, lasted, state } = self;
        match state {
            OutageState::Silent { why, next_try, left } => {
                let (since, next, left) = (since.strftime("%H:%M:%SZ"), Seconds(*next_try), Seconds(*left));
                write!(f, "no answer from {host} since {since} ({why}): next try in {next}, giving up in {left}")
            }
            OutageState::Over => write!(f, "{host} answers again after {}", Seconds::nearest(*lasted)),
        }
    }
}

/// Returns the time that was `lasted` ago.
fn ago(lasted: Duration) -> Timestamp {
    Timestamp::now() - lasted
}

/// A duration in minutes and seconds, rounded up.
struct Seconds(Duration);

impl Seconds {
    fn nearest(duration: Duration) -> Self {
        Self(Duration::from_secs((duration + Duration::from_millis(500)).as_secs()))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        match (seconds / 60, seconds % 60) {
            (0, seconds) => write!(f, "{seconds} s"),
            (minutes, 0) => write!(f, "{minutes} min"),
            (minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests;
