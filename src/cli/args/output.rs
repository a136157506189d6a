//! Flags for results and progress.

use clap::{Args, ValueEnum};

use crate::cli::terminal::print::{Output, note};
use crate::copy::Events;
use crate::observe::{self, Listener, Screen, logging};

/// Events that may wait for a slow terminal before they are dropped.
const WAITING_EVENTS: usize = 4096;

/// How results are printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Voice {
    /// Form of the result on stdout
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
    /// Verbose: -v logs retries, -vv every request
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress, no warnings: errors and the result only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

/// How results and progress are printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Reporting {
    #[command(flatten)]
    pub(crate) voice: Voice,
    /// Form of the progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto, conflicts_with = "quiet")]
    progress: ProgressForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// Bars on a terminal, plain lines otherwise
    Auto,
    Bar,
    Plain,
    /// One JSON object a line
    Json,
    /// Warnings only; --quiet hides them too
    None,
}

impl Voice {
    /// Starts the log on stderr.
    pub(crate) fn start(&self) -> Screen {
        let columns = || terminal_size::terminal_size_of(std::io::stderr()).map(|(width, _)| width.0);
        let screen = Screen::new(std::io::stderr(), columns);
        let detail = match (self.quiet, self.verbose) {
            (true, _) => logging::Detail::Errors,
            (false, 0) => logging::Detail::Warnings,
            (false, 1) => logging::Detail::Debug,
            (false, _) => logging::Detail::Trace,
        };
        logging::start(detail, &screen);
        screen
    }

    /// Prints a warning, unless --quiet is given.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            note(&format!("warning: {text}"));
        }
    }
}

impl Reporting {
    /// Starts the log and the progress display on stderr.
    pub(crate) fn listen(&self) -> (Events, Listener) {
        let screen = self.voice.start();
        let progress = match self.progress {
            _ if self.voice.quiet => observe::Progress::None,
            ProgressForm::Auto => observe::Progress::Auto,
            ProgressForm::Bar => observe::Progress::Bar,
            ProgressForm::Plain => observe::Progress::Plain,
            ProgressForm::Json => observe::Progress::Json,
            ProgressForm::None => observe::Progress::Warnings,
        };
        let (events, receiver) = Events::channel(WAITING_EVENTS);
        (events, observe::listen(progress, receiver, &screen))
    }
}
