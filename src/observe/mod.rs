//! Events for people and machines: bars, plain lines, JSON lines, and the log.
//!
//! Reads the engine's events and the meters of transfers in flight, and does not depend on the engine's internals. Reads no
//! environment: the caller's [`Screen`] holds the output and its width.
//!
//! # JSON lines
//!
//! A stable format: fields may be added, none changes its meaning. Every line is one object with `"event"` and `"time"`
//! (RFC 3339, UTC), and with `"image"`, the destination, if it is about one image. Sizes are bytes, digests are complete, and control characters in foreign text are escaped.
//!
//! | `event` | further fields |
//! |---|---|
//! | `stage` | `stage`: the step that begins, such as `verifying the source` |
//! | `images` | `images`: the number of images of a catalog |
//! | `planned` | `manifests`, `blobs`, `bytes_total`: of the graph; `bytes_present`: known to be at the destination; `bytes_mountable`: shared by images of this run; `blobs_to_put`, `bytes_to_move`: the rest |
//! | `started` | `digest`, `media_type`, `size`; of a large layer also `platform` (if an index names it), `layer` (its number, from 1) and `layers` |
//! | `progress` | `bytes_done`: need not move any more; `bytes_moved`: read, again after a break included; `bytes_per_second`: null while unknown; `blobs_done`; `bytes_to_move` and `blobs_to_put` of all plans so far. At most two a second, none while nothing changes |
//! | `finished` | `digest`, `media_type`, `size`, `how`: `sent`, `present` or `mounted`; `bytes_sent` |
//! | `left_out` | `digest`, `media_type`, `size` of a foreign layer that the source does not serve |
//! | `image` | `to`, and `outcome` (`seeded`, `unchanged`, `failed`) of one image of several; `error` if it failed |
//! | `warning` | `text` |
//! | `outage` | `host` that does not answer, `since` when, `why`; the times of the `next_try` and of the last one (`give_up`). At most two a minute |
//! | `outage_over` | `host` that answers again, `since` when it did not, `seconds` |
//! | `error` | `text`; of the error that ends the program also `kind`, `exit_code`, and `side` and `hint` if known |
//! | `log` | `text`: a line of the log (see [`logging`]), such as a retry with `-v` |
//!
//! A `started` line may have no `finished` line: a run that fails stops at once. A listener that is too slow misses events
//! (the engine never waits for it), so read totals from the report and not from here.

mod bars;
mod json;
mod json_line;
mod label;
mod layout;
pub mod logging;
mod plain;
mod progress;
mod rate;
mod teller;
mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::copy::Message;
use bars::Bars;
use json::Json;
use plain::PlainLines;
use progress::ProgressTotals;
use teller::{Teller, Warnings};

pub use terminal::Screen;

/// How often the meters are read.
const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// Bars, wherever the output goes.
    Bar,
    /// Lines for stages, plans and warnings, and a line of progress every few seconds.
    Plain,
    /// One JSON object a line.
    Json,
    /// Warnings only.
    Warnings,
    /// Nothing, not even warnings.
    None,
}

/// Starts a task that shows `events` until every sender is dropped.
///
/// Panics outside a tokio runtime.
#[must_use]
pub fn listen(progress: Progress, events: mpsc::Receiver<Message>, screen: &Screen) -> Listener {
    let screen = screen.clone();
    let teller: Option<Box<dyn Teller>> = match progress {
        Progress::Auto if screen.columns().is_some() => Some(Box::new(Bars::new(screen))),
        Progress::Bar => Some(Box::new(Bars::new(screen))),
        Progress::Auto | Progress::Plain => Some(Box::new(PlainLines::new(screen, Timestamp::now))),
        Progress::Json => Some(Box::new(Json::new(screen, Timestamp::now))),
        Progress::Warnings => Some(Box::new(Warnings(screen))),
        Progress::None => None,
    };
    Listener { task: tokio::spawn(tell(teller, events)) }
}

/// The task that [`listen`] started. Dropping it stops the display and removes the bars.
#[derive(Debug)]
pub struct Listener {
    task: JoinHandle<()>,
}

impl Listener {
    /// Waits until all events are shown and the bars are removed. Returns only after the last sender is dropped.
    pub async fn finish(mut self) {
        // A panic of the display must not fail a copy.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(teller: Option<Box<dyn Teller>>, mut events: mpsc::Receiver<Message>) {
    let Some(mut teller) = teller else {
        while events.recv().await.is_some() {}
        return;
    };
    let mut tally = ProgressTotals::default();
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // Ticks are rare, so they come first: a stream of events must not starve the display.
            biased;
            now = ticks.tick() => {
                tally.sample(now);
                teller.tick(&tally);
            }
            message = events.recv() => {
                let Some(message) = message else { break };
                tally.take(&message);
                teller.hear(&message, &tally);
            }
        }
    }
    teller.end(&tally);
}
