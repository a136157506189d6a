//! Bars on a terminal: one for each large blob in flight, and a line for the whole run. `indicatif` draws them.
//!
//! Rates and the time left come from [`ProgressTotals`], as in the other forms: `indicatif` keeps its own clock.

use std::io::Result;
use std::sync::{Arc, Mutex, MutexGuard};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::human::{bytes, count, duration, rate};
use super::progress::{MovingNode, ProgressTotals};
use super::teller::{Teller, event_line};
use super::terminal::Screen;
use crate::copy::Event;

/// Smallest blob with a bar of its own, in bytes: the bar of a smaller one would be gone before it can be read.
const LARGE: u64 = 1 << 20;
/// Most bars at a time. Further blobs count in the total only.
const MAX_BARS: usize = 8;
/// Widest line, in columns. A terminal that becomes narrower than a line breaks the line in two; few are narrower than this.
const MAX_COLUMNS: u16 = 60;
/// Narrowest terminal with bars; below it the numbers stand alone.
const MIN_COLUMNS: usize = 50;
/// Columns in front of the numbers: the digest, the bar of 8 with its ends, two blanks.
const BAR_COLUMNS: usize = 12 + 1 + 10 + 1;
/// Width of an output that is not a terminal.
const DEFAULT_COLUMNS: u16 = 80;

/// Draws the bars, and removes them when dropped.
#[derive(Debug)]
pub(super) struct Bars {
    screen: Screen,
    frame: Frame,
    drawing: MultiProgress,
    blobs: Vec<ProgressBar>,
    total: ProgressBar,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let frame = Frame::default();
        let drawing = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(frame.clone())));
        let total = drawing.add(ProgressBar::hidden());
        total.set_style(style("{msg}"));
        Self { screen, frame, drawing, blobs: Vec::new(), total }
    }

    /// Shows `flight` in bar number `at`, which is new if there are `at` bars.
    fn show(&mut self, at: usize, flight: &MovingNode, columns: usize) {
        if at == self.blobs.len() {
            self.blobs.push(self.drawing.insert_before(&self.total, ProgressBar::hidden()));
        }
        let (bar, digest, mut parts) = (&self.blobs[at], flight.node.digest.short(), blob_parts(flight));
        if columns < MIN_COLUMNS {
            parts[0] = format!("{digest} {}", parts[0]);
            bar.set_style(style("{msg}"));
            return bar.set_message(joined(&parts, columns));
        }
        bar.set_style(style("{prefix} [{bar:8}] {msg}"));
        bar.set_prefix(digest);
        bar.set_length(flight.node.size);
        bar.set_position(flight.position());
        bar.set_message(joined(&parts, columns - BAR_COLUMNS));
    }
}

impl Teller for Bars {
    fn hear(&mut self, event: &Event, tally: &ProgressTotals) {
        match event {
            Event::Warning(_) | Event::LeftOut(_) | Event::Image { .. } => {
                event_line(event).iter().for_each(|line| self.screen.line(line))
            }
            // Stages are few, and a short one would be over between two ticks.
            Event::Stage(_) => self.tick(tally),
            _ => {}
        }
    }

    fn tick(&mut self, tally: &ProgressTotals) {
        // Read again each time: the window may have another width by now. The last column stays free.
        let columns = self.screen.columns().unwrap_or(DEFAULT_COLUMNS).clamp(1, MAX_COLUMNS);
        let columns = usize::from(columns - 1);
        let is_large = |flight: &&MovingNode| flight.node.size >= LARGE && !flight.node.is_manifest();
        let large: Vec<_> = tally.flights().iter().filter(is_large).take(MAX_BARS).collect();
        large.iter().enumerate().for_each(|(at, flight)| self.show(at, flight, columns));
        self.blobs.drain(large.len()..).for_each(|bar| self.drawing.remove(&bar));
        // The last change, and so the one that draws everything as it is now.
        self.total.set_message(total_line(tally, columns));
        self.screen.draw(self.frame.lines().clone());
    }

    fn end(&mut self, _: &ProgressTotals) {}
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.screen.draw(Vec::new());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates of this file are correct").progress_chars("=> ")
}

fn blob_parts(flight: &MovingNode) -> Vec<String> {
    let mut parts = vec![format!("{} of {}", bytes(flight.position()), bytes(flight.node.size))];
    parts.extend(flight.per_second().map(rate));
    parts
}

fn total_line(tally: &ProgressTotals, columns: usize) -> String {
    let mut parts = Vec::new();
    if tally.is_planned && tally.bytes_to_move > 0 {
        parts.push(format!("{} of {}", bytes(tally.bytes_done()), bytes(tally.bytes_to_move)));
        parts.extend(tally.per_second().map(rate));
        parts.extend(tally.time_left().map(|left| format!("{} left", duration(left))));
        parts.push(format!("{}/{}", tally.blobs_done, count(tally.blobs_to_put, "blob")));
    }
    match (tally.stage, parts.is_empty()) {
        (Some(stage), false) => parts[0] = format!("{stage}: {}", parts[0]),
        (Some(stage), true) => parts.push(stage.to_owned()),
        (None, _) => {}
    }
    joined(&parts, columns)
}

/// Joins the first of `parts` that fit into `columns`. The very first is cut if it does not fit.
fn joined(parts: &[String], columns: usize) -> String {
    let lines = (1..=parts.len()).map(|count| parts[..count].join(", "));
    let line = lines.enumerate().take_while(|(at, line)| *at == 0 || line.len() <= columns).last();
    line.map_or_else(String::new, |(_, line)| line.chars().take(columns).collect())
}

/// The lines that `indicatif` draws, for the [`Screen`] to show: it knows the log lines above them and writes them at once.
///
/// After each line `indicatif` writes blanks up to the width of the terminal. A terminal that becomes narrower would break
/// them off into a line of their own, so they are dropped.
#[derive(Debug, Clone, Default)]
struct Frame(Arc<Mutex<Vec<String>>>);

impl Frame {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        crate::sync::lock(&self.0)
    }
}

impl TermLike for Frame {
    /// More than any line has, so that `indicatif` counts no line twice.
    fn width(&self) -> u16 {
        MAX_COLUMNS
    }

    /// Begins a new frame: each drawing starts with the way up to its first line.
    fn move_cursor_up(&self, _: usize) -> Result<()> {
        self.lines().clear();
        Ok(())
    }

    fn write_str(&self, text: &str) -> Result<()> {
        if !text.trim().is_empty() {
            self.lines().push(text.to_owned());
        }
        Ok(())
    }

    fn write_line(&self, text: &str) -> Result<()> {
        self.write_str(text)
    }

    fn move_cursor_down(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
