//! Slots for connections: their number, the share of one network, and which connection makes room for another.
//!
//! Idle connections do not keep others out: when no slot is left, the oldest connection that has sent nothing is
//! closed, else the oldest without a complete first request; each gets a second first. One network (an IPv4 address, or
//! the /64 of an IPv6 address, which one machine can fill) gets at most half of the slots. The clients of a reverse
//! proxy, or behind one NAT, share it: further connections wait for a slot, the newest longest.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::limits::WIDE_CONNECTIONS;

/// Time for a connection to send its first request, even if others wait: it may be one of many that just arrived.
const GRACE: Duration = Duration::from_secs(1);

/// Commands to an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Stay,
    /// Close after the current response: others are waiting.
    Leave,
    /// The same, and close at once if there was no request yet: the server is shutting down.
    Close,
    /// Close at once: another connection has the slot.
    Go,
}

/// The progress of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has sent nothing.
    Silent,
    /// It has sent something, but no complete request.
    Begun,
    /// It has sent a request.
    Asked,
}

/// The phase of one connection, shared by all tasks that use it.
#[derive(Debug, Default, Clone)]
pub(crate) struct PhaseCell(Arc<AtomicU8>);

impl PhaseCell {
    /// Records that the connection has reached `phase`. It never goes back.
    pub(crate) fn reach(&self, phase: Phase) {
        if self.0.load(Ordering::Relaxed) < phase as u8 {
            self.0.fetch_max(phase as u8, Ordering::Relaxed);
        }
    }

    fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Silent,
            1 => Phase::Begun,
            _ => Phase::Asked,
        }
    }
}

/// All slots of a server.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    most: usize,
    most_of_one: usize,
    state: Mutex<SlotState>,
    freed: Notify,
    /// Number of connections with a slot, for the metrics.
    open: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct SlotState {
    next: u64,
    /// In order of arrival.
    taken: BTreeMap<u64, Taken>,
    by_network: HashMap<IpAddr, usize>,
    /// Connections that wait for a slot of their network, in order of arrival.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    wide: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Taken {
    network: IpAddr,
    progress: PhaseCell,
    since: Instant,
    word: watch::Sender<Word>,
    is_wide: bool,
}

/// Whether a connection was closed for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evicted {
    One,
    /// None yet, but one without a request will be.
    Later,
    /// All have sent a request.
    Nobody,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// The network has used its share.
    Share,
}

/// One connection's slot, until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    places: Arc<ConnectionSlots>,
    number: u64,
    pub(crate) progress: PhaseCell,
    pub(crate) word: watch::Receiver<Word>,
    /// Whether it may have large buffers: it is one of the first [`WIDE_CONNECTIONS`].
    pub(super) is_wide: bool,
}

/// A connection that waits for a slot of its network, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingConnection {
    places: Arc<ConnectionSlots>,
    number: u64,
    /// Ready once a newer connection needs this entry of the queue: this one has waited longest.
    pub(super) sent_away: oneshot::Receiver<()>,
}

