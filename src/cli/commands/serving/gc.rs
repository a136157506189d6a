//! `autonomy registry gc`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::quantity::duration;
use crate::quantity::human;
use crate::serve::{Collected, Collection, Effect, KeptManifests, Swept, collect};
use crate::terminal::print;

/// Garbage-collects the data folder of registry serve: removes blobs that no manifest refers to, abandoned uploads,
/// unfinished files, and empty repositories. It may run while a server uses the folder. Reports a damaged repository and
/// leaves it unchanged, with exit code 5.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Data folder of registry serve
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Show what would be removed; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep everything younger than this; at least 10m while a server uses the folder
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    older_than: Duration,
    /// Also remove manifests that no tag leads to (as an index entry, a subject or an accessory of a tagged manifest)
    #[arg(long)]
    untagged: bool,
}

impl Run for Gc {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let collected = collect(Collection {
            older_than: self.older_than,
            kept: if self.untagged { KeptManifests::Named } else { KeptManifests::All },
            effect: if self.dry_run { Effect::Counted } else { Effect::Removed },
            ..Collection::new(self.data_dir)
        })
        .await?;
        let several = collected.left_alone();
        if several == 0 {
            return context.show(&collected, human);
        }
        context.report(&collected, human)?;
        Err(Error::new(Kind::Partial, "collect garbage")
            .because(format!("{several} of {} repositories were left alone", collected.repositories.len()))
            .hint("they are damaged, or could not be read; nothing was taken that is needed"))
    }
}

fn human(collected: &Collected) {
    let Collected { dry_run, repositories, uploads, totals } = collected;
    for repository in repositories {
        if repository.swept != Swept::default() {
            print::line(&format!("{:<40} {}", repository.repository, counts(&repository.swept)));
        }
        if repository.is_removed {
            print::line(&format!(
                "{:<40} empty, {}",
                repository.repository,
                if *dry_run { "would go" } else { "removed" }
            ));
        }
        if let Some(why) = &repository.left_alone {
            print::line(&format!("{:<40} left alone: {why}", repository.repository));
        }
    }
    match uploads {
        Some(uploads) if uploads.count > 0 => {
            print::line(&format!("{:<40} {} abandoned, {}", "uploads", uploads.count, human::bytes(uploads.bytes)));
        }
        Some(_) => {}
        None => print::line("uploads are left to the server that is running"),
    }
    let verb = if *dry_run { "would free" } else { "freed" };
    print::line(&format!("{verb} {} of {}", human::bytes(totals.bytes_freed), human::bytes(totals.bytes)));
    if totals.bytes_freed < totals.bytes {
        print::line("  the rest is shared with other repositories, which still need it");
    }
}

fn counts(swept: &Swept) -> String {
    let Swept { manifests, blobs, temporary_files, bytes, .. } = *swept;
    let named = [(manifests, "manifests"), (blobs, "blobs"), (temporary_files, "unfinished files")];
    let parts: Vec<_> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    format!("{}, {}", parts.join(", "), human::bytes(bytes))
}
