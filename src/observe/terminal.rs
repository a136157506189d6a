//! Standard error, shared by progress, messages and logs so that none tears another.
//!
//! A frame (the bars) is redrawn in place with one write: the cursor goes up, and every line ends with "erase to the end of
//! the line" and a newline. Wrapping is off meanwhile: a line wider than the terminal is cut. The cursor stays visible, so
//! that a program that is killed leaves a terminal that works. Terminals that reflow, such as tmux, still break a line that
//! is on the screen when they become narrower than it; the next frame is whole, below the broken one.
//! Everything else is written above the frame as whole lines.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use super::json_line::JsonLine;
use super::label::{Label, painted};
use crate::error::{Error, printable};

/// The output for progress, messages and logs. Clones share one output.
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
    is_coloured: bool,
    is_json: bool,
    /// The image that the whole run is about, if it is one.
    image: Option<String>,
}

impl Screen {
    /// Writes to `out`; `columns` returns its width at that time, or `None` if it is not a terminal that can draw.
    pub fn new(out: impl Write + Send + 'static, columns: impl Fn() -> Option<u16> + Send + Sync + 'static) -> Self {
        let (frame, image) = (Vec::new(), None);
        let inner = ScreenInner { out: Box::new(out), frame, is_coloured: false, is_json: false, image };
        Self { inner: Arc::new(Mutex::new(inner)), columns: Arc::new(columns) }
    }

    /// Colours the labels of messages from now on.
    #[must_use]
    pub fn coloured(self) -> Self {
        self.lock().is_coloured = true;
        self
    }

    /// Writes messages and logs as JSON lines from now on.
    pub fn use_json(&self) {
        self.lock().is_json = true;
    }

    /// Names the image of messages and logs that name none: the run has no other.
    pub fn set_image(&self, image: &impl fmt::Display) {
        self.lock().image = Some(image.to_string());
    }

    /// Returns the present width, or `None` if the output is not a terminal.
    #[must_use]
    pub fn columns(&self) -> Option<u16> {
        (self.columns)()
    }

    /// Writes a message of the program, with its label (`warning: …`) if it has one, in the form of the progress. Control
    /// characters are escaped.
    pub fn message(&self, text: &str) {
        let text = printable(text);
        if !self.is_json() {
            return self.line(&self.labelled(&text));
        }
        let line = match Label::split(&text) {
            Some((Label::Error, _, rest)) => JsonLine::failure(rest),
            Some((Label::Warning, _, rest)) => JsonLine::warning(rest),
            Some((Label::Hint, ..)) | None => JsonLine::log(&text),
        };
        self.json(&line, None);
    }

    /// Writes the error that ends the program, with its hint, in the form of the progress.
    pub fn fail(&self, error: &Error) {
        if self.is_json() {
            return self.json(&JsonLine::error(error), error.image());
        }
        self.message(&format!("error: {}", error.chain()));
        error.hint_text().into_iter().for_each(|hint| self.message(&format!("  hint: {hint}")));
    }

    /// Writes a line of the log in the form of the progress.
    pub(super) fn log(&self, text: &str) {
        if self.is_json() { self.json(&JsonLine::log(text), None) } else { self.line(text) }
    }

    /// Writes a JSON line about `image`, or else about the image of the run.
    pub(super) fn json(&self, line: &JsonLine, image: Option<&str>) {
        let of_the_run = self.lock().image.clone();
        self.line(&line.text(image.or(of_the_run.as_deref())));
    }

    /// Returns `text` with its label in colour, where colours are wanted.
    pub(super) fn labelled(&self, text: &str) -> String {
        if self.lock().is_coloured { painted(text) } else { text.to_owned() }
    }

    /// Writes `text` and a newline, above the bars if there are any. `text` is not escaped.
    pub fn line(&self, text: &str) {
        let mut inner = self.lock();
        // Writes over the frame and draws it again below: erasing it first would make tmux keep it in its history.
        let bytes = match inner.frame.is_empty() {
            true => format!("{text}\n"),
            false => format!("{}{text}\x1b[K\n{}", up(inner.frame.len()), drawn(&inner.frame)),
        };
        inner.write(&bytes);
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

    fn is_json(&self) -> bool {
        self.lock().is_json
    }

    fn lock(&self) -> MutexGuard<'_, ScreenInner> {
        crate::sync::lock(&self.inner)
    }
}

impl ScreenInner {
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

/// To the first column first: the terminal shows `^C` where the cursor is.
fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\r\x1b[{lines}A") }
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
                    // Every line is written from its first column.
                    '\r' => {}
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
                    _ => {
                        let end = rest.find(['\n', '\r', '\x1b']).unwrap_or(rest.len());
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
    fn a_frame_begins_in_the_first_column_whatever_the_terminal_has_shown() {
        let paper = Paper::default();
        let screen = Screen::new(paper.clone(), || Some(80));
        screen.draw(frame(&["a"]));
        let writes: [fn(&Screen); 3] =
            [|screen| screen.draw(frame(&["b"])), |screen| screen.line("x"), |screen| screen.draw(vec![])];
        for write in writes {
            let before = paper.text().len();
            write(&screen);
            assert!(paper.text()[before..].starts_with("\r\u{1b}[1A"), "{:?}", &paper.text()[before..]);
        }
        assert!(!paper.text().contains("\u{1b}[?25"), "the cursor stays visible");
        assert!(paper.text().ends_with("\u{1b}[J"));
        assert_eq!(paper.text().matches("\u{1b}[?7l").count(), paper.text().matches("\u{1b}[?7h").count());
    }

    #[test]
    fn labels_have_colours_where_they_are_wanted() {
        let (plain, coloured) = (Paper::default(), Paper::default());
        let error = Error::new(crate::error::Kind::Denied, "get").on("a\u{1b}b").hint("log in");
        Screen::new(plain.clone(), || None).fail(&error);
        assert_eq!(plain.text(), "error: get a\\u{1b}b: access denied\n  hint: log in\n");
        Screen::new(coloured.clone(), || None).coloured().fail(&error);
        assert_eq!(coloured.text().matches('\u{1b}').count(), 6, "{:?}", coloured.text());
        assert!(coloured.text().contains("error:\u{1b}[0m get a\\u{1b}b: access denied\n  \u{1b}"));
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
