//! A link to a server on this machine, with a chosen rate; it counts the bytes that come back over it.
//!
//! The counted bytes have left the server and reached the client's side of the link, response heads included: the client
//! reports none of them itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes that go over the link at a time.
const PIECE: usize = 16 << 10;

/// The link. It stays until the program ends.
#[derive(Debug, Clone)]
pub struct Link {
    pub host: String,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    delivered: AtomicU64,
    bytes_per_second: u64,
    /// Time when the link is free again: all connections share it.
    free: Mutex<Instant>,
}

impl Link {
    /// A link to `server` that delivers this many bytes a second from there, over all connections together.
    pub fn to(server: &str, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let line = Line { delivered: AtomicU64::new(0), bytes_per_second, free: Mutex::new(Instant::now()) };
        let line = Arc::new(line);
        let (server, shared) = (server.to_owned(), Arc::clone(&line));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                join(client, server, &shared);
            }
        });
        Self { host, line }
    }

    /// Bytes that have come from the server so far.
    pub fn delivered(&self) -> u64 {
        self.line.delivered.load(Ordering::Relaxed)
    }
}

impl Line {
    /// Waits for the turn of `bytes` more.
    fn pass(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let turn = {
            let mut free = self.free.lock().unwrap();
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

fn join(client: TcpStream, server: TcpStream, line: &Arc<Line>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut up, mut into_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut into_server);
        let _ = into_server.shutdown(Shutdown::Write);
    });
    let line = Arc::clone(line);
    std::thread::spawn(move || {
        let (mut from, mut to) = (server, client);
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            line.pass(count);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
            line.delivered.fetch_add(count as u64, Ordering::Relaxed);
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
