//! The program under test: one or two server processes on one folder, with concurrent garbage collection.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::world::{Address, World};

/// Longest time for the start or the stop of a server.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVE: &str = "serve";

/// One process, and its log.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    name: &'static str,
    /// Whether its panic has been reported.
    is_told: bool,
}

/// A folder with its servers.
#[derive(Debug)]
pub struct Site {
    program: &'static str,
    home: tempfile::TempDir,
    world: Arc<World>,
    servers: [Option<Process>; 2],
    collector: Option<Process>,
    generations: u64,
    /// Number of servers started after the first one.
    pub restarts: u64,
    pub collections: u64,
    /// Peak memory of any process, in KiB.
    pub peak: u64,
}

/// Resources of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub descriptors: usize,
    pub threads: u64,
}

impl Site {
    /// A home with an empty data folder, and beside it files that the server must neither serve nor touch.
    pub fn new(world: Arc<World>, program: &'static str, users: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in ["data", "canary", "tmp"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        for file in ["canary/secret", "canary/index.json", "secret"] {
            std::fs::write(home.path().join(file), &world.canary).unwrap();
        }
        std::fs::write(home.path().join("users"), users).unwrap();
        let (servers, collector) = ([None, None], None);
        Self { home, world, program, servers, collector, generations: 0, restarts: 0, collections: 0, peak: 0 }
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Files beside the data folder that have changed.
    pub fn strays(&self) -> Vec<PathBuf> {
        let home = self.home.path();
        let made = ["canary", "canary/secret", "canary/index.json", "secret", "users", "tmp"];
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in [home.to_owned(), home.join("canary"), home.join("tmp")] {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(home).unwrap();
                if !made.iter().any(|known| name == Path::new(known)) && name != Path::new("data") {
                    found.push(path);
                }
            }
        }
        let is_changed = |name: &&str| std::fs::read_to_string(home.join(name)).ok() != Some(self.world.canary.clone());
        let changed = ["canary/secret", "canary/index.json", "secret"].into_iter().filter(is_changed);
        found.extend(changed.map(|name| home.join(name)));
        found
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(self.home.path()).env("HOME", self.home.path().join("tmp"));
        command.env("TMPDIR", self.home.path().join("tmp")).args(["registry", verb, "--data-dir", "data"]);
        command
    }

    /// Starts a server in one of the two slots; with or without passwords.
    pub fn start(&mut self, place: usize, with_users: bool) {
        let mut command = self.command("serve");
        command.args(["--listen", "127.0.0.1:0", "--upload-expiry", "60s", "--grace", "2s"]);
        if with_users {
            command.args(["--htpasswd", "users"]);
        }
        let mut process = Process::start(command, SERVE);
        let mut line = String::new();
        let _ = BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line);
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        self.restarts += u64::from(self.generations > 0);
        self.generations += 1;
        match address {
            Some(address) => {
                let server = Address { address, generation: self.generations };
                self.world.addresses.lock().unwrap()[place] = Some(server);
                self.servers[place] = Some(process);
            }
            None => self.world.fault(&format!("a server did not start: {line:?}\n{}", process.told()), &[]),
        }
    }

    pub fn is_running(&self, place: usize) -> bool {
        self.servers[place].is_some()
    }

    /// Ends a server with SIGKILL, or gracefully.
    pub fn end(&mut self, place: usize, with_kill: bool) {
        self.look();
        // First, so that no client reports a broken connection as a fault.
        self.world.addresses.lock().unwrap()[place] = None;
        let Some(mut process) = self.servers[place].take() else { return };
        let status = match with_kill {
            true => {
                let _ = process.child.kill();
                process.child.wait().ok()
            }
            false => {
                let _ = Command::new("kill").arg(process.child.id().to_string()).status();
                process.ended()
            }
        };
        if !with_kill && status.is_none_or(|status| !status.success()) {
            self.world.fault(&format!("a server that was told to stop: {status:?}\n{}", process.told()), &[]);
        }
        process.judge(&self.world);
    }

    /// Starts a collection, unless one is running. The next look checks its result.
    pub fn collect(&mut self, more: &[&str]) {
        if self.collector.is_none() {
            let mut command = self.command("gc");
            command.args(more);
            self.collections += 1;
            self.collector = Some(Process::start(command, "gc"));
        }
    }

    /// Waits for a collection to end.
    pub fn collected(&mut self) {
        if let Some(mut process) = self.collector.take() {
            let status = process.ended();
            process.judge(&self.world);
            if status.is_none_or(|status| !status.success()) {
                self.world.fault(&format!("gc: {status:?}\n{}", process.told()), &[]);
            }
        }
    }

    /// Notes the size of the servers, and checks that they still run.
    pub fn look(&mut self) {
        for place in 0..2 {
            let Some(process) = &mut self.servers[place] else { continue };
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap_or_default();
            self.peak = self.peak.max(field(&status, "VmHWM:"));
            process.look(&self.world);
            if let Ok(Some(status)) = process.child.try_wait() {
                self.world.fault(&format!("a server has ended: {status}\n{}", process.told()), &[]);
                self.world.addresses.lock().unwrap()[place] = None;
                self.servers[place] = None;
                self.start(place, false);
            }
        }
        let is_done = |process: &mut Process| matches!(process.child.try_wait(), Ok(Some(_)));
        if self.collector.as_mut().is_some_and(is_done) {
            self.collected();
        }
    }

    /// Descriptors and threads of a server.
    pub fn held(&self, place: usize) -> Option<Held> {
        let id = self.servers[place].as_ref()?.child.id();
        let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        Some(Held { descriptors, threads: field(&status, "Threads:") })
    }
}

impl Process {
    fn start(mut command: Command, name: &'static str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::default();
        let mut readers = vec![keep(child.stderr.take().unwrap(), &log)];
        // The first line of a server names its address.
        if name != SERVE {
            readers.push(keep(child.stdout.take().unwrap(), &log));
        }
        Self { child, log, readers, name, is_told: false }
    }

    /// Waits for its end, and kills it after a timeout.
    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    fn told(&self) -> String {
        self.log.lock().unwrap().iter().map(|line| format!("    {line}\n")).collect()
    }

    /// Reports a panic of this ended process.
    fn judge(&mut self, world: &World) {
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        self.look(world);
    }

    fn look(&mut self, world: &World) {
        if !self.is_told && self.log.lock().unwrap().iter().any(|line| line.contains("panicked")) {
            self.is_told = true;
            world.fault(&format!("{} has panicked:\n{}", self.name, self.told()), &[]);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the last lines of a process's output; a panic stays, with the lines after it.
fn keep(from: impl Read + Send + 'static, log: &Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            if log.len() > 40 && !log.iter().any(|line| line.contains("panicked")) {
                log.pop_front();
            }
            if log.len() < 200 {
                log.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        }
    })
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
