//! Checks logins against an htpasswd file.
//!
//! bcrypt is slow on purpose: some fifty milliseconds of a core per check. Clients send their password with every
//! request, so a pair that was right once is remembered by a keyed hash of it; that hash includes the stored bcrypt
//! hash, so a changed file invalidates it. Other pairs are checked on at most half the cores, once for all requests
//! with the same pair at the same time, and in a queue that is bounded, also per address: a client that tries passwords
//! delays only itself, while known users are not affected.
//!
//! An unknown user takes as long to check as an existing one, and a user with a cheap hash as long as the one with the
//! most expensive hash: the time does not show which users exist.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use tokio::sync::{OnceCell, Semaphore};

use super::htpasswd::{Htpasswd, cost};
use crate::disk::blocking;
use crate::disk::reload::{Reloaded, Reread};
use crate::error::{Error, Kind, Result};
use crate::sync::lock;

/// Most pairs remembered. There is one per user, unless passwords are changed or longer than bcrypt reads.
const REMEMBERED: usize = 4096;

/// Most different pairs that wait to be checked, and most from one address.
const WAITING: usize = 64;
const WAITING_OF_ONE: usize = 16;

/// Salt of hashes that are computed only for the time they take.
const SALT: [u8; 16] = [0; 16];

/// Checks users and passwords.
#[derive(Debug)]
pub(crate) struct Logins {
    users: Arc<Reloaded<Htpasswd>>,
    /// Random, for this process only.
    key: [u8; 32],
    known: Mutex<HashSet<CheckTag>>,
    flights: Mutex<HashMap<CheckTag, PendingCheck>>,
    cores: Arc<Semaphore>,
    /// Number of passwords checked so far.
    checks: AtomicU64,
    /// Rounds of bcrypt spent on them: two to the power of each cost.
    rounds: Arc<AtomicU64>,
}

/// Identifies a user, a password and the hash that it is checked against.
type CheckTag = [u8; 32];

/// A check that some requests wait for.
#[derive(Debug)]
struct PendingCheck {
    from: IpAddr,
    result: Arc<OnceCell<bool>>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordVerdict {
    Right,
    Wrong,
    /// Too many are waiting: try again in a second.
    Busy,
}

impl Logins {
    /// Uses the users of that file.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the file is invalid.
    pub(crate) fn new(users: Reloaded<Htpasswd>) -> Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|why| Error::new(Kind::Local, "draw a key").because(why.to_string()))?;
        let cores = available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Self {
            users: Arc::new(users),
            key,
            known: Mutex::default(),
            flights: Mutex::default(),
            cores: Arc::new(Semaphore::new(cores)),
            checks: AtomicU64::default(),
            rounds: Arc::default(),
        })
    }

    /// Returns why the file as it is now cannot be used; the former users stay in force.
    pub(crate) async fn fault(&self, reread: Reread) -> Option<String> {
        self.users.fault(reread).await
    }

    /// Checks a user's password for a client at `from`.
    pub(crate) async fn check(&self, user: &str, password: &str, from: IpAddr) -> Result<PasswordVerdict> {
        let users = self.users.get().await?;
        let hash = users.hash_of(user);
        let (hash, exists) = (hash.unwrap_or_else(|| users.decoy()), hash.is_some());
        let tag = self.tag(user, password, hash);
        if exists && lock(&self.known).contains(&tag) {
            return Ok(PasswordVerdict::Right);
        }
        let Some(seat) = Seat::take(self, tag, from) else { return Ok(PasswordVerdict::Busy) };
        let (password, hash, rest) = (password.to_owned(), hash.to_owned(), users.rest(hash));
        let rounds = Arc::clone(&self.rounds);
        let check = async || {
            let core = Arc::clone(&self.cores).acquire_owned().await;
            self.checks.fetch_add(1, Ordering::Relaxed);
            blocking(move || {
                // Held by the blocking task, which continues even if no request waits for it any more.
                let _core = core;
                let spent = cost(&hash).into_iter().chain(rest.clone()).map(|cost| 1 << cost);
                rounds.fetch_add(spent.sum(), Ordering::Relaxed);
                let checked = bcrypt::verify(&password, &hash);
                for cost in rest {
                    let _ = bcrypt::hash_with_salt(&password, cost, SALT);
                }
                checked.map_err(|why| Error::new(Kind::Local, "check password").because(why.to_string()))
            })
            .await
        };
        // Checks first, then looks whether the user exists.
        let is_right = *seat.result.get_or_try_init(check).await? && exists;
        if is_right {
            self.remember(tag);
        }
        Ok(if is_right { PasswordVerdict::Right } else { PasswordVerdict::Wrong })
    }

    fn tag(&self, user: &str, password: &str, hash: &str) -> CheckTag {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [user, password, hash] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    fn remember(&self, tag: CheckTag) {
        let mut known = lock(&self.known);
        if known.len() >= REMEMBERED {
            // Each user pays one check to be remembered again.
            known.clear();
        }
        known.insert(tag);
    }
}

