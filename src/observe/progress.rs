//! The sums behind every display: what was planned, what is in flight, what is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::rate::Rate;
use crate::copy::{Event, PlanTotals};
use crate::oci::Descriptor;
use crate::store::{Meter, Put};

/// What the events so far amount to. Several plans (the images of a catalog) add up.
#[derive(Debug, Default)]
pub(super) struct ProgressTotals {
    pub(super) stage: Option<&'static str>,
    pub(super) is_planned: bool,
    pub(super) bytes_to_move: u64,
    pub(super) blobs_to_put: u64,
    pub(super) blobs_done: u64,
    bytes_finished: u64,
    /// Read for nodes that are no longer in flight, with what was read twice.
    bytes_moved_before: u64,
    flights: Vec<MovingNode>,
    rate: Rate,
}

/// A node on its way.
#[derive(Debug)]
pub(super) struct MovingNode {
    pub(super) node: Descriptor,
    meter: Arc<Meter>,
    rate: Rate,
    /// Seen to be held by nobody else: its transfer has ended, however that was told.
    is_orphan: bool,
}

impl MovingNode {
    /// Bytes of the pass that is under way.
    pub(super) fn position(&self) -> u64 {
        self.meter.position().min(self.node.size)
    }

    /// Bytes per second of this node alone.
    pub(super) fn per_second(&self) -> Option<u64> {
        self.rate.per_second()
    }
}

impl ProgressTotals {
    /// Takes in one event.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Stage(stage) => self.stage = Some(stage.as_str()),
            Event::Planned(totals) => self.plan(totals),
            Event::Started { node, meter } => self.flights.push(MovingNode {
                node: node.clone(),
                meter: Arc::clone(meter),
                rate: Rate::default(),
                is_orphan: false,
            }),
            Event::Finished { node, put } => self.finish(node, Some(*put)),
            Event::LeftOut(node) => self.finish(node, None),
            Event::Warning(_) | Event::Image { .. } => {}
        }
    }

    fn plan(&mut self, totals: &PlanTotals) {
        self.is_planned = true;
        self.bytes_to_move += totals.bytes_to_move + totals.bytes_mountable;
        self.blobs_to_put += totals.blobs_to_put;
    }

    /// What was present, mounted or left out is done as much as what was sent: none of it has to move any more.
    fn finish(&mut self, node: &Descriptor, put: Option<Put>) {
        let place = self.flights.iter().position(|flight| flight.node.digest == node.digest);
        let metered = place.map_or(0, |place| self.flights.remove(place).meter.fetched());
        // The event that began it may have been dropped; then its end is all there is.
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
            // An aborted transfer, or one whose end was not told, lets go of its meter. A second look, because the
            // word of an ordinary end may still be on its way.
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

    /// What is under way, in the order in which it began.
    pub(super) fn flights(&self) -> &[MovingNode] {
        &self.flights
    }

    /// Bytes that need not move any more.
    pub(super) fn bytes_done(&self) -> u64 {
        let in_flight: u64 = self.flights.iter().map(MovingNode::position).sum();
        (self.bytes_finished + in_flight).min(self.bytes_to_move)
    }

    /// Bytes that were read, those that were read twice included.
    pub(super) fn bytes_moved(&self) -> u64 {
        self.bytes_moved_before + self.flights.iter().map(|flight| flight.meter.fetched()).sum::<u64>()
    }

    /// How much of the work is done, 0 to 100.
    pub(super) fn percent(&self) -> u64 {
        (u128::from(self.bytes_done()) * 100).checked_div(u128::from(self.bytes_to_move)).map_or(100, |p| p as u64)
    }

    /// Bytes per second, all together.
    pub(super) fn per_second(&self) -> Option<u64> {
        self.rate.per_second()
    }

    /// How long the rest takes at this rate.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let rate = self.per_second().filter(|&rate| rate > 0)?;
        Some(Duration::from_secs((self.bytes_to_move - self.bytes_done()).div_ceil(rate)))
    }
}
