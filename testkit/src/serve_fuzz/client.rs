//! One client: its kept connection, and how it sends requests and reads answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::book::Place;
use super::draw::Draw;
use super::request::Request;
use super::wire::{Answer, Connection, Ended, Reading, read};
use super::world::World;

/// Longest time for a valid request, and for the start of a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Silence after which an invalid request is given up.
const QUIET: Duration = Duration::from_millis(60);

#[derive(Debug)]
pub struct Client {
    pub world: Arc<World>,
    kept: Option<Connection>,
    /// The server that it uses, where there are two.
    pub side: usize,
}

/// The way to send bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    AtOnce,
    /// In pieces, with pauses.
    Slowly,
    /// Only this many bytes; then the connection is closed.
    Cut(usize),
}

impl Client {
    pub fn new(world: Arc<World>) -> Self {
        Self { world, kept: None, side: 0 }
    }

    /// Sends a valid request and returns its answer. None if its server was killed meanwhile; any other failure is a fault.
    pub fn ask(&mut self, request: &Request) -> Option<Answer> {
        let request =
            request.clone().header("Host", "localhost").header("Authorization", self.world.credentials.clone());
        let raw = request.bytes();
        let heads = [request.method == b"HEAD"];
        let removals = self.world.book.lock().unwrap().sending(&raw);
        let answer = self.exchange(&raw, &heads);
        self.world.book.lock().unwrap().answered(&removals, answer.is_some());
        let answer = answer?;
        self.world.judge(&answer, &raw);
        if answer.status == 401 {
            self.world.fault("a right password was refused", &raw);
        }
        Some(answer)
    }

    fn exchange(&mut self, raw: &[u8], heads: &[bool]) -> Option<Answer> {
        let mut connection = self.connection()?;
        self.world.requests.fetch_add(1, Ordering::Relaxed);
        let sent = connection.send(raw);
        let mut received = Vec::new();
        let has_all = |received: &[u8]| matches!(read(received, heads, true), Reading::Whole(all) if !all.is_empty());
        let ended = connection.take(&mut received, PATIENCE, has_all);
        let is_up = self.world.is_up(connection.generation);
        match read(&received, heads, true) {
            Reading::Whole(mut all) if all.len() == 1 => {
                let answer = all.pop()?;
                connection.is_used = true;
                if sent.is_ok() && answer.keeps() && ended == Ended::Enough {
                    self.kept = Some(connection);
                }
                return Some(answer);
            }
            Reading::Malformed(why) => self.world.fault(&format!("malformed answer: {why}"), raw),
            // A server may close a kept connection at the moment of its next use.
            _ if received.is_empty() && connection.is_used && ended == Ended::Closed => {}
            _ if is_up => {
                let told = String::from_utf8_lossy(&received).into_owned();
                self.world.fault(&format!("no answer to a request in order: {ended:?}, {told:?}, {sent:?}"), raw);
            }
            _ => {}
        }
        self.world.unanswered.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Sends arbitrary bytes and returns all answers received.
    pub fn throw(&mut self, draw: &mut Draw, raw: &[u8], heads: &[bool], manner: Manner) -> Vec<Answer> {
        if draw.percent(70) {
            self.kept = None;
        }
        let Some(mut connection) = self.connection() else { return Vec::new() };
        self.world.requests.fetch_add(heads.len() as u64, Ordering::Relaxed);
        let removals: Vec<Place> = self.world.book.lock().unwrap().sending(raw);
        deliver(draw, &mut connection, raw, manner);
        let mut received = Vec::new();
        let has_all =
            |received: &[u8]| matches!(read(received, heads, false), Reading::Whole(all) if all.len() >= heads.len());
        let mut ended = Ended::Closed;
        if !matches!(manner, Manner::Cut(_)) || draw.percent(50) {
            ended = connection.take(&mut received, QUIET, has_all);
        }
        if ended == Ended::Quiet {
            connection.end_sending();
            ended = connection.take(&mut received, 5 * QUIET, |_| false);
        }
        let (answers, is_sure) = match read(&received, heads, false) {
            Reading::Whole(all) => {
                let is_sure = all.len() >= heads.len();
                (all, is_sure)
            }
            Reading::Begun(all) => (all, false),
            Reading::Malformed(why) => {
                self.world.fault(&format!("malformed answer: {why}"), raw);
                (Vec::new(), false)
            }
        };
        self.world.book.lock().unwrap().answered(&removals, is_sure && ended == Ended::Enough);
        answers.iter().for_each(|answer| self.world.judge(answer, raw));
        self.world.unanswered.fetch_add(heads.len().saturating_sub(answers.len()) as u64, Ordering::Relaxed);
        answers
    }

    /// The kept connection, or a new one. None at the end of the run.
    fn connection(&mut self) -> Option<Connection> {
        if let Some(kept) = self.kept.take()
            && self.world.is_up(kept.generation)
        {
            return Some(kept);
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let addresses = *self.world.addresses.lock().unwrap();
            let Some(server) = addresses[self.side % 2].or(addresses[0]).or(addresses[1]) else {
                if self.world.is_over() {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            match Connection::open(server.address, server.generation) {
                Ok(connection) => return Some(connection),
                // Killed just now; or this machine has no free port for a moment.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        self.world.fault("no server takes connections", &[]);
        None
    }

    pub fn hang_up(&mut self) {
        self.kept = None;
    }
}

fn deliver(draw: &mut Draw, connection: &mut Connection, raw: &[u8], manner: Manner) {
    let _ = match manner {
        Manner::AtOnce => connection.send(raw),
        Manner::Cut(length) => connection.send(&raw[..length.min(raw.len())]),
        Manner::Slowly => {
            let piece = 1 + raw.len() / (2 + draw.below(6));
            raw.chunks(piece).try_for_each(|piece| {
                std::thread::sleep(Duration::from_millis(draw.next() % 15));
                connection.send(piece)
            })
        }
    };
}