impl ConnectionSlots {
    pub(crate) fn new(most: usize, open: Arc<AtomicU64>) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self { most, most_of_one: most.div_ceil(2), state: Mutex::default(), freed: Notify::new(), open })
    }

    /// Takes a slot for a connection from `address`; may close another that has not sent a request yet.
    ///
    /// # Errors
    ///
    /// [`Full`] if all others are in use. They are then asked to close after their current response.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionSlot, Full> {
        let network = network(address);
        let mut state = self.lock();
        let own = state.by_network.get(&network).copied().unwrap_or_default();
        let full = if own >= self.most_of_one {
            Some(Full::Share)
        } else if state.taken.len() >= self.most {
            Some(Full::All)
        } else {
            None
        };
        if let Some(full) = full {
            let is_meant = |taken: &&Taken| full == Full::All || taken.network == network;
            match state.evict(is_meant) {
                Evicted::One => {}
                Evicted::Later => return Err(full),
                Evicted::Nobody => {
                    state.taken.values().filter(is_meant).for_each(|taken| taken.tell(Word::Leave));
                    return Err(full);
                }
            }
        }
        let (number, progress, (tell, word)) = (state.next, PhaseCell::default(), watch::channel(Word::Stay));
        state.next += 1;
        *state.by_network.entry(network).or_default() += 1;
        let is_wide = state.wide < WIDE_CONNECTIONS;
        state.wide += usize::from(is_wide);
        state
            .taken
            .insert(number, Taken { network, progress: progress.clone(), since: Instant::now(), word: tell, is_wide });
        self.open.store(state.taken.len() as u64, Ordering::Relaxed);
        Ok(ConnectionSlot { places: Arc::clone(self), number, progress, word, is_wide })
    }

    /// Takes a slot as soon as there is one. Returns `None` once the server shuts down.
    pub(crate) async fn wait(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionSlot> {
        loop {
            if let Ok(place) = self.wait_for_any(address).await? {
                return Some(place);
            }
            let freed = self.freed.notified();
            if self.lock().is_closed {
                return None;
            }
            // The grace of another connection may be over by now.
            let _ = timeout(GRACE, freed).await;
        }
    }

    /// The same for the accept loop, where others wait behind: returns an error if the network's share is used up, even
    /// if slots are free.
    pub(super) async fn wait_for_any(self: &Arc<Self>, address: IpAddr) -> Option<Result<ConnectionSlot, Full>> {
        loop {
            let freed = self.freed.notified();
            if self.lock().is_closed {
                return None;
            }
            match self.take(address) {
                Err(Full::All) => {}
                taken => return Some(taken),
            }
            // The grace of another connection may be over by now.
            let _ = timeout(GRACE, freed).await;
        }
    }

    /// Adds a connection to the queue; if that holds `most` already, sends away the one that has waited longest.
    pub(crate) fn queue(self: &Arc<Self>, most: usize) -> WaitingConnection {
        let mut state = self.lock();
        while state.waiting.len() >= most.max(1) {
            // Dropping the sender notifies it.
            state.waiting.pop_first();
        }
        let (number, (seat, sent_away)) = (state.next, oneshot::channel());
        state.next += 1;
        state.waiting.insert(number, seat);
        WaitingConnection { places: Arc::clone(self), number, sent_away }
    }

    /// Notifies all connections that the server is shutting down, and sends the waiting ones away.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.taken.values().for_each(|taken| taken.tell(Word::Close));
        drop(state);
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        crate::sync::lock(&self.state)
    }
}

impl Taken {
    fn tell(&self, word: Word) {
        self.word.send_if_modified(|told| {
            let is_new = *told != Word::Go && *told != word;
            if is_new {
                *told = word;
            }
            is_new
        });
    }
}

impl SlotState {
    /// Closes the oldest of the connections with the least progress, and frees its slot.
    fn evict(&mut self, is_meant: impl Fn(&&Taken) -> bool) -> Evicted {
        let meant = self.taken.iter().filter(|(_, taken)| is_meant(taken) && taken.progress.phase() < Phase::Asked);
        let (old, young): (Vec<_>, Vec<_>) = meant.partition(|(_, taken)| taken.since.elapsed() >= GRACE);
        let Some((_, number)) = old.iter().map(|(number, taken)| (taken.progress.phase(), **number)).min() else {
            return if young.is_empty() { Evicted::Nobody } else { Evicted::Later };
        };
        if let Some(taken) = self.remove(number) {
            taken.tell(Word::Go);
        }
        Evicted::One
    }

    fn remove(&mut self, number: u64) -> Option<Taken> {
        let taken = self.taken.remove(&number)?;
        self.wide -= usize::from(taken.is_wide);
        if let Some(count) = self.by_network.get_mut(&taken.network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&taken.network);
            }
        }
        Some(taken)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        // An evicted connection has no slot any more.
        state.remove(self.number);
        self.places.open.store(state.taken.len() as u64, Ordering::Relaxed);
        drop(state);
        self.places.freed.notify_waiters();
    }
}

impl Drop for WaitingConnection {
    fn drop(&mut self) {
        self.places.lock().waiting.remove(&self.number);
    }
}

