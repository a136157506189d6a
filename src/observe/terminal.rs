//! Standard error, shared by progress and logs so that neither tears the other.
//!
//! A frame (the bars) is redrawn in place with one write: the cursor goes up, and every line ends with "erase to the end of
//! the line" and a newline. Wrapping is off meanwhile: a line wider than the terminal is cut. Terminals that reflow, such as
//! tmux, still break a line that is on the screen when they become narrower than it; so the lines of a frame are short.
//! Everything else is written above the frame as whole lines.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

/// The output for progress and logs. Clones share one output.
///
/// Errors of the output are ignored: a copy goes on without its progress display.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Mutex<ScreenInner>>,
    columns: Arc<dyn Fn() -> Option<u16> + Send + Sync>,
}

struct ScreenInner {
    out: Box<dyn Write + Send>,
    frame: Vec<String>,
    dress: fn(&str) -> String,
}

impl Screen {
    /// Writes to `out`; `columns` returns its width at that time, or `None` if it is not a terminal.
    pub fn new(out: impl Write + Send + 'static, columns: impl Fn() -> Option<u16> + Send + Sync + 'static) -> Self {
        let inner = ScreenInner { out: Box::new(out), frame: Vec::new(), dress: str::to_owned };
        Self { inner: Arc::new(Mutex::new(inner)), columns: Arc::new(columns) }
    }

    /// Returns the present width, or `None` if the output is not a terminal.
    #[must_use]
    pub fn columns(&self) -> Option<u16> {
        (self.columns)()
    }

    /// Writes `text` and a newline, above the bars if there are any. `text` is not escaped.
    pub fn line(&self, text: &str) {
        let mut inner = self.lock();
        let mut bytes = inner.erased();
        bytes.push_str(text);
        bytes.push('\n');
        bytes.push_str(&drawn(&inner.frame));
        inner.write(&bytes);
    }

    /// Writes a line of the log in the form of the other output.
    pub(super) fn log(&self, text: &str) {
        let dress = self.lock().dress;
        self.line(&dress(text));
    }

    /// Sets the form of log lines.
    pub(super) fn dress_logs(&self, dress: fn(&str) -> String) {
        self.lock().dress = dress;
    }

    /// Replaces the frame on the screen; an empty frame removes it.
    pub(super) fn draw(&self, frame: Vec<String>) {
        let mut inner = self.lock();
        if inner.frame == frame {
            return;
        }
        let up = up(inner.frame.len());
        let rest = if frame.len() < inner.frame.len() { "\x1b[J" } else { "" };
        let bytes = format!("{up}{}{rest}", drawn(&frame));
        inner.frame = frame;
        inner.write(&bytes);
    }

    fn lock(&self) -> MutexGuard<'_, ScreenInner> {
        crate::sync::lock(&self.inner)
    }
}

impl ScreenInner {
    fn erased(&self) -> String {
        if self.frame.is_empty() { String::new() } else { format!("{}\x1b[J", up(self.frame.len())) }
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A") }
}

fn drawn(frame: &[String]) -> String {
    if frame.is_empty() {
        return String::new();
    }
    let lines: String = frame.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[?7l{lines}\x1b[?7h")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An output that tests can read back.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// The lines that a terminal would show: cursor up, erase to the end of line or screen, newline.
        pub(in super::super) fn shown(&self) -> Vec<String> {
            let (mut lines, mut row) = (vec![String::new()], 0);
            let text = self.text();
            let mut rest = text.as_str();
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                match c {
                    '\n' => {
                        row += 1;
                        if row == lines.len() {
                            lines.push(String::new());
                        }
                    }
                    '\x1b' => {
                        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                        let (code, after) = rest.split_at(end + 1);
                        rest = after;
                        match code {
                            "[J" => lines.truncate(row + 1),
                            "[K" | "[?7l" | "[?7h" => {}
                            _ => {
                                row -=
                                    code.strip_prefix('[').unwrap().strip_suffix('A').unwrap().parse::<usize>().unwrap()
                            }
                        }
                        if code == "[J" {
                            lines[row].clear();
                        }
                    }
                    // Every line is written from its first column.
                    _ => {
                        let end = rest.find(['\n', '\x1b']).unwrap_or(rest.len());
                        lines[row] = format!("{c}{}", &rest[..end]);
                        rest = &rest[end..];
                    }
                }
            }
            lines.retain(|line| !line.is_empty());
            lines
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn frame(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn lines_stand_above_the_frame_and_the_frame_leaves_nothing_behind() {
        let paper = Paper::default();
        let screen = Screen::new(paper.clone(), || Some(80));
        screen.draw(frame(&["a", "b"]));
        screen.line("warning");
        assert_eq!(paper.shown(), ["warning", "a", "b"]);
        screen.draw(frame(&["c"]));
        screen.line("another");
        assert_eq!(paper.shown(), ["warning", "another", "c"]);
        screen.draw(frame(&["d", "e", "f"]));
        assert_eq!(paper.shown(), ["warning", "another", "d", "e", "f"]);
        screen.draw(Vec::new());
        assert_eq!(paper.shown(), ["warning", "another"]);
    }

    #[test]
    fn a_frame_that_has_not_changed_is_not_written_again() {
        let paper = Paper::default();
        let screen = Screen::new(paper.clone(), || Some(80));
        screen.draw(frame(&["a"]));
        let before = paper.text();
        screen.draw(frame(&["a"]));
        assert_eq!(paper.text(), before);
    }
}
