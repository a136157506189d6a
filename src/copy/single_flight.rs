//! One flight per digest: content that several copies need at the same registry is sent once, and mounted after that.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::oci::{Digest, RepositoryPath};

/// Blobs on their way to one registry in this run, and the repositories where blobs are known to have arrived.
///
/// Only blobs: a manifest cannot be mounted. Takes about 150 bytes per digest, and 20 per further repository that holds
/// it (half of a table may be empty).
#[derive(Debug, Default)]
pub struct Flights {
    state: Mutex<FlightState>,
}

#[derive(Debug, Default)]
struct FlightState {
    /// Repositories by number, so that each name is kept once.
    names: Vec<RepositoryPath>,
    numbers: HashMap<RepositoryPath, u32>,
    landed: HashMap<Digest, Landed>,
    /// Pairs of a digest's number and a further repository that has it: a digest itself takes 65 bytes.
    held: HashSet<(u32, u32)>,
    flying: HashMap<Digest, watch::Sender<()>>,
}

/// A digest that some repository has.
#[derive(Debug, Clone, Copy)]
struct Landed {
    /// Its own number.
    number: u32,
    /// The repository where it arrived first.
    first: u32,
}

impl FlightState {
    /// Records that a repository has `digest`.
    fn land(&mut self, digest: &Digest, repository: u32) {
        let number = u32::try_from(self.landed.len()).unwrap_or(u32::MAX);
        let landed = *self.landed.entry(*digest).or_insert(Landed { number, first: repository });
        if landed.first != repository {
            self.held.insert((landed.number, repository));
        }
    }

    /// Returns where `digest` landed first, and whether `repository` has it too.
    fn find(&self, digest: &Digest, repository: u32) -> Option<(u32, bool)> {
        let landed = self.landed.get(digest)?;
        let is_here = landed.first == repository || self.held.contains(&(landed.number, repository));
        Some((landed.first, is_here))
    }

    fn number(&mut self, path: &RepositoryPath) -> u32 {
        if let Some(&number) = self.numbers.get(path) {
            return number;
        }
        // So many repositories would fill the memory long before the number overflows.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(path.clone());
        self.numbers.insert(path.clone(), number);
        number
    }
}

/// A repository of a registry whose flights are shared by several copies.
#[derive(Debug, Clone)]
pub struct Destination {
    flights: Arc<Flights>,
    path: RepositoryPath,
}

/// Where a digest is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this repository.
    Here,
    /// In another repository of the registry.
    Elsewhere,
    /// Unknown.
    Unknown,
}

/// How a digest may be brought to a repository.
#[derive(Debug)]
pub(super) enum Clearance {
    /// The repository holds it.
    Held,
    /// Another repository of the registry holds it.
    Mount(RepositoryPath),
    /// No repository is known to have it: the caller must send it.
    Fly(Flight),
    /// Another copy is sending it.
    Wait(FlightEnd),
}

/// The only transfer of a digest to a registry. Dropped without landing, it lets another copy try.
#[derive(Debug)]
pub(super) struct Flight {
    site: Destination,
    digest: Digest,
}

/// The end of another copy's flight, whether it landed or not.
#[derive(Debug)]
pub(super) struct FlightEnd(watch::Receiver<()>);

impl Flights {
    /// Returns the repository `path` of this registry.
    #[must_use]
    pub fn site(self: &Arc<Self>, path: &RepositoryPath) -> Destination {
        Destination { flights: Arc::clone(self), path: path.clone() }
    }

    fn state(&self) -> MutexGuard<'_, FlightState> {
        // A panic in another thread leaves it consistent: a record may only be missing.
        crate::sync::lock(&self.state)
    }
}

impl Destination {
    /// Records that the repository holds `digest`.
    pub fn holds(&self, digest: &Digest) {
        let mut state = self.flights.state();
        let number = state.number(&self.path);
        state.land(digest, number);
    }

    /// Returns where `digest` is known to be.
    #[must_use]
    pub fn whereabouts(&self, digest: &Digest) -> Whereabouts {
        let mut state = self.flights.state();
        let number = state.number(&self.path);
        match state.find(digest, number) {
            Some((_, true)) => Whereabouts::Here,
            Some((_, false)) => Whereabouts::Elsewhere,
            None => Whereabouts::Unknown,
        }
    }

    /// Decides how `digest` may come to this repository.
    pub(super) fn clear(&self, digest: &Digest) -> Clearance {
        let mut state = self.flights.state();
        let number = state.number(&self.path);
        match state.find(digest, number) {
            Some((_, true)) => return Clearance::Held,
            Some((first, false)) => return Clearance::Mount(state.names[first as usize].clone()),
            None => {}
        }
        if let Some(flying) = state.flying.get(digest) {
            return Clearance::Wait(FlightEnd(flying.subscribe()));
        }
        state.flying.insert(*digest, watch::Sender::new(()));
        Clearance::Fly(Flight { site: self.clone(), digest: *digest })
    }
}

impl Flight {
    /// Records that the digest has arrived.
    pub(super) fn landed(self) {
        self.site.holds(&self.digest);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Dropping the sender wakes the waiters, which then retry.
        self.site.flights.state().flying.remove(&self.digest);
    }
}

impl FlightEnd {
    /// Waits for the end of the flight.
    pub(super) async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(flights: &Arc<Flights>, path: &str) -> Destination {
        flights.site(&path.parse().unwrap())
    }

    #[tokio::test]
    async fn one_flies_the_others_wait_and_mount() {
        let flights = Arc::new(Flights::default());
        let (a, b) = (site(&flights, "a"), site(&flights, "b"));
        let digest = Digest::sha256(b"layer");
        let Clearance::Fly(flight) = a.clear(&digest) else { panic!("nobody has it") };
        let Clearance::Wait(arrival) = b.clear(&digest) else { panic!("a is bringing it") };
        let waiting = tokio::spawn(arrival.wait());
        assert_eq!(b.whereabouts(&digest), Whereabouts::Unknown);
        flight.landed();
        waiting.await.unwrap();
        assert_eq!((a.whereabouts(&digest), b.whereabouts(&digest)), (Whereabouts::Here, Whereabouts::Elsewhere));
        assert!(matches!(a.clear(&digest), Clearance::Held));
        assert!(matches!(b.clear(&digest), Clearance::Mount(from) if from.as_str() == "a"));
        b.holds(&digest);
        assert!(matches!(b.clear(&digest), Clearance::Held));
    }

    #[tokio::test]
    async fn a_flight_that_is_given_up_is_taken_over() {
        let flights = Arc::new(Flights::default());
        let (a, b) = (site(&flights, "a"), site(&flights, "b"));
        let digest = Digest::sha256(b"layer");
        let Clearance::Fly(flight) = a.clear(&digest) else { panic!("nobody has it") };
        let Clearance::Wait(arrival) = b.clear(&digest) else { panic!("a is bringing it") };
        drop(flight);
        arrival.wait().await;
        assert!(matches!(b.clear(&digest), Clearance::Fly(_)));
    }
}
