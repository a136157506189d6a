//! Environment variables that stand in for flags.
//!
//! A flag wins over its variable, and over a variable whose flag it excludes. An empty variable counts as not set. No
//! variable weakens a check: such a flag must stand on the command line, where it is seen.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::words::{is_given, leaf};

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
const VARIABLES: &[FlagVariable] = &[
    everywhere("AUTONOMY_PUB_KEY", "pub-key"),
    FlagVariable { name: "AUTONOMY_PUB_KEY", flag: "pub", commands: &["verify"] },
    FlagVariable { name: "AUTONOMY_OUT", flag: "out", commands: &["seed", "seed-catalog", "sync"] },
    FlagVariable { name: "AUTONOMY_CATALOG", flag: "catalog", commands: &["seed-catalog", "package"] },
    everywhere("AUTONOMY_SPOOL", "spool"),
    everywhere("AUTONOMY_JOBS", "jobs"),
    everywhere("AUTONOMY_PROGRESS", "progress"),
    everywhere("AUTONOMY_RETRY_FOR", "retry-for"),
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
        let mut own = VARIABLES.iter().filter(|variable| argument.get_long() == Some(variable.flag));
        own.rfind(|variable| variable.commands.is_empty() || variable.commands.contains(&name.as_str()))
    };
    let with_variable = |argument: Arg| match variable(&argument) {
        Some(FlagVariable { name, .. }) => argument.env(*name).hide_env_values(true),
        None => argument,
    };
    command.mut_args(with_variable).mut_subcommands(applied)
}

/// The variables of a command line.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    pub(super) variables: Vec<UsedVariable>,
    /// Warnings about variables that are not used.
    pub(super) warnings: Vec<String>,
}

/// A variable that stands in for a flag.
#[derive(Debug)]
pub(crate) struct UsedVariable {
    name: String,
    flag: String,
    value: String,
}

impl UsedVariable {
    /// Returns a note for an error that is about the value: the operator has not typed it.
    pub(crate) fn note(&self, error: &str) -> Option<String> {
        let Self { name, flag, value } = self;
        // Short values, such as numbers, stand in errors about other things too.
        let is_meant = error.contains(&format!("--{flag}")) || (value.len() > 3 && error.contains(value.as_str()));
        is_meant.then(|| format!("--{flag} is that of the variable {name}"))
    }
}

/// Ignores the variables that are empty, and the variables whose flags are excluded by flags that are given.
pub(super) fn overruled(root: Command, words: &[OsString]) -> (Command, StandIns) {
    let (mut ignored, mut found) = (Vec::new(), StandIns::default());
    // Only a definition that is built has the global flags below.
    let mut built = root.clone();
    built.build();
    let command = leaf(&built, words);
    for argument in command.get_arguments().filter(|argument| !is_given(argument, words)) {
        let Some(value) = argument_value(argument) else { continue };
        let excluding = command.get_arguments().find(|other| {
            let excludes = |one: &Arg, two: &Arg| command.get_arg_conflicts_with(one).contains(&two);
            (excludes(argument, other) || excludes(other, argument)) && is_given(other, words)
        });
        let (name, flag) = (variable_of(argument), argument.get_long().unwrap_or_default().to_owned());
        match excluding {
            _ if value.is_empty() => ignored.push(argument.get_id().clone()),
            Some(excluding) => {
                let by = excluding.get_long().unwrap_or_default();
                found.warnings.push(format!("--{by} is given: {name} is NOT used"));
                ignored.push(argument.get_id().clone());
            }
            None => {
                let value = value.to_string_lossy().into_owned();
                found.variables.push(UsedVariable { name, flag, value });
            }
        }
    }
    let name = command.get_name().to_owned();
    (without(root, &name, &ignored), found)
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
