//! The bound: a copier that gets every step in advance and does nothing else.
//!
//! It keeps one connection per stream to each side, hashes the bytes, sends the minimum of requests, and never sends the
//! last piece of content with a wrong hash. One thread per stream, blocking sockets, no library: a real tool takes longer
//! because it has to find out what to do, and because of its machinery. It runs as a process of its own (`peers bound
//! STREAMS PLAN FROM TO`), so that it is measured as the tools are.

use std::collections::BinaryHeap;
use std::io;
use std::process::ExitCode;
use std::sync::{Condvar, Mutex};

use sha2::{Digest as _, Sha256};
use testkit::connection::{Answer, Connection};

use crate::plan::{Task, Verb};

/// Runs as the bound; `arguments` are the ones after the word `bound`.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [streams, plan, from, to] = arguments else { return complain("bound STREAMS PLAN FROM TO") };
    let text = std::fs::read_to_string(plan).unwrap();
    let Some(tasks) = text.lines().map(Task::parse).collect::<Option<Vec<_>>>() else {
        return complain("not a plan");
    };
    let streams = streams.parse::<usize>().unwrap().clamp(1, tasks.len().max(1));
    let queue = Queue::new(&tasks);
    std::thread::scope(|scope| {
        for _ in 0..streams {
            scope.spawn(|| {
                if let Err(error) = stream(&tasks, &queue, from, to) {
                    queue.give_up(error.to_string());
                }
            });
        }
    });
    queue.outcome().map_or_else(|why| complain(&why), |()| ExitCode::SUCCESS)
}

fn complain(why: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "a program of its own")]
    {
        eprintln!("bound: {why}");
    }
    ExitCode::FAILURE
}

fn stream(tasks: &[Task], queue: &Queue, from: &str, to: &str) -> io::Result<()> {
    let mut ends = Ends { source: Connection::open(from)?, destination: Connection::open(to)? };
    while let Some(number) = queue.take() {
        let task = &tasks[number];
        let done = match task.verb {
            Verb::Blob => ends.blob(task),
            Verb::Mount => ends.mount(task),
            Verb::Manifest => ends.manifest(task),
            Verb::Compare => ends.compare(task),
        };
        done.map_err(|error| io::Error::other(format!("{task}: {error}")))?;
        queue.done(number);
    }
    Ok(())
}

struct Ends {
    source: Connection,
    destination: Connection,
}

impl Ends {
    fn blob(&mut self, task: &Task) -> io::Result<()> {
        let Task { repository, digest, size, .. } = task;
        // Both requests are sent before either answer is read: one round trip for two.
        self.source.begin("GET", &format!("/v2/{repository}/blobs/{digest}"), "")?;
        self.source.flush()?;
        let opened = self.destination.ask("POST", &format!("/v2/{repository}/blobs/uploads/"))?;
        expect(&opened, 202)?;
        let location = opened.location.ok_or_else(|| io::Error::other("no location"))?;
        let answer = self.source.answer("GET")?;
        expect(&answer, 200)?;
        if answer.length != *size {
            return Err(io::Error::other(format!("{} bytes instead of {size}", answer.length)));
        }
        let mark = if location.contains('?') { '&' } else { '?' };
        let headers = format!("Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n");
        self.destination.begin("PUT", &format!("{location}{mark}digest={digest}"), &headers)?;
        let (mut hash, mut left) = (Sha256::new(), *size);
        while left > 0 {
            let piece = self.source.piece(left)?;
            hash.update(piece);
            left -= piece.len() as u64;
            if left == 0 {
                matches(hash.clone(), digest)?;
            }
            self.destination.send(piece)?;
        }
        expect(&self.destination.answer("PUT")?, 201)
    }

    fn mount(&mut self, task: &Task) -> io::Result<()> {
        let Task { repository, digest, detail: from, .. } = task;
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
        expect(&self.destination.ask("POST", &path)?, 201)
    }

