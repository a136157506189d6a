//! Environment variables that stand in for flags.
//!
//! A flag wins over its variable, and over a variable whose flag it excludes. An empty variable counts as not set. No
//! variable weakens a check: such a flag must stand on the command line, where it is seen.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::{is_given, leaf};

/// A variable, and the flag that it stands in for.
struct FlagVariable {
    name: &'static str,
    flag: &'static str,
    /// The commands; empty: every one with that flag.
    commands: &'static [&'static str],
}

const fn everywhere(name: &'static str, flag: &'static str) -> FlagVariable {
    FlagVariable { name, flag, commands: &[] }
}

/// Only flags that are the same every day, at a place where each command means the same by them: a folder for keys is
/// none for records.
const VARIABLES: [FlagVariable; 17] = [
    everywhere("AUTONOMY_PUB_KEY", "pub-key"),
    FlagVariable { name: "AUTONOMY_PUB_KEY", flag: "pub", commands: &["verify"] },
    FlagVariable { name: "AUTONOMY_OUT", flag: "out", commands: &["seed", "seed-catalog", "sync"] },
    FlagVariable { name: "AUTONOMY_CATALOG", flag: "catalog", commands: &["seed-catalog", "package"] },
    everywhere("AUTONOMY_SPOOL", "spool"),
    everywhere("AUTONOMY_JOBS", "jobs"),
    everywhere("AUTONOMY_PROGRESS", "progress"),
    everywhere("AUTONOMY_AUTHFILE", "authfile"),
    everywhere("AUTONOMY_CA_FILE", "ca-file"),
    everywhere("AUTONOMY_CERT_DIR", "cert-dir"),
    FlagVariable { name: "AUTONOMY_DATA_DIR", flag: "data-dir", commands: &["serve", "gc", "check"] },
    everywhere("AUTONOMY_LISTEN", "listen"),
    everywhere("AUTONOMY_HTPASSWD", "htpasswd"),
    everywhere("AUTONOMY_TLS_CERT", "tls-cert"),
    everywhere("AUTONOMY_TLS_KEY", "tls-key"),
    everywhere("AUTONOMY_CLIENT_CA", "client-ca"),
    everywhere("AUTONOMY_ACCESS_LOG", "access-log"),
];

/// Adds the variables to every command.
pub(super) fn applied(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let variable = |argument: &Arg| {
        let own = VARIABLES.iter().filter(|variable| argument.get_long() == Some(variable.flag));
        own.filter(|variable| variable.commands.is_empty() || variable.commands.contains(&name.as_str())).next_back()
    };
    let with_variable = |argument: Arg| match variable(&argument) {
        Some(FlagVariable { name, .. }) => argument.env(*name).hide_env_values(true),
        None => argument,
    };
    command.mut_args(with_variable).mut_subcommands(applied)
}

/// Ignores the variables that are empty, and the variables whose flags are excluded by flags that are given. Returns
/// warnings about the latter.
pub(super) fn overruled(root: Command, words: &[OsString]) -> (Command, Vec<String>) {
    let (mut ignored, mut warnings) = (Vec::new(), Vec::new());
    let command = leaf(&root, words);
    for argument in command.get_arguments() {
        let Some(value) = argument.get_env().and(argument_value(argument)) else { continue };
        let excluding = command.get_arguments().find(|other| {
            let excludes = |one: &Arg, two: &Arg| command.get_arg_conflicts_with(one).contains(&two);
            (excludes(argument, other) || excludes(other, argument)) && is_given(other, words)
        });
        if let Some(excluding) = excluding.filter(|_| !value.is_empty() && !is_given(argument, words)) {
            let flag = excluding.get_long().unwrap_or_default();
            warnings.push(format!("--{flag} is given: {} is NOT used", variable_of(argument)));
            ignored.push(argument.get_id().clone());
        } else if value.is_empty() {
            ignored.push(argument.get_id().clone());
        }
    }
    let name = command.get_name().to_owned();
    (without(root, &name, &ignored), warnings)
}

/// Takes the variables of these arguments away from the command of that name.
fn without(command: Command, name: &str, ignored: &[clap::Id]) -> Command {
    let is_it = command.get_name() == name;
    let without_variable = |argument: Arg| match is_it && ignored.contains(argument.get_id()) {
        true => argument.env(None::<&'static str>),
        false => argument,
    };
    command.mut_args(without_variable).mut_subcommands(|below| without(below, name, ignored))
}

/// Returns the tip for a value that the operator has not typed.
pub(super) fn tip(named: &str, leaf: &Command, words: &[OsString]) -> Option<String> {
    let argument = leaf.get_arguments().find(|argument| argument.to_string() == named)?;
    let is_from_variable = argument_value(argument).is_some() && !is_given(argument, words);
    is_from_variable.then(|| format!("the value is that of the variable {}", variable_of(argument)))
}

fn variable_of(argument: &Arg) -> String {
    argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn argument_value(argument: &Arg) -> Option<OsString> {
    std::env::var_os(argument.get_env()?)
}
