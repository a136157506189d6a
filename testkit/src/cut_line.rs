//! A line to a server on this machine that is cut and joined again; it counts the bytes each way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Bytes that go over the line at a time.
const PIECE: usize = 16 << 10;

/// Bytes per second of each connection and direction. Without a limit the buffers of this machine's sockets would grow to
/// ten megabytes in all, and hold more than any line does.
const RATE: u32 = 64 << 20;

/// The way in which a line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Connections are closed, and new ones are closed at once.
    Closed,
    /// Connections stay, and nothing passes.
    Silent,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    FromServer,
    ToServer,
}

/// The moment of a cut.
#[derive(Debug, Clone)]
pub enum Moment {
    /// So many bytes have passed in this direction, over all connections together.
    After(Way, u64),
    /// A request with this text in its head is about to pass.
    At(String),
}

/// The line. It stays until the program ends.
#[derive(Debug, Clone)]
pub struct CutLine {
    pub host: String,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    server: Mutex<String>,
    cut: Mutex<Option<Cut>>,
    joined: Condvar,
    plan: Mutex<Option<(Moment, Cut, Duration)>>,
    carried: [AtomicU64; 2],
    cuts: AtomicU64,
    turned_away: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl CutLine {
    /// A line to `server`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let line = Arc::new(Line {
            server: Mutex::new(server.to_owned()),
            cut: Mutex::default(),
            joined: Condvar::new(),
            plan: Mutex::default(),
            carried: Default::default(),
            cuts: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::clone(&shared);
                std::thread::spawn(move || line.connect(client));
            }
        });
        Self { host, line }
    }

    /// Cuts the line at `moment`, for so long.
    pub fn plan(&self, moment: Moment, how: Cut, away: Duration) {
        *self.line.plan.lock().unwrap() = Some((moment, how, away));
    }

    /// Cuts the line now.
    pub fn cut(&self, how: Cut) {
        self.line.cut(how);
    }

    /// Joins the line again; from now on it leads to `server`, if one is given.
    pub fn join(&self, server: Option<&str>) {
        server.into_iter().for_each(|server| server.clone_into(&mut self.line.server.lock().unwrap()));
        self.line.join();
    }

    /// Number of cuts so far.
    pub fn cuts(&self) -> u64 {
        self.line.cuts.load(Ordering::Relaxed)
    }

    /// Number of connections that came while the line was closed.
    pub fn turned_away(&self) -> u64 {
        self.line.turned_away.load(Ordering::Relaxed)
    }

    /// Bytes that have passed in this direction.
    pub fn carried(&self, way: Way) -> u64 {
        self.line.carried[way as usize].load(Ordering::Relaxed)
    }
}

impl Line {
    fn cut(&self, how: Cut) {
        *self.cut.lock().unwrap() = Some(how);
        self.cuts.fetch_add(1, Ordering::Relaxed);
        if how == Cut::Closed {
            for connection in self.open.lock().unwrap().drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    fn join(&self) {
        *self.cut.lock().unwrap() = None;
        self.joined.notify_all();
    }

    /// Waits while the line is silent. Returns whether the line is open.
    fn wait(&self) -> bool {
        let silent = self.joined.wait_while(self.cut.lock().unwrap(), |cut| *cut == Some(Cut::Silent));
        silent.unwrap().is_none()
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        if !self.wait() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let server = self.server.lock().unwrap().clone();
        let Ok(server) = TcpStream::connect(server) else { return };
        let both = [&client, &server].map(|stream| {
            stream.set_nodelay(true).unwrap();
            stream.try_clone().unwrap()
        });
        self.open.lock().unwrap().extend(both);
        let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let line = Arc::clone(&self);
        std::thread::spawn(move || line.pump(Way::ToServer, up, server));
        self.pump(Way::FromServer, down, client);
    }

    fn pump(self: &Arc<Self>, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.strike(way, &buffer[..count]);
            if !self.wait() || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            self.carried[way as usize].fetch_add(count as u64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(count as u64) / RATE);
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// Cuts the line if the planned moment has come.
    fn strike(self: &Arc<Self>, way: Way, piece: &[u8]) {
        let mut plan = self.plan.lock().unwrap();
        let has_come = match &*plan {
            Some((Moment::After(planned, bytes), ..)) => {
                *planned == way && self.carried[way as usize].load(Ordering::Relaxed) >= *bytes
            }
            Some((Moment::At(text), ..)) => {
                way == Way::ToServer && piece.windows(text.len()).any(|part| part == text.as_bytes())
            }
            None => false,
        };
        let Some((_, how, away)) = plan.take_if(|_| has_come) else { return };
        drop(plan);
        self.cut(how);
        let line = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(away);
            line.join();
        });
    }
}
