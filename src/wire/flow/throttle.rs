//! Limits how many requests a host gets at the same time, once it has asked for fewer.
//!
//! A 429 or a 503 halves the requests in flight, every other answer makes room for a few more (additive increase,
//! multiplicative decrease, as in TCP), and a `Retry-After` delays all requests to the host, not only the refused one.
//! A request is in flight until the head of its answer arrives: the body does not count.
//!
//! A host that has never refused costs two atomic additions per request. Uploads have their own window of the same
//! size: an upload may have to wait for a download from the same host, so that download must not wait for the upload.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The window from which on a host counts as one that refuses nothing: more than are ever in flight.
const OPEN: u32 = 64;

/// The class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// It asks, or carries content that is in memory.
    Question,
    /// It carries a stream, which may come from the same host.
    Upload,
}

/// The throttle of one host.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Whether `window` applies. Read without the lock.
    is_held: AtomicBool,
    in_flight: [AtomicU32; 2],
    window: Mutex<ThrottleWindow>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct ThrottleWindow {
    /// Most requests in flight per class.
    size: u32,
    /// Answers since it last grew.
    answered: u32,
    /// How often it was halved.
    cuts: u32,
    /// No request is sent before this time.
    not_before: Option<Instant>,
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct ThrottleSlot<'a> {
    throttle: &'a Throttle,
    class: RequestClass,
    /// How often the window had been halved when this request was sent.
    cuts: u32,
}

impl Throttle {
    /// Waits until a request may be sent.
    pub(crate) async fn enter(&self, class: RequestClass) -> ThrottleSlot<'_> {
        if !self.is_held.load(Ordering::Acquire) {
            self.in_flight(class).fetch_add(1, Ordering::AcqRel);
            return ThrottleSlot { throttle: self, class, cuts: 0 };
        }
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let not_before = match self.admit(class) {
                Ok(slot) => return slot,
                Err(not_before) => not_before,
            };
            match not_before {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => changed.await,
            }
        }
    }

    /// Returns a slot, or the time to wait for; without a time, the caller waits for a change.
    fn admit(&self, class: RequestClass) -> Result<ThrottleSlot<'_>, Option<Instant>> {
        let window = self.lock();
        if let Some(moment) = window.not_before.filter(|moment| *moment > Instant::now()) {
            return Err(Some(moment));
        }
        let in_flight = self.in_flight(class);
        if window.size > 0 && in_flight.load(Ordering::Acquire) >= window.size {
            return Err(None);
        }
        in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(ThrottleSlot { throttle: self, class, cuts: window.cuts })
    }

    fn in_flight(&self, class: RequestClass) -> &AtomicU32 {
        &self.in_flight[class as usize]
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleWindow> {
        // A panic elsewhere leaves the window consistent: every change is an assignment.
        crate::sync::lock(&self.window)
    }
}

impl ThrottleSlot<'_> {
    /// Records that the host refused the request, and how long it asked to wait.
    pub(crate) fn refused(self, pause: Option<Duration>) {
        let throttle = self.throttle;
        let mut window = throttle.lock();
        // Requests that were in flight together are refused together: they count as one refusal.
        if !throttle.is_held.load(Ordering::Acquire) || self.cuts == window.cuts {
            let busiest =
                throttle.in_flight.iter().map(|count| count.load(Ordering::Acquire)).max().unwrap_or_default();
            let before = if window.size == 0 { busiest } else { busiest.min(window.size) };
            window.size = (before / 2).max(1);
            window.cuts += 1;
            window.answered = 0;
            tracing::debug!(window = window.size, "the host asks for less");
        }
        if let Some(moment) = pause.and_then(|pause| Instant::now().checked_add(pause)) {
            window.not_before = window.not_before.max(Some(moment));
        }
        throttle.is_held.store(true, Ordering::Release);
    }

    /// Records that the host has answered.
    pub(crate) fn answered(self) {
        let throttle = self.throttle;
        if !throttle.is_held.load(Ordering::Acquire) {
            return;
        }
        let mut window = throttle.lock();
        // An answer to a request sent before the last refusal says nothing about the time after it.
        if window.size == 0 || self.cuts != window.cuts {
            return;
        }
        window.answered += 1;
        if window.answered >= window.size {
            window.answered = 0;
            window.size += 1;
        }
        if window.size >= OPEN {
            window.size = 0;
            throttle.is_held.store(false, Ordering::Release);
        }
    }
}