    fn manifest(&mut self, task: &Task) -> io::Result<()> {
        let Task { repository, digest, detail, .. } = task;
        let (name, media_type) = detail.split_once('|').ok_or_else(|| io::Error::other("no media type"))?;
        let path = format!("/v2/{repository}/manifests/{name}");
        self.source.begin("GET", &path, &format!("Accept: {media_type}\r\n"))?;
        let answer = self.source.answer("GET")?;
        expect(&answer, 200)?;
        let bytes = self.source.whole(answer.length)?;
        matches(Sha256::new_with_prefix(&bytes), digest)?;
        let headers = format!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", bytes.len());
        self.destination.begin("PUT", &path, &headers)?;
        self.destination.send(&bytes)?;
        expect(&self.destination.answer("PUT")?, 201)
    }

    fn compare(&mut self, task: &Task) -> io::Result<()> {
        let path = format!("/v2/{}/manifests/{}", task.repository, task.detail);
        for end in [&mut self.source, &mut self.destination] {
            end.begin("HEAD", &path, ACCEPT)?;
            end.flush()?;
        }
        for end in [&mut self.source, &mut self.destination] {
            let answer = end.answer("HEAD")?;
            expect(&answer, 200)?;
            if answer.digest.as_ref() != Some(&task.digest) {
                return Err(io::Error::other(format!("found {:?}", answer.digest)));
            }
        }
        Ok(())
    }
}

/// Every manifest type in the workloads.
pub(crate) const ACCEPT: &str =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json\r\n";

fn expect(answer: &Answer, status: u16) -> io::Result<()> {
    if answer.status == status { Ok(()) } else { Err(io::Error::other(format!("{status} was due, came {answer:?}"))) }
}

fn matches(hash: Sha256, digest: &str) -> io::Result<()> {
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    if found == digest { Ok(()) } else { Err(io::Error::other(format!("the bytes are {found}"))) }
}

/// Ready tasks, largest blobs first; but tasks that others wait for come before all.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// For each task, the tasks that wait for it.
    next: Vec<Vec<usize>>,
    weight: Vec<u64>,
}

struct State {
    ready: BinaryHeap<(u64, usize)>,
    /// For each task, the number of tasks that it still waits for.
    waits: Vec<usize>,
    left: usize,
    failure: Option<String>,
}

impl Queue {
    fn new(tasks: &[Task]) -> Self {
        let weigh = |task: &Task| if task.verb == Verb::Blob { task.size } else { u64::MAX };
        let weight: Vec<_> = tasks.iter().map(weigh).collect();
        let mut next = vec![Vec::new(); tasks.len()];
        for (number, task) in tasks.iter().enumerate() {
            for &before in &task.after {
                next[before].push(number);
            }
        }
        let waits: Vec<_> = tasks.iter().map(|task| task.after.len()).collect();
        let ready = (0..tasks.len()).filter(|&number| waits[number] == 0).map(|number| (weight[number], number));
        let state = State { ready: ready.collect(), waits, left: tasks.len(), failure: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), next, weight }
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.left == 0 || state.failure.is_some() {
                return None;
            }
            if let Some((_, number)) = state.ready.pop() {
                return Some(number);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    fn done(&self, number: usize) {
        let mut state = self.state.lock().unwrap();
        state.left -= 1;
        let mut freed = 0;
        for &waiting in &self.next[number] {
            state.waits[waiting] -= 1;
            if state.waits[waiting] == 0 {
                state.ready.push((self.weight[waiting], waiting));
                freed += 1;
            }
        }
        // This thread takes one of them; a single task wakes no other thread.
        if state.left == 0 || freed > 1 {
            self.changed.notify_all();
        }
    }

    fn give_up(&self, why: String) {
        self.state.lock().unwrap().failure.get_or_insert(why);
        self.changed.notify_all();
    }

    fn outcome(self) -> Result<(), String> {
        self.state.into_inner().unwrap().failure.map_or(Ok(()), Err)
    }
}