/// Returns the network that counts as one client where addresses are counted.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_gone(place: &ConnectionSlot) -> bool {
        *place.word.borrow() == Word::Go
    }

    #[tokio::test]
    async fn one_network_has_half_of_the_places_and_the_others_find_room() {
        let places = ConnectionSlots::new(8, Arc::default());
        let busy: Vec<_> = (0..4).map(|_| places.take(ip("10.0.0.1")).unwrap()).collect();
        busy.iter().for_each(|place| place.progress.reach(Phase::Asked));
        assert_eq!(places.take(ip("10.0.0.1")).unwrap_err(), Full::Share);
        assert_eq!(places.take(ip("::ffff:10.0.0.1")).unwrap_err(), Full::Share, "the same address");
        assert!(busy.iter().all(|place| *place.word.borrow() == Word::Leave), "what is only kept makes room");
        let others: Vec<_> = (0..4).map(|n| places.take(ip(&format!("2001:db8:0:{n}::1"))).unwrap()).collect();
        others.iter().for_each(|place| place.progress.reach(Phase::Asked));
        assert_eq!(places.take(ip("10.0.0.9")).unwrap_err(), Full::All);
        drop(busy);
        assert!(places.take(ip("10.0.0.9")).is_ok());
        assert_eq!(places.open.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn one_machine_cannot_be_many_by_its_ipv6_addresses() {
        let places = ConnectionSlots::new(4, Arc::default());
        let held: Vec<_> = (1..=2).map(|n| places.take(ip(&format!("2001:db8::{n}"))).unwrap()).collect();
        held.iter().for_each(|place| place.progress.reach(Phase::Asked));
        assert_eq!(places.take(ip("2001:db8::3")).unwrap_err(), Full::Share);
        assert!(places.take(ip("2001:db8:0:1::3")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_goes_first_then_one_without_a_request_and_the_oldest_of_them() {
        let places = ConnectionSlots::new(8, Arc::default());
        let held: Vec<_> = (0..8).map(|n| places.take(ip(&format!("10.0.0.{n}"))).unwrap()).collect();
        held[0].progress.reach(Phase::Asked);
        held[1].progress.reach(Phase::Begun);
        held[2].progress.reach(Phase::Begun);
        assert_eq!(places.take(ip("10.0.1.9")).unwrap_err(), Full::All, "all have just come");
        tokio::time::advance(GRACE).await;
        let mut next = Vec::new();
        for (n, expected) in [3, 4, 5, 6, 7, 1, 2].into_iter().enumerate() {
            let place = places.take(ip(&format!("10.0.1.{n}"))).unwrap();
            place.progress.reach(Phase::Asked);
            next.push(place);
            let gone: Vec<_> = (0..8).filter(|n| is_gone(&held[*n])).collect();
            assert!(gone.contains(&expected) && gone.len() == n + 1, "{gone:?}");
        }
        assert_eq!(places.take(ip("10.0.2.1")).unwrap_err(), Full::All, "whoever has asked stays");
        assert!(!is_gone(&held[0]));
        drop(held);
        assert_eq!(places.lock().taken.len(), 7, "a place is given back once");
        drop(next);
        assert!(places.lock().taken.is_empty() && places.lock().by_network.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_connection_gets_the_next_place_of_its_network() {
        let places = ConnectionSlots::new(2, Arc::default());
        let first = places.take(ip("10.0.0.1")).unwrap();
        first.progress.reach(Phase::Asked);
        let wait = || {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.wait(ip("10.0.0.1")).await })
        };
        let waiting = wait();
        tokio::time::advance(GRACE * 5).await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        let begun = Instant::now();
        drop(wait().await.unwrap().unwrap());
        assert!(is_gone(&second) && begun.elapsed() <= GRACE * 2, "who asks for nothing makes room by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_any_place_is_told_when_its_network_has_its_share() {
        let places = ConnectionSlots::new(4, Arc::default());
        let take = |address| {
            let place = places.take(ip(address)).unwrap();
            place.progress.reach(Phase::Asked);
            place
        };
        let (_first, mut others) =
            (take("10.0.0.1"), ["10.0.0.2", "10.0.0.2", "10.0.0.3"].map(take).into_iter().collect::<Vec<_>>());
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.wait_for_any(ip("10.0.0.1")).await.unwrap().unwrap_err() }
        });
        tokio::time::advance(GRACE * 2).await;
        assert!(!waiting.is_finished());
        others.pop();
        // Another connection of that network is faster.
        let _second = take("10.0.0.1");
        others.pop();
        assert_eq!(waiting.await.unwrap(), Full::Share, "there is a place, for others");
    }

    #[tokio::test]
    async fn no_more_wait_than_may_and_the_one_that_has_waited_longest_is_sent_away() {
        let places = ConnectionSlots::new(2, Arc::default());
        let [mut first, mut second, mut third] = [(); 3].map(|()| places.queue(2));
        assert!((&mut first.sent_away).await.is_err());
        assert!(second.sent_away.try_recv() == third.sent_away.try_recv() && places.lock().waiting.len() == 2);
        drop((first, second, third));
        assert!(places.lock().waiting.is_empty());
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            let held = places.take(ip("10.0.0.1")).unwrap();
            async move { (places.wait(ip("10.0.0.1")).await, held).0 }
        });
        tokio::task::yield_now().await;
        places.close();
        assert!(waiting.await.unwrap().is_none(), "nobody comes in any more");
    }
}