impl Drop for ThrottleSlot<'_> {
    fn drop(&mut self) {
        self.throttle.in_flight(self.class).fetch_sub(1, Ordering::AcqRel);
        if self.throttle.is_held.load(Ordering::Acquire) || self.cuts > 0 {
            self.throttle.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// Returns how many more requests may be sent right now.
    fn room(throttle: &Throttle, class: RequestClass) -> usize {
        let mut slots = Vec::new();
        while slots.len() < 100
            && let Some(slot) = throttle.enter(class).now_or_never()
        {
            slots.push(slot);
        }
        slots.len()
    }

    async fn fly(throttle: &Throttle, count: usize) -> Vec<ThrottleSlot<'_>> {
        let mut slots = Vec::new();
        for _ in 0..count {
            slots.push(throttle.enter(RequestClass::Question).await);
        }
        slots
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_come_together_halve_the_window_once_and_later_ones_again() {
        let throttle = Throttle::default();
        assert_eq!(room(&throttle, RequestClass::Question), 100, "nothing is held back without a reason");
        for window in [8, 4, 2, 1, 1] {
            let count = if window == 8 { 16 } else { room(&throttle, RequestClass::Question) };
            for slot in fly(&throttle, count).await {
                slot.refused(None);
            }
            assert_eq!(
                (room(&throttle, RequestClass::Question), room(&throttle, RequestClass::Upload)),
                (window, window)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_grows_by_one_for_every_window_of_answers_until_it_is_open() {
        let throttle = Throttle::default();
        for slot in fly(&throttle, 8).await {
            slot.refused(None);
        }
        for window in 4..OPEN as usize {
            assert_eq!(room(&throttle, RequestClass::Question), window);
            for slot in fly(&throttle, window).await {
                slot.answered();
            }
        }
        assert_eq!(room(&throttle, RequestClass::Question), 100);
        assert!(!throttle.is_held.load(Ordering::Acquire));
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_pause_holds_everybody_back() {
        let throttle = Throttle::default();
        let mut slots = fly(&throttle, 3).await;
        let begun = Instant::now();
        slots.remove(0).refused(Some(Duration::from_secs(7)));
        slots.remove(0).refused(Some(Duration::from_secs(3)));
        slots.clear();
        for class in [RequestClass::Question, RequestClass::Upload] {
            assert_eq!(room(&throttle, class), 0);
        }
        throttle.enter(RequestClass::Question).await.answered();
        assert_eq!(begun.elapsed().as_secs(), 7, "the longer of two");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_when_another_ends_however_that_ends() {
        let throttle = Throttle::default();
        throttle.enter(RequestClass::Question).await.refused(None);
        let held = throttle.enter(RequestClass::Question).await;
        let (mut next, mut last) =
            (Box::pin(throttle.enter(RequestClass::Question)), Box::pin(throttle.enter(RequestClass::Question)));
        assert!((&mut next).now_or_never().is_none() && (&mut last).now_or_never().is_none());
        drop(held);
        let next = next.await;
        assert!((&mut last).now_or_never().is_none(), "one at a time");
        next.answered();
        last.await.answered();
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_never_keeps_a_download_from_its_host_waiting() {
        let throttle = Throttle::default();
        throttle.enter(RequestClass::Upload).await.refused(None);
        let _upload = throttle.enter(RequestClass::Upload).await;
        assert_eq!((room(&throttle, RequestClass::Upload), room(&throttle, RequestClass::Question)), (0, 1));
    }
}
