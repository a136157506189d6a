//! `--flag=true` and `--flag=false` for flags that take no value: scripts for other programs write them.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Turns `--flag=true` into `--flag`; `--flag=false` takes back every earlier `--flag`. The last one counts.
pub(super) fn bare(root: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut known = switches(root);
    let (mut command, mut bare, mut is_open) = (root, Vec::<OsString>::new(), true);
    for word in words {
        let text = word.to_str().filter(|_| is_open).unwrap_or_default();
        is_open &= text != "--";
        if let Some(below) = command.find_subcommand(text) {
            command = below;
            known.extend(switches(below));
        }
        let value = text.strip_prefix("--").and_then(|text| text.split_once('='));
        match value.filter(|(name, _)| known.iter().any(|switch| switch == name)) {
            Some((name, "true" | "false")) => {
                let flag = OsString::from(format!("--{name}"));
                bare.retain(|earlier| *earlier != flag);
                bare.extend(text.ends_with("=true").then_some(flag));
            }
            _ => bare.push(word),
        }
    }
    bare
}

/// Returns the tip for another value than true and false.
pub(super) fn tip(named: &str, leaf: &Command) -> Option<String> {
    let name = named.strip_prefix("--")?;
    let tip = || format!("write --{name}, --{name}=true or --{name}=false");
    switches(leaf).iter().any(|switch| switch == name).then(tip)
}

/// Returns the long names of a command's flags that take no value.
fn switches(command: &Command) -> Vec<String> {
    let flags = command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
    let names = flags.filter_map(clap::Arg::get_long_and_visible_aliases);
    names.flatten().map(str::to_owned).collect()
}
