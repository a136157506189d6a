//! The totals behind every display: planned, in flight, done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::rate::Rate;
use crate::copy::{Event, ImageEnd, LayerPlace, Message, PlanTotals};
use crate::oci::Descriptor;
use crate::quantity::human;
use crate::store::{Meter, Put};

/// Totals of all events so far. Several plans (the images of a catalog) add up.
#[derive(Debug, Default)]
pub(super) struct ProgressTotals {
    pub(super) stage: Option<&'static str>,
    /// The image of the run, if it is one.
    pub(super) image: Option<Arc<str>>,
    /// The images of the run, if they are several.
    pub(super) images: Option<Images>,
    pub(super) is_planned: bool,
    pub(super) bytes_to_move: u64,
    pub(super) blobs_to_put: u64,
    pub(super) blobs_done: u64,
    bytes_finished: u64,
    /// Bytes read for nodes that are no longer in flight; bytes read twice count twice.
    bytes_moved_before: u64,
    flights: Vec<MovingNode>,
    rate: Rate,
}

/// The images of a run that copies several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Images {
    pub(super) all: u64,
    pub(super) done: u64,
    pub(super) changed: u64,
    pub(super) failed: u64,
}

/// Displays as `12 of 300 images, 3 changed`.
impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, done, changed, failed } = self;
        write!(f, "{done} of {}, {changed} changed", human::count(*all, "image"))?;
        if *failed > 0 { write!(f, ", {failed} failed") } else { Ok(()) }
    }
}

/// A node in flight.
#[derive(Debug)]
pub(super) struct MovingNode {
    pub(super) node: Descriptor,
    /// Its place in the image, if it is a large layer.
    pub(super) place: Option<LayerPlace>,
    meter: Arc<Meter>,
    rate: Rate,
    /// Whether the last sample found no other holder of the meter: the transfer has ended, with or without an event.
    is_orphan: bool,
}

impl MovingNode {
    /// Returns the bytes of the present pass.
    pub(super) fn position(&self) -> u64 {
        self.meter.position().min(self.node.size)
    }

    /// Returns the bytes per second of this node alone.
    pub(super) fn per_second(&self) -> Option<u64> {
        self.rate.per_second()
    }
}

impl ProgressTotals {
    /// Adds one event.
    pub(super) fn take(&mut self, Message { image, event }: &Message) {
        if self.images.is_none() {
            self.image.clone_from(image);
        }
        match event {
            Event::Images(all) => {
                self.image = None;
                self.images.get_or_insert_default().all += all;
            }
            Event::Stage(stage) => self.stage = Some(stage.as_str()),
            Event::Planned(totals) => self.plan(totals),
            Event::Started { node, meter, place } => self.flights.push(MovingNode {
                node: node.clone(),
                place: place.clone(),
                meter: Arc::clone(meter),
                rate: Rate::default(),
                is_orphan: false,
            }),
            Event::Finished { node, put } => self.finish(node, Some(*put)),
            Event::LeftOut(node) => self.finish(node, None),
            Event::Image { end, .. } => self.count(*end),
            Event::Warning(_) | Event::Outage(_) => {}
        }
    }

    fn plan(&mut self, totals: &PlanTotals) {
        self.is_planned = true;
        self.bytes_to_move += totals.bytes_to_move + totals.bytes_mountable;
        self.blobs_to_put += totals.blobs_to_put;
    }

    fn count(&mut self, end: ImageEnd) {
        let Some(images) = &mut self.images else { return };
        images.done += 1;
        match end {
            ImageEnd::Seeded => images.changed += 1,
            ImageEnd::Failed => images.failed += 1,
            ImageEnd::Unchanged => {}
        }
    }

    /// Counts a node as done, whether it was sent, present, mounted or left out: it need not move any more.
    fn finish(&mut self, node: &Descriptor, put: Option<Put>) {
        let place = self.flights.iter().position(|flight| flight.node.digest == node.digest);
        let metered = place.map_or(0, |place| self.flights.remove(place).meter.fetched());
        // Its `Started` event may have been dropped; then this event alone counts.
        let sent = if let (None, Some(Put::Sent(bytes))) = (place, put) { bytes } else { 0 };
        self.bytes_moved_before += metered.max(sent);
        self.bytes_finished += node.size;
        self.blobs_done += u64::from(!node.is_manifest());
    }

    /// Reads all meters.
    pub(super) fn sample(&mut self, now: Instant) {
        let mut ended = 0;
        self.flights.retain_mut(|flight| {
            flight.rate.sample(now, flight.meter.fetched());
            // An aborted transfer drops its meter, and so does one whose last event was dropped. Ends it only at the second
            // sample, because the event of an ordinary end may still be in the channel.
            let was_orphan = std::mem::replace(&mut flight.is_orphan, Arc::strong_count(&flight.meter) == 1);
            let is_over = was_orphan && flight.is_orphan;
            if is_over {
                ended += flight.meter.fetched();
            }
            !is_over
        });
        self.bytes_moved_before += ended;
        self.rate.sample(now, self.bytes_moved());
    }

    /// Returns the nodes in flight, in the order of their start.
    pub(super) fn flights(&self) -> &[MovingNode] {
        &self.flights
    }

    /// Returns the bytes that need not move any more.
    pub(super) fn bytes_done(&self) -> u64 {
        let in_flight: u64 = self.flights.iter().map(MovingNode::position).sum();
        (self.bytes_finished + in_flight).min(self.bytes_to_move)
    }

    /// Returns the bytes that were read; bytes read twice count twice.
    pub(super) fn bytes_moved(&self) -> u64 {
        self.bytes_moved_before + self.flights.iter().map(|flight| flight.meter.fetched()).sum::<u64>()
    }

    /// Returns the share of the work that is done, 0 to 100.
    pub(super) fn percent(&self) -> u64 {
        (u128::from(self.bytes_done()) * 100).checked_div(u128::from(self.bytes_to_move)).map_or(100, |p| p as u64)
    }

    /// Returns the bytes per second of all nodes together.
    pub(super) fn per_second(&self) -> Option<u64> {
        self.rate.per_second()
    }

    /// Returns the time that the rest takes at this rate.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let rate = self.per_second().filter(|&rate| rate > 0)?;
        Some(Duration::from_secs((self.bytes_to_move - self.bytes_done()).div_ceil(rate)))
    }
}
