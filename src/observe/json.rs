//! One JSON object a line, for machines. The form is described in the header of [`observe`](super).

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::json_line::{JsonLine, stamp};
use super::progress::ProgressTotals;
use super::teller::Teller;
use super::terminal::Screen;
use crate::copy::{Event, Message};
use crate::error::printable;
use crate::retry::{OutageNews, OutageState};
use crate::store::Put;

/// Shortest time between two `progress` lines.
const PACE: Duration = Duration::from_millis(500);

/// Writes one object for each event, and samples in between.
#[derive(Debug)]
pub(super) struct Json {
    screen: Screen,
    clock: fn() -> Timestamp,
    /// The time of the last sample, and its bytes done, bytes moved and blobs done.
    last: Option<(Instant, [u64; 3])>,
}

impl Json {
    pub(super) fn new(screen: Screen, clock: fn() -> Timestamp) -> Self {
        screen.use_json();
        Self { screen, clock, last: None }
    }

    fn sample(&mut self, tally: &ProgressTotals) {
        let state = [tally.bytes_done(), tally.bytes_moved(), tally.blobs_done];
        if !tally.is_planned || self.last.is_some_and(|(_, last)| last == state) {
            return;
        }
        self.last = Some((Instant::now(), state));
        let line = JsonLine::Progress {
            time: stamp((self.clock)()),
            bytes_done: tally.bytes_done(),
            bytes_to_move: tally.bytes_to_move,
            bytes_moved: tally.bytes_moved(),
            bytes_per_second: tally.per_second(),
            blobs_done: tally.blobs_done,
            blobs_to_put: tally.blobs_to_put,
        };
        self.screen.json(&line, None);
    }
}

impl Teller for Json {
    fn hear(&mut self, Message { image, event }: &Message, _: &ProgressTotals) {
        let image = if let Event::Image { to, .. } = event { Some(to.as_str()) } else { image.as_deref() };
        self.screen.json(&told(event, (self.clock)()), image);
    }

    fn tick(&mut self, tally: &ProgressTotals) {
        if self.last.is_none_or(|(at, _)| at.elapsed() >= PACE) {
            self.sample(tally);
        }
    }

    fn end(&mut self, tally: &ProgressTotals) {
        self.sample(tally);
    }
}

fn told(event: &Event, now: Timestamp) -> JsonLine {
    let time = stamp(now);
    match event {
        Event::Outage(news) => outage(news, now),
        Event::Stage(stage) => JsonLine::Stage { time, stage: stage.as_str() },
        Event::Images(images) => JsonLine::Images { time, images: *images },
        Event::Planned(totals) => JsonLine::Planned { time, totals: totals.clone() },
        Event::Started { node, place, .. } => JsonLine::Started {
            time,
            digest: node.digest,
            media_type: printable(node.media_type.as_str()),
            size: node.size,
            platform: place.as_ref().and_then(|place| place.platform.as_deref()).map(printable),
            layer: place.as_ref().map(|place| place.layer),
            layers: place.as_ref().map(|place| place.layers),
        },
        Event::Finished { node, put } => {
            let (how, bytes_sent) = match *put {
                Put::Present => ("present", 0),
                Put::Mounted => ("mounted", 0),
                Put::Sent(bytes) => ("sent", bytes),
            };
            let media_type = printable(node.media_type.as_str());
            JsonLine::Finished { time, digest: node.digest, media_type, size: node.size, how, bytes_sent }
        }
        Event::LeftOut(node) => JsonLine::LeftOut {
            time,
            digest: node.digest,
            media_type: printable(node.media_type.as_str()),
            size: node.size,
        },
        Event::Image { to, end, error } => {
            let error = error.as_deref().map(printable);
            JsonLine::Image { time, to: printable(to), outcome: end.as_str(), error }
        }
        Event::Warning(text) => JsonLine::Warning { time, text: printable(text) },
    }
}

fn outage(news: &OutageNews, now: Timestamp) -> JsonLine {
    let (time, host, since) = (stamp(now), printable(&news.host), stamp(news.since));
    match &news.state {
        OutageState::Silent { why, next_try, left } => {
            let (next_try, give_up) = (stamp(now + *next_try), stamp(now + *left));
            JsonLine::Outage { time, host, since, why: printable(why), next_try, give_up }
        }
        OutageState::Over => JsonLine::OutageOver { time, host, since, seconds: news.lasted.as_secs() },
    }
}
