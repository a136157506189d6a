//! Events that the engine sends while it works.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{LayerPlace, PlanTotals};
use crate::oci::Descriptor;
use crate::retry::OutageNews;
use crate::store::{Meter, Put};

/// An event, and the image that it belongs to.
#[derive(Debug, Clone)]
pub struct Message {
    /// The destination of the image; none for the run as a whole.
    pub image: Option<Arc<str>>,
    /// The event.
    pub event: Event,
}

/// Something that happened. Bytes in flight are not events: read the [`Meter`] for them, as often as needed.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new part of the run begins.
    Stage(Stage),
    /// The run copies so many images.
    Images(u64),
    /// The plan is known.
    Planned(PlanTotals),
    /// A node is being copied.
    Started {
        /// The node.
        node: Descriptor,
        /// Its progress.
        meter: Arc<Meter>,
        /// Its place in the image, if it is a large layer.
        place: Option<LayerPlace>,
    },
    /// The sink holds a node.
    Finished {
        /// The node.
        node: Descriptor,
        /// How the sink got it.
        put: Put,
    },
    /// A foreign layer that the source does not serve was left out, as its publisher intends.
    LeftOut(Descriptor),
    /// A message for the user that stops nothing.
    Warning(String),
    /// A host does not answer, or answers again.
    Outage(OutageNews),
    /// One image of several has ended.
    Image {
        /// Its destination.
        to: String,
        /// How it ended.
        end: ImageEnd,
        /// Why it failed.
        error: Option<String>,
    },
}

/// A part of a run; the variants are in the order of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Names are resolved at both ends.
    Resolving,
    /// Signatures are checked at the source.
    VerifyingSource,
    /// Content moves.
    Copying,
    /// Signatures are checked at the destination.
    VerifyingDestination,
    /// The site signs the index that it made.
    SigningIndex,
    /// Tags move.
    Tagging,
    /// The record is written.
    WritingRecord,
}

impl Stage {
    /// Returns the stage's name, as progress shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::VerifyingSource => "verifying the source",
            Self::Copying => "copying",
            Self::VerifyingDestination => "verifying the destination",
            Self::SigningIndex => "signing the index",
            Self::Tagging => "tagging",
            Self::WritingRecord => "writing the record",
        }
    }
}

/// How one image of several ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageEnd {
    /// It was copied.
    Seeded,
    /// The destination had it.
    Unchanged,
    /// It failed.
    Failed,
}

impl ImageEnd {
    /// Returns the word for it, as progress shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seeded => "seeded",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// Sends events to the caller: a bounded channel that drops events when the receiver is slow, so that it never blocks the
/// engine.
#[derive(Debug, Clone, Default)]
pub struct Events {
    sender: Option<mpsc::Sender<Message>>,
    dropped: Arc<AtomicU64>,
    image: Option<Arc<str>>,
    is_one_of_many: bool,
}

impl Events {
    /// Creates a channel that holds up to `capacity` events.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender: Some(sender), ..Self::default() }, receiver)
    }

    /// Discards all events.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns a sender on the same channel for one of several images copied at once; drops stages, which would
    /// contradict each other.
    #[must_use]
    pub fn of_one_among_many(&self) -> Self {
        Self { is_one_of_many: true, ..self.clone() }
    }

    /// Returns a sender on the same channel for events of `image`.
    #[must_use]
    pub fn of_image(&self, image: &impl fmt::Display) -> Self {
        let image = self.is_heard().then(|| image.to_string().into());
        Self { image, ..self.clone() }
    }

    /// Returns whether there is a listener.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.sender.is_some()
    }

    /// Sends `event`, or drops it if the channel is full.
    pub fn send(&self, event: Event) {
        let Some(sender) = &self.sender else { return };
        if self.is_one_of_many && matches!(event, Event::Stage(_)) {
            return;
        }
        if sender.try_send(Message { image: self.image.clone(), event }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many events were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_sleeps_holds_nobody_back() {
        let (events, mut receiver) = Events::channel(1);
        for _ in 0..3 {
            events.send(Event::Stage(Stage::Copying));
        }
        assert_eq!(events.dropped(), 2);
        assert!(matches!(receiver.try_recv(), Ok(Message { image: None, event: Event::Stage(Stage::Copying) })));
        Events::none().send(Event::Stage(Stage::Copying));
    }

    #[test]
    fn events_of_an_image_carry_its_name() {
        let (events, mut receiver) = Events::channel(2);
        let image = events.of_one_among_many().of_image(&"site.example/app:v1");
        image.send(Event::Stage(Stage::Copying));
        image.send(Event::Warning("odd".into()));
        let Message { image, event } = receiver.try_recv().unwrap();
        assert!(matches!(event, Event::Warning(_)), "stages of many images contradict each other: {event:?}");
        assert_eq!(image.as_deref(), Some("site.example/app:v1"));
    }
}
