//! A command, and the context that it runs in: the flags that commands share for results and progress.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use serde::Serialize;

use crate::copy::Events;
use crate::error::Result;
use crate::observe::{self, Listener, Screen, logging};
use crate::terminal::print::{self, Output};
use crate::terminal::seed_result::ResultDetail;

/// Events that may wait for a slow terminal before they are dropped.
const WAITING_EVENTS: usize = 4096;

/// A command with its flags.
pub(crate) trait Run {
    /// Runs the command and prints its result.
    ///
    /// # Errors
    ///
    /// By kind as in the exit codes. The caller prints the error.
    async fn run(self, context: &RunContext) -> Result<ExitCode>;
}

/// Flags of every command. Valid before and after the command's name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct GlobalArgs {
    /// Form of the result on stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Verbose: -v logs retries and prints every detail of a result, -vv logs every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Silent on success: only errors are printed, and the result if --output json asks for it
    // Its conflicts: see `check_quiet`.
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// Checks that `--quiet` is not beside a flag that asks for more. Clap checks conflicts of each command on its own, before
/// it copies the global flags to the commands below: it would miss `-q registry gc -v`.
///
/// # Errors
///
/// Fails like clap's own check.
pub(crate) fn check_quiet(mut command: &clap::Command, mut matches: &ArgMatches) -> Result<(), clap::Error> {
    while let Some((name, below)) = matches.subcommand()
        && let Some(found) = command.find_subcommand(name)
    {
        (command, matches) = (found, below);
    }
    let given = |id: &&str| {
        matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let Some(other) = ["verbose", "progress"].iter().find(|id| given(id)).filter(|_| given(&"quiet")) else {
        return Ok(());
    };
    let named = |id: &str| {
        let found = command.get_arguments().find(|argument| argument.get_id() == id);
        ContextValue::String(found.map(ToString::to_string).unwrap_or_default())
    };
    let mut error = clap::Error::new(ErrorKind::ArgumentConflict).with_cmd(command);
    error.insert(ContextKind::InvalidArg, named("quiet"));
    error.insert(ContextKind::PriorArg, named(other));
    error.insert(ContextKind::Usage, ContextValue::StyledStr(command.clone().render_usage()));
    Err(error)
}

/// Returns whether the command is asked for its progress as JSON.
pub(crate) fn wants_json(mut matches: &ArgMatches) -> bool {
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    matches.try_get_one("progress").is_ok_and(|form| form == Some(&ProgressForm::Json))
}

/// How progress is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ProgressArgs {
    /// Form of the progress on stderr
    // The place in the help: after the global flags.
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto, display_order = 3)]
    progress: ProgressForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProgressForm {
    /// Bars on a terminal, plain lines otherwise
    Auto,
    Bar,
    Plain,
    /// One JSON object a line
    Json,
    /// Warnings only; --quiet hides them too
    None,
}

/// The state that all commands share: the form of the result, warnings, progress.
#[derive(Debug)]
pub(crate) struct RunContext {
    /// Form of the result on stdout.
    pub(crate) output: Output,
    /// Detail of a result for people.
    pub(crate) detail: ResultDetail,
    is_quiet: bool,
    screen: Screen,
}

impl RunContext {
    /// Starts the log on stderr. `is_json` says that progress is asked for as JSON: then all of stderr is.
    pub(crate) fn start(flags: &GlobalArgs, is_json: bool) -> Self {
        let screen = print::stderr().clone();
        if is_json && !flags.quiet {
            screen.use_json();
        }
        let detail = match (flags.quiet, flags.verbose) {
            (true, _) => logging::Detail::Errors,
            (false, 0) => logging::Detail::Warnings,
            (false, 1) => logging::Detail::Debug,
            (false, _) => logging::Detail::Trace,
        };
        logging::start(detail, &screen);
        let detail = if flags.verbose > 0 { ResultDetail::Full } else { ResultDetail::Short };
        Self { output: flags.output, detail, is_quiet: flags.quiet, screen }
    }

    /// Names the image that the whole run is about, for messages that name none.
    pub(crate) fn set_image(&self, image: &impl std::fmt::Display) {
        self.screen.set_image(image);
    }

    /// Prints a warning, unless --quiet is given.
    pub(crate) fn warn(&self, text: impl std::fmt::Display) {
        if !self.is_quiet {
            print::note(&format!("warning: {text}"));
        }
    }

    /// Prints a remark on what this command does, unless --quiet is given.
    pub(crate) fn remark(&self, text: impl std::fmt::Display) {
        if !self.is_quiet {
            print::note(&format!("note: {text}"));
        }
    }

    /// Prints the result of a command that succeeds: as JSON if requested, else with `human`, which --quiet silences.
    pub(crate) fn show<T: Serialize>(&self, result: &T, human: impl FnOnce(&T)) -> Result<ExitCode> {
        match self.output {
            Output::Human if self.is_quiet => Ok(ExitCode::SUCCESS),
            _ => self.report(result, human),
        }
    }

    /// Prints the result of a command that may have failed in parts: the details of an error, which --quiet leaves.
    pub(crate) fn report<T: Serialize>(&self, result: &T, human: impl FnOnce(&T)) -> Result<ExitCode> {
        match self.output {
            Output::Json => print::json(result)?,
            Output::Human => human(result),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Starts the progress display on stderr, for a command that is watched: without a terminal only if asked for.
    pub(crate) fn listen_if_watched(&self, flags: &ProgressArgs) -> (Events, Listener) {
        let is_watched = flags.progress != ProgressForm::Auto || self.screen.columns().is_some();
        self.listen(&ProgressArgs { progress: if is_watched { flags.progress } else { ProgressForm::None } })
    }

    /// Starts the progress display on stderr.
    pub(crate) fn listen(&self, flags: &ProgressArgs) -> (Events, Listener) {
        let progress = match flags.progress {
            _ if self.is_quiet => observe::Progress::None,
            ProgressForm::Auto => observe::Progress::Auto,
            ProgressForm::Bar => observe::Progress::Bar,
            ProgressForm::Plain => observe::Progress::Plain,
            ProgressForm::Json => observe::Progress::Json,
            ProgressForm::None => observe::Progress::Warnings,
        };
        let (events, receiver) = Events::channel(WAITING_EVENTS);
        (events, observe::listen(progress, receiver, &self.screen))
    }
}
