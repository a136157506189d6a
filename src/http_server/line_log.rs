//! A log of lines in a file or on stdout, written by a thread of its own.
//!
//! A request never waits for the disk: at most [`WAITING`] lines wait in memory, and further ones are lost, as are lines
//! that a full disk refuses. Serving goes on. Lost lines are counted, and a line in the log says how many are missing
//! once it can be written again. The lines of the last moment are lost if the process is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Kind, Result};

/// Most lines that wait for the disk: a few seconds of a busy server, and a few megabytes.
const WAITING: usize = 8_192;

/// Most bytes that are written at once.
const MAX_BATCH_BYTES: usize = 64 << 10;

/// Longest wait for the disk at the end.
const END: Duration = Duration::from_secs(2);

/// The place of the lines.
#[derive(Debug, Clone)]
pub(crate) enum LineTarget {
    Stdout,
    /// A file, to which lines are added.
    File(PathBuf),
}

/// A log that is open.
#[derive(Debug)]
pub(crate) struct LineLog {
    lines: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(String),
    Reopen,
    End(oneshot::Sender<()>),
}

/// Opens the place of the lines.
type Open = Box<dyn Fn() -> io::Result<Box<dyn Write>> + Send>;

impl LineLog {
    /// Opens the log. `lost` returns the line that stands for lost ones.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the file cannot be written.
    pub(crate) fn start(target: LineTarget, lost: fn(u64) -> String) -> Result<Self> {
        let place = match &target {
            LineTarget::Stdout => "stdout".to_owned(),
            LineTarget::File(path) => path.display().to_string(),
        };
        let open: Open = Box::new(move || match &target {
            LineTarget::Stdout => Ok(Box::new(io::stdout())),
            LineTarget::File(path) => {
                OpenOptions::new().append(true).create(true).open(path).map(|file: File| Box::new(file) as _)
            }
        });
        Self::over(open, lost, &place)
            .map_err(|why| Error::new(Kind::Local, "open the access log").on(place).because(why))
    }

    fn over(open: Open, lost_line: fn(u64) -> String, place: &str) -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        // Tried here, so that a name without a folder is an error of the command line.
        drop(open()?);
        let (count, place) = (Arc::clone(&lost), place.to_owned());
        let run = move || {
            let Ok(target) = open() else { return };
            LineWriter { open, target, waiting, lost: count, lost_line, place, is_torn: false, is_failing: false }
                .run();
        };
        std::thread::Builder::new().name("line-log".to_owned()).spawn(run)?;
        Ok(Self { lines, lost })
    }

    /// Adds a line, without its end. Never waits.
    pub(crate) fn write(&self, line: String) {
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file again, so that one that was renamed is left.
    pub(crate) fn reopen(&self) {
        // A full queue means that the disk does not answer: the next signal comes with the next rotation.
        let _ = self.lines.try_send(Message::Reopen);
    }

    /// Waits until the lines so far are written, for a moment.
    pub(crate) async fn end(&self) {
        let (done, ended) = oneshot::channel();
        let written = async {
            if self.lines.send(Message::End(done)).await.is_ok() {
                let _ = ended.await;
            }
        };
        let _ = tokio::time::timeout(END, written).await;
    }
}

/// The thread that writes.
struct LineWriter {
    open: Open,
    target: Box<dyn Write>,
    waiting: mpsc::Receiver<Message>,
    lost: Arc<AtomicU64>,
    lost_line: fn(u64) -> String,
    place: String,
    /// Whether the last line may be there in part.
    is_torn: bool,
    is_failing: bool,
}

impl LineWriter {
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let (mut batch, mut count, mut next) = (String::new(), 0, Some(first));
            while let Some(Message::Line(line)) = next {
                batch.push_str(&line);
                batch.push('\n');
                count += 1;
                next = if batch.len() < MAX_BATCH_BYTES { self.waiting.try_recv().ok() } else { None };
            }
            self.write(&batch, count);
            match next {
                Some(Message::Reopen) => self.reopen(),
                // The caller may have gone.
                Some(Message::End(done)) => drop(done.send(())),
                Some(Message::Line(_)) | None => {}
            }
        }
    }

    /// Writes lines, and before them the number of lines that were lost.
    fn write(&mut self, batch: &str, count: u64) {
        if batch.is_empty() {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let mut text = if self.is_torn { "\n".to_owned() } else { String::new() };
        if lost > 0 {
            text.push_str(&(self.lost_line)(lost));
            text.push('\n');
        }
        text.push_str(batch);
        match self.target.write_all(text.as_bytes()).and_then(|()| self.target.flush()) {
            Ok(()) => (self.is_torn, self.is_failing) = (false, false),
            Err(why) => {
                self.lost.fetch_add(lost + count, Ordering::Relaxed);
                self.is_torn = true;
                if !self.is_failing {
                    tracing::error!(log = self.place, %why, "the access log cannot be written; serving goes on without it");
                }
                self.is_failing = true;
            }
        }
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(target) => (self.target, self.is_torn) = (target, false),
            Err(why) => {
                tracing::error!(log = self.place, %why, "the access log cannot be opened again; the open file stays")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    fn gap(lost: u64) -> String {
        format!("{lost} lost")
    }

    /// A disk that may be full: it then takes the first byte of a text.
    #[derive(Clone, Default)]
    struct Disk {
        text: Arc<Mutex<String>>,
        is_full: Arc<AtomicBool>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = if self.is_full.load(Ordering::SeqCst) { &bytes[..1] } else { bytes };
            self.text.lock().unwrap().push_str(std::str::from_utf8(taken).unwrap());
            if taken.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_disk_loses_lines_and_the_log_says_how_many() {
        let disk = Disk::default();
        let target = disk.clone();
        let log = LineLog::over(Box::new(move || Ok(Box::new(target.clone()))), gap, "a disk").unwrap();
        let write = async |line: &str| {
            log.write(line.to_owned());
            log.end().await;
        };
        write("one").await;
        disk.is_full.store(true, Ordering::SeqCst);
        write("two").await;
        write("three").await;
        disk.is_full.store(false, Ordering::SeqCst);
        write("four").await;
        assert_eq!(*disk.text.lock().unwrap(), "one\nt\n\n2 lost\nfour\n");
    }

    #[tokio::test]
    async fn no_more_lines_wait_than_may_and_nothing_blocks() {
        let (lines, waiting) = mpsc::channel(2);
        let log = LineLog { lines, lost: Arc::default() };
        for line in ["a", "b", "c", "d"] {
            log.write(line.to_owned());
        }
        assert_eq!((waiting.len(), log.lost.load(Ordering::Relaxed)), (2, 2));
    }

    #[tokio::test]
    async fn a_renamed_file_is_left_at_the_signal() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = LineLog::start(LineTarget::File(path.clone()), gap).unwrap();
        log.write("one".to_owned());
        log.end().await;
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        log.write("two".to_owned());
        log.end().await;
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&old), read(&path)), ("one\n".to_owned(), "two\n".to_owned()));
        let nowhere = LineTarget::File(folder.path().join("none/log"));
        assert_eq!(LineLog::start(nowhere, gap).unwrap_err().kind(), Kind::Local);
    }
}
