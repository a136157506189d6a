//! The words of a command line, read before clap reads them.

use std::ffi::OsString;

use clap::Command;

/// Returns the command that the words name.
pub(super) fn leaf<'a>(root: &'a Command, words: &[OsString]) -> &'a Command {
    let names = words.iter().skip(1).filter_map(|word| word.to_str());
    names.fold(root, |command, name| command.find_subcommand(name).unwrap_or(command))
}

/// Returns whether the words give the argument, by its long or its short name.
pub(super) fn is_given(argument: &clap::Arg, words: &[OsString]) -> bool {
    let flags = words.iter().skip(1).filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    let mut names = flags.map(|word| word.split_once('=').map_or(word, |(name, _)| name));
    let longs: Vec<_> = argument.get_long_and_visible_aliases().unwrap_or_default();
    names.any(|name| match (name.strip_prefix("--"), argument.get_short()) {
        (Some(long), _) => longs.contains(&long),
        (None, Some(short)) => name.strip_prefix('-').is_some_and(|rest| rest.starts_with(short)),
        (None, None) => false,
    })
}
