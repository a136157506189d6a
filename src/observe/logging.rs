//! The log: traces of our own code, on the same screen as the progress.
//!
//! Libraries are silent below [`Detail::Trace`], and traces of the HTTP client's requests are off at every level: they hold
//! headers, and headers hold credentials. Control characters in foreign text are escaped.

use std::io::{self, Write};

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::Screen;
use crate::error::printable;

/// How detailed the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Errors only (`--quiet`).
    Errors,
    /// Warnings too.
    #[default]
    Warnings,
    /// Decisions of our own code, with the time (`-v`).
    Debug,
    /// All traces of our own code, and those of libraries about connections (`-vv`).
    Trace,
}

impl Detail {
    fn targets(self) -> Targets {
        // A target matches by prefix: both the library's `autonomy_registry` and the program's `autonomy`.
        const OURS: &str = "autonomy";
        match self {
            Self::Errors => Targets::new().with_default(LevelFilter::ERROR),
            Self::Warnings => Targets::new().with_default(LevelFilter::WARN),
            Self::Debug => Targets::new().with_default(LevelFilter::WARN).with_target(OURS, Level::DEBUG),
            Self::Trace => {
                let libraries = ["hyper", "hyper_util", "rustls"].map(|name| (name, LevelFilter::DEBUG));
                let targets = Targets::new().with_default(LevelFilter::WARN).with_targets(libraries);
                targets.with_target(OURS, Level::TRACE)
            }
        }
    }
}

/// Sends the log of the whole process to `screen`. The first call wins.
pub fn start(detail: Detail, screen: &Screen) {
    let _ = tracing::subscriber::set_global_default(subscriber(detail, screen));
}

fn subscriber(detail: Detail, screen: &Screen) -> impl Subscriber + Send + Sync + 'static {
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines(screen.clone()));
    let lines = match detail {
        // Without -v the message alone is wanted.
        Detail::Errors | Detail::Warnings => lines.without_time().with_target(false).boxed(),
        Detail::Debug | Detail::Trace => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(detail.targets()))
}

/// Passes whole lines to the screen.
#[derive(Debug)]
struct Lines(Screen);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Takes one event: the formatter writes each with a single call. Writes it as one line: a name with a line feed in it
    /// must not look like another event.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.log(&printable(text.trim()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::terminal::tests::Paper;

    fn logged(detail: Detail, speak: impl FnOnce()) -> Vec<String> {
        let paper = Paper::default();
        let screen = Screen::new(paper.clone(), || None);
        tracing::subscriber::with_default(subscriber(detail, &screen), speak);
        paper.text().lines().map(str::to_owned).collect()
    }

    fn speak() {
        tracing::error!(target: "autonomy_registry::copy", "broke");
        tracing::warn!(target: "autonomy_registry::copy", text = "\u{1b}[31m\u{202e}", "odd");
        tracing::debug!(target: "autonomy_registry::copy", node = 7, "chose");
        tracing::trace!(target: "autonomy_registry::copy", "saw");
        tracing::debug!(target: "hyper_util::client", "connecting");
        tracing::trace!(target: "hyper_util::client", "Authorization: Basic c2VjcmV0");
    }

    #[test]
    fn by_default_only_warnings_stand_there_without_time_and_without_escapes() {
        let lines = logged(Detail::Warnings, speak);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "ERROR broke");
        assert!(lines[1].starts_with("WARN odd") && !lines[1].contains(['\u{1b}', '\u{202e}']), "{}", lines[1]);
        assert_eq!(logged(Detail::Errors, speak), ["ERROR broke"]);
    }

    #[test]
    fn an_event_is_one_line_whatever_names_are_in_it() {
        let file = std::path::Path::new("/data/.tmp-\nERROR forged\r\u{2028}more");
        let lines = logged(Detail::Warnings, || tracing::warn!(file = %file.display(), "removed"));
        assert_eq!(lines, ["WARN removed file=/data/.tmp-\\nERROR forged\\r\\u{2028}more"]);
    }

    #[test]
    fn more_detail_is_of_ours_first() {
        let lines = logged(Detail::Debug, speak);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with("DEBUG autonomy_registry::copy: chose node=7"), "{}", lines[2]);
        assert!(lines[2].starts_with("20"), "the time stands in front");
    }

    #[test]
    fn no_level_shows_what_the_http_client_sends() {
        let lines = logged(Detail::Trace, speak);
        assert_eq!(lines.len(), 5);
        assert!(
            lines.iter().any(|line| line.contains("connecting")) && lines.iter().all(|line| !line.contains("Basic"))
        );
    }
}
