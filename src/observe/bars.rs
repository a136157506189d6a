//! Bars on a terminal: one for each large blob in flight, and lines for the whole run. `indicatif` draws them.
//!
//! Rates and the time left come from [`ProgressTotals`], as in the other forms: `indicatif` keeps its own clock.

use std::io::Result;
use std::sync::{Arc, Mutex, MutexGuard};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::layout::{self, BarLine};
use super::progress::{MovingNode, ProgressTotals};
use super::teller::{Teller, above};
use super::terminal::Screen;
use crate::copy::{Event, Message};

/// Smallest blob with a bar of its own, in bytes: the bar of a smaller one would be gone before it can be read.
const LARGE: u64 = 1 << 20;
/// Most bars at a time. Further blobs count in the total only.
const MAX_BARS: usize = 8;
/// Widest line, in columns. A terminal that becomes narrower than a line breaks the line in two; few become that narrow.
const MAX_COLUMNS: u16 = 80;
/// Width of an output that is not a terminal.
const DEFAULT_COLUMNS: u16 = 80;

/// Draws the bars, and removes them when dropped.
#[derive(Debug)]
pub(super) struct Bars {
    screen: Screen,
    frame: Frame,
    drawing: MultiProgress,
    blobs: Vec<ProgressBar>,
    /// The number of images, for a run of several.
    images: ProgressBar,
    total: ProgressBar,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let frame = Frame::default();
        let drawing = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(frame.clone())));
        let [images, total] = [(); 2].map(|()| drawing.add(ProgressBar::hidden()));
        Self { screen, frame, drawing, blobs: Vec::new(), images, total }
    }

    /// Makes as many bars for blobs as are in flight: the others leave the screen.
    fn resize(&mut self, count: usize) {
        while self.blobs.len() < count {
            self.blobs.push(self.drawing.insert_before(&self.images, ProgressBar::hidden()));
        }
        self.blobs.drain(count..).for_each(|bar| self.drawing.remove(&bar));
    }
}

impl Teller for Bars {
    fn hear(&mut self, message: &Message, tally: &ProgressTotals) {
        match message.event {
            Event::Warning(_) | Event::Outage(_) | Event::LeftOut(_) | Event::Image { .. } => {
                above(&self.screen, message, tally)
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
        self.resize(large.len());
        let labels: Vec<_> = large.iter().map(|flight| layout::label(flight)).collect();
        let widest = labels.iter().map(|label| label.chars().count()).max().unwrap_or_default();
        for ((bar, flight), label) in self.blobs.iter().zip(&large).zip(&labels) {
            show(bar, layout::blob(flight, label, widest, columns), flight.position(), flight.node.size);
        }
        let images = tally.images.map(|images| layout::cut(&images.to_string(), columns)).unwrap_or_default();
        show(&self.images, BarLine::Text(images), 0, 0);
        // The last change, and so the one that draws everything as it is now.
        show(&self.total, layout::total(tally, columns), tally.bytes_done(), tally.bytes_to_move);
        self.screen.draw(self.frame.lines().clone());
    }

    fn end(&mut self, _: &ProgressTotals) {}
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.screen.draw(Vec::new());
    }
}

/// Shows `line` in `bar`, filled up to `done` of `all`.
fn show(bar: &ProgressBar, line: BarLine, done: u64, all: u64) {
    match line {
        BarLine::Text(text) => {
            bar.set_style(style("{msg}"));
            bar.set_message(text);
        }
        BarLine::Bar { label, columns, numbers } => {
            bar.set_style(style(&format!("{{prefix}} [{{bar:{columns}}}] {{msg}}")));
            bar.set_prefix(label);
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(numbers);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates of this file are correct").progress_chars("=> ")
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
