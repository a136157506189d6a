//! Uses one transport, and another for copies that the first does not support.

use async_trait::async_trait;

use super::{Carried, Job, Transport};
use crate::copy::{self, Event, Events};
use crate::error::Result;

/// Tries `first`, and `second` only if `first` fails with *unsupported*. Every other error is final: a refusal or damaged
/// content must not be bypassed. A part of an index is for `first` alone.
#[derive(Debug)]
pub struct FallbackTransport<A, B> {
    first: A,
    second: Option<B>,
}

impl<A, B> FallbackTransport<A, B> {
    /// Tries `first`, then `second` if it exists on this machine.
    #[must_use]
    pub fn new(first: A, second: Option<B>) -> Self {
        Self { first, second }
    }
}

#[async_trait]
impl<A: Transport, B: Transport> Transport for FallbackTransport<A, B> {
    fn name(&self) -> &'static str {
        self.first.name()
    }

    async fn carry(&self, job: &Job, options: &copy::Options, events: &Events) -> Result<Carried> {
        match self.first.carry(job, options, events).await {
            Err(error) if error.kind().allows_other_transport() && !job.copy.selection.is_partial() => {
                let Some(second) = &self.second else { return Err(error) };
                let (from, to) = (self.first.name(), second.name());
                events.send(Event::Warning(format!("{from} cannot do it, {to} takes over: {}", error.chain())));
                second.carry(job, options, events).await
            }
            done => done,
        }
    }
}
