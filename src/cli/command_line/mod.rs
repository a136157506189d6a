//! The words of the command line, between the process and clap: examples in the help, variables that stand in for flags,
//! `--flag=true`, the program's second name, and tips for flags and commands of other programs.

pub(super) mod environment;
pub(super) mod examples;
pub(super) mod foreign_commands;
pub(super) mod foreign_flags;
mod program_name;
mod switches;
mod words;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use self::environment::{StandIns, UsedVariable};
use self::words::leaf;
use super::context;

/// The result of parsing.
pub(super) struct Parsed<T> {
    pub(super) command: T,
    /// Whether progress is asked for as JSON.
    pub(super) is_json: bool,
    /// Warnings for the operator.
    pub(super) warnings: Vec<String>,
    /// The variables that stand in for flags.
    pub(super) variables: Vec<UsedVariable>,
}

/// Returns the definition of the command line, with the examples and variables of every command.
pub(super) fn definition<T: CommandFactory>() -> Command {
    environment::applied(examples::applied(T::command()))
}

/// Parses the words of a command line, the program's name first.
///
/// # Errors
///
/// Fails like clap. A group of commands without a command's name is a request for help.
pub(super) fn parse<T: CommandFactory + FromArgMatches>(words: Vec<OsString>) -> Result<Parsed<T>, clap::Error> {
    let definition = definition::<T>();
    let words = switches::bare(&definition, program_name::complete(words, &definition));
    let (mut command, StandIns { variables, warnings }) = environment::overruled(definition, &words);
    let matches = match matches(&mut command, &words) {
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            matches(&mut command, &[&words[..], &["--help".into()]].concat())
        }
        matches => matches,
    }?;
    context::check_quiet(&command, &matches)?;
    let parsed = T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Parsed { command: parsed, is_json: context::wants_json(&matches), warnings, variables })
}

fn matches(command: &mut Command, words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let explained = |error, command: &Command| explained(error, leaf(command, words), words);
    command
        .try_get_matches_from_mut(words)
        .map_err(|error| program_name::with_tip(explained(error, command), words, command))
}

/// Adds what the operator can do about an error, where the argument alone shows it.
fn explained(mut error: clap::Error, leaf: &Command, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return error };
    let tip = match error.kind() {
        ErrorKind::UnknownArgument => foreign_flags::tip(named, leaf).map(str::to_owned),
        ErrorKind::TooManyValues => switches::tip(named, leaf),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => environment::tip(named, leaf, words),
        _ => None,
    };
    let Some(tip) = tip else { return error };
    if error.kind() == ErrorKind::UnknownArgument {
        // Clap's own guess is a flag that is spelt alike and means something else, and the usage shows it too.
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Usage, ContextValue::StyledStr(leaf.clone().render_usage()));
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}
