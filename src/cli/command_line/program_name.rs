//! The name under which the program was called, and commands that it does not have.
//!
//! `autonomy registry` is the documented command, and another program may already have the name `autonomy`. Installed as
//! `autonomy-registry`, this program does not need the word `registry`: `autonomy-registry seed` is
//! `autonomy registry seed`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The command of the name, and the second name of the program after `autonomy-`.
const REGISTRY: &str = "registry";
/// The second name of the program.
const SECOND_NAME: &str = "autonomy-registry";

/// Returns the arguments with the word `registry`, if the name of the program stands for it and `command` has no command
/// of the first word.
pub(super) fn complete(mut arguments: Vec<OsString>, command: &Command) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_stem());
    let is_command = |word: &&OsStr| command.get_subcommands().any(|known| known.get_name() == *word);
    if name == Some(OsStr::new(SECOND_NAME)) && first_word(&arguments).filter(is_command).is_none() {
        arguments.insert(1, REGISTRY.into());
    }
    arguments
}

/// Adds a tip to the error about an unknown command at the top: where the command is, or which program has it.
pub(super) fn with_tip(mut error: clap::Error, arguments: &[OsString], command: &Command) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let is_at_top = first_word(arguments) == Some(OsStr::new(word));
    let is_explained =
        error.get(ContextKind::SuggestedSubcommand).is_some() || error.get(ContextKind::Suggested).is_some();
    let below = command.find_subcommand(REGISTRY);
    let tip = if error.kind() != ErrorKind::InvalidSubcommand || !is_at_top {
        return error;
    } else if below.is_some_and(|registry| registry.find_subcommand(word).is_some()) {
        format!("write 'autonomy registry {word}'")
    } else if is_explained {
        return error;
    } else {
        format!(
            "this program has the registry and bundle commands alone; if '{word}' is a command of another program named \
             autonomy, install this one as {SECOND_NAME} beside it"
        )
    };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Returns the first argument that is neither a flag nor the value of one: the name of a command.
fn first_word(arguments: &[OsString]) -> Option<&OsStr> {
    let mut rest = arguments.iter().skip(1).map(OsString::as_os_str);
    while let Some(word) = rest.next() {
        // The one flag of every command that takes a value.
        if word == "--output" {
            rest.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return Some(word);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Autonomy;

    fn completed(line: &str) -> String {
        let words = complete(line.split(' ').map(OsString::from).collect(), &Autonomy::command());
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_second_name_stands_for_the_command_registry() {
        for (given, completed_to) in [
            ("/usr/bin/autonomy-registry seed --from a", "/usr/bin/autonomy-registry registry seed --from a"),
            ("autonomy-registry --output json gc", "autonomy-registry registry --output json gc"),
            ("autonomy-registry.exe -q gc", "autonomy-registry.exe registry -q gc"),
            ("autonomy-registry", "autonomy-registry registry"),
            ("autonomy-registry --help", "autonomy-registry registry --help"),
            ("autonomy-registry sede", "autonomy-registry registry sede"),
        ] {
            assert_eq!(completed(given), completed_to);
        }
        for unchanged in [
            "autonomy seed",
            "autonomy-registry registry seed",
            "autonomy-registry --output json bundle verify a",
            "autonomy-registry -q verify",
            "autonomy-registry completion bash",
            "./autonomy-registry-2 seed",
        ] {
            assert_eq!(completed(unchanged), unchanged);
        }
    }
}
