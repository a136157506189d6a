//! Commands of other tools: a user who types one gets the command of this program.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::{Error, Kind};

/// Returns the error for a command that other tools have, with the command of this program as its hint; none for any other
/// error.
pub(in crate::cli) fn explained(error: &clap::Error) -> Option<Error> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let hint = other_hint(word)?;
    Some(Error::new(Kind::Usage, format!("there is no command {word}")).hint(hint))
}

/// Returns the command of this program for a word of another tool's.
fn other_hint(word: &str) -> Option<&'static str> {
    Some(match word {
        "copy" | "cp" | "pull" | "push" | "clone" | "promote" => {
            "seed copies an image: autonomy registry seed --from REF --to REF --pub-key FILE"
        }
        "mirror" | "replicate" => {
            "sync copies repositories: autonomy registry sync --from-registry HOST --to-registry HOST --repos REPOSITORY:TAG"
        }
        "list" | "tags" | "list-tags" | "repos" | "repositories" | "catalog" | "search" => {
            "ls lists repositories and tags: autonomy registry ls HOST[/REPOSITORY]"
        }
        "show" | "manifest" | "describe" | "info" | "digest" | "discover" | "tree" => {
            "inspect shows an image: autonomy registry inspect REF"
        }
        "delete" | "del" | "remove" | "untag" | "rmi" => "rm removes an image: autonomy registry rm REF --dry-run",
        "prune" | "garbage-collect" => "gc collects the garbage of a data folder: autonomy registry gc --data-dir DIR",
        _ => return None,
    })
}
