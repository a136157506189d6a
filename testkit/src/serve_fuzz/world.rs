//! State shared by the clients: addresses of servers, acknowledged content, and faults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use autonomy_registry::oci::Digest;
use serde_json::Value;

use super::book::Book;
use super::request::{brief, printable};
use super::wire::Answer;

/// Most faults reported: later ones mostly repeat earlier ones.
const MAX_FAULTS: usize = 20;

/// A server that accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub address: SocketAddr,
    /// The process number, counted over the whole run.
    pub generation: u64,
}

#[derive(Debug)]
pub struct World {
    pub seed: u64,
    /// Credentials of every valid request.
    pub credentials: String,
    /// Content of files beside the data folder, and of nothing else.
    pub canary: String,
    pub book: Mutex<Book>,
    /// Servers; none while one is down.
    pub addresses: Mutex<[Option<Address>; 2]>,
    /// Collections that removed everything unfinished, uploads included.
    pub clearances: AtomicU64,
    pub is_over: AtomicBool,
    pub requests: AtomicU64,
    /// Answers by status.
    pub answers: Mutex<BTreeMap<u16, u64>>,
    /// Requests without an answer, most of them because they were incomplete.
    pub unanswered: AtomicU64,
    pub faults: Mutex<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, credentials: String, canary: String) -> Self {
        Self {
            seed,
            credentials,
            canary,
            book: Mutex::default(),
            addresses: Mutex::default(),
            clearances: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            answers: Mutex::default(),
            unanswered: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether that process should still be running.
    pub fn is_up(&self, generation: u64) -> bool {
        self.addresses.lock().unwrap().iter().flatten().any(|server| server.generation == generation)
    }

    /// Number of clearances; an upload session that was begun before the last one is gone.
    pub fn cleared(&self) -> u64 {
        self.clearances.load(Ordering::Relaxed)
    }

    pub fn fault(&self, why: &str, request: &[u8]) {
        let mut faults = self.faults.lock().unwrap();
        let told = match request {
            [] => why.to_owned(),
            _ => format!("{why}\n    after: {}", printable(request)),
        };
        println!("FAULT: {told}");
        faults.push(told);
        if faults.len() >= MAX_FAULTS {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Counts an answer and reports forbidden ones.
    pub fn judge(&self, answer: &Answer, raw: &[u8]) {
        *self.answers.lock().unwrap().entry(answer.status).or_default() += 1;
        let status = answer.status;
        // The server reports overload and an unreadable file like this so that clients retry.
        let is_excused = status == 507 || (status == 503 && (answer.header("retry-after").is_some() || is_ready(raw)));
        if status >= 500 && !is_excused {
            self.fault(&format!("{status}: {}", brief(&answer.body)), raw);
        }
        let has_canary = String::from_utf8_lossy(&answer.body).contains(&self.canary);
        if has_canary || answer.head_contains(&self.canary) {
            self.fault("a file outside of the data folder was handed out", raw);
        }
        if answer.is_bare {
            return;
        }
        let digest = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = digest.filter(|digest| status == 200 && !digest.matches(&answer.body)) {
            self.fault(&format!("{digest} was handed out with other bytes: {}", brief(&answer.body)), raw);
        }
        if answer.header("content-type") == Some("application/json") {
            let told = serde_json::from_slice::<Value>(&answer.body).ok();
            let has_code = || told.as_ref().is_some_and(|told| told["errors"][0]["code"].is_string());
            if told.is_none() || (status >= 400 && !has_code()) {
                self.fault(&format!("{status} with a body that is no document: {}", brief(&answer.body)), raw);
            }
        }
    }
}

fn is_ready(raw: &[u8]) -> bool {
    raw.windows(7).any(|window| window == b"/readyz")
}