/// One request's place in the queue for a check.
#[derive(Debug)]
struct Seat<'a> {
    logins: &'a Logins,
    tag: CheckTag,
    result: Arc<OnceCell<bool>>,
}

impl<'a> Seat<'a> {
    /// Returns `None` if too many wait.
    fn take(logins: &'a Logins, tag: CheckTag, from: IpAddr) -> Option<Self> {
        let mut flights = lock(&logins.flights);
        if !flights.contains_key(&tag) {
            let own = flights.values().filter(|flight| flight.from == from).count();
            if flights.len() >= WAITING || own >= WAITING_OF_ONE {
                return None;
            }
        }
        let flight = flights.entry(tag).or_insert_with(|| PendingCheck { from, result: Arc::default() });
        Some(Self { logins, tag, result: Arc::clone(&flight.result) })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = lock(&self.logins.flights);
        // The map's reference and this one: the last waiter removes the check.
        if Arc::strong_count(&self.result) <= 2 {
            flights.remove(&self.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    struct Bed {
        logins: Logins,
        path: std::path::PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Bed {
        fn new(users: &[(&str, &str, u32)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("users");
            write(&path, users);
            let logins = Logins::new(Reloaded::open(vec![path.clone()], Htpasswd::read).unwrap()).unwrap();
            Self { logins, path, _folder: folder }
        }

        async fn check(&self, user: &str, password: &str) -> PasswordVerdict {
            self.logins.check(user, password, HERE).await.unwrap()
        }

        fn checks(&self) -> u64 {
            self.logins.checks.load(Ordering::Relaxed)
        }
    }

    fn write(path: &std::path::Path, users: &[(&str, &str, u32)]) {
        let line =
            |(user, password, cost): &(&str, &str, u32)| format!("{user}:{}\n", bcrypt::hash(password, *cost).unwrap());
        std::fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
    }

    #[tokio::test]
    async fn right_wrong_unknown_and_changed() {
        let bed = Bed::new(&[("ann", "secret", 4), ("bob", "pass:word ü", 4)]);
        for (user, password, expected) in [
            ("ann", "secret", PasswordVerdict::Right),
            ("ann", "secret", PasswordVerdict::Right),
            ("bob", "pass:word ü", PasswordVerdict::Right),
            ("ann", "Secret", PasswordVerdict::Wrong),
            ("ann", "", PasswordVerdict::Wrong),
            ("bob", "secret", PasswordVerdict::Wrong),
            ("eve", "secret", PasswordVerdict::Wrong),
            ("", "", PasswordVerdict::Wrong),
        ] {
            assert_eq!(bed.check(user, password).await, expected, "{user} {password}");
        }
        write(&bed.path, &[("ann", "new", 4), ("eve", "secret", 4)]);
        assert_eq!(bed.check("ann", "secret").await, PasswordVerdict::Wrong, "what was remembered is forgotten");
        assert_eq!(bed.check("bob", "pass:word ü").await, PasswordVerdict::Wrong, "and who is gone is gone");
        assert_eq!(bed.check("ann", "new").await, PasswordVerdict::Right);
        assert_eq!(bed.check("eve", "secret").await, PasswordVerdict::Right);
        assert!(lock(&bed.logins.flights).is_empty());
    }

    #[tokio::test]
    async fn what_was_right_once_costs_nothing_and_who_is_unknown_as_much_as_who_is_wrong() {
        let bed = Bed::new(&[("ann", "secret", 4)]);
        let mut checks = Vec::new();
        for (user, password) in
            [("ann", "secret"), ("ann", "secret"), ("ann", "wrong"), ("eve", "wrong"), ("eve", "secret")]
        {
            let before = bed.checks();
            bed.check(user, password).await;
            checks.push(bed.checks() - before);
        }
        assert_eq!(checks, [1, 0, 1, 1, 1]);
    }

    #[tokio::test]
    async fn an_answer_takes_as_long_for_a_cheap_hash_a_dear_one_and_none() {
        let bed = Bed::new(&[("ann", "secret", 4), ("bob", "secret", 6), ("cem", "secret", 7)]);
        let mut rounds = Vec::new();
        for (user, password) in [
            ("ann", "wrong"),
            ("bob", "wrong"),
            ("cem", "wrong"),
            ("eve", "wrong"),
            ("", ""),
            ("ann", "secret"),
            ("bob", "secret"),
            ("ann", &"x".repeat(100)),
        ] {
            let before = bed.logins.rounds.load(Ordering::Relaxed);
            bed.check(user, password).await;
            rounds.push(bed.logins.rounds.load(Ordering::Relaxed) - before);
        }
        assert_eq!(rounds, [1 << 7; 8]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_of_passwords_waits_for_itself_and_the_known_come_in() {
        let bed = Arc::new(Bed::new(&[("ann", "secret", 8), ("bob", "secret", 8)]));
        assert_eq!(bed.check("ann", "secret").await, PasswordVerdict::Right);
        let flood: Vec<_> = (0..200)
            .map(|n| {
                let bed = Arc::clone(&bed);
                tokio::spawn(async move { bed.check("ann", &format!("guess {n}")).await })
            })
            .collect();
        while lock(&bed.logins.flights).len() < WAITING_OF_ONE {
            tokio::task::yield_now().await;
        }
        assert_eq!(bed.check("ann", "secret").await, PasswordVerdict::Right);
        let there = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(
            bed.logins.check("bob", "secret", there).await.unwrap(),
            PasswordVerdict::Right,
            "somebody new from elsewhere"
        );
        let mut told = Vec::new();
        for guess in flood {
            told.push(guess.await.unwrap());
        }
        let busy = told.iter().filter(|told| **told == PasswordVerdict::Busy).count();
        assert!(busy > 0 && !told.contains(&PasswordVerdict::Right), "{busy} were sent away");
        assert!(lock(&bed.logins.flights).is_empty());
        assert_eq!(bed.check("ann", "guess 7").await, PasswordVerdict::Wrong);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_pair_is_checked_once_for_all_who_bring_it() {
        let bed = Bed::new(&[("ann", "secret", 8)]);
        // Once one check runs, the others have something to wait for.
        let nodes = (0..40).map(|_| bed.check("ann", "secret"));
        let told = futures_util::future::join_all(nodes).await;
        assert_eq!(told, [PasswordVerdict::Right; 40]);
        assert_eq!(bed.checks(), 1);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let bed = Bed::new(&[("ann", "secret", 8)]);
        for n in 0..50 {
            let password = format!("guess {n}");
            let check = bed.check("ann", &password);
            let _ = tokio::time::timeout(Duration::from_micros(100), check).await;
        }
        assert!(lock(&bed.logins.flights).is_empty());
        assert_eq!(bed.check("ann", "secret").await, PasswordVerdict::Right);
    }
}
