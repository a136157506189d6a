//! `autonomy registry pin`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print;
use crate::wire::Client;
use crate::workflow::{PinStatus, PinnedCatalog, PinnedEntry};

/// Writes the digests that the sources of a catalog name today into the catalog, with the date as a comment, and pinned:
/// true where an entry has no key. Keeps comments and layout. An entry that is pinned already moves to the digest of its
/// tag.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The catalog (YAML)
    catalog: PathBuf,
    /// Print the difference and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: AccessArgs,
}

impl Run for Pin {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let client = Client::new(self.access.client())?;
        client.check_credentials().await?;
        let stopped = Error::new(Kind::Interrupted, "pin").on(self.catalog.display()).because("nothing was written");
        let pinned = unless_interrupted(PinnedCatalog::resolve(&self.catalog, &client), stopped).await?;
        if self.dry_run {
            for PinnedEntry { line, from, reason, .. } in &pinned.entries {
                if let Some(reason) = reason {
                    context.remark(format_args!("line {line}: {from} is left: {reason}"));
                }
            }
            return context.show(&pinned, |pinned| {
                // As it is, so that `patch` takes it; an empty one is no line.
                pinned.diff.strip_suffix('\n').into_iter().for_each(print::line);
            });
        }
        pinned.write(&self.catalog)?;
        context.show(&pinned, human)
    }
}

fn human(pinned: &PinnedCatalog) {
    for PinnedEntry { line, from, digest, status, reason } in &pinned.entries {
        let digest = digest.as_ref().map(Digest::short).unwrap_or_default();
        let told = match status {
            PinStatus::Pinned => format!("pinned     {from}  {digest}"),
            PinStatus::Moved => format!("moved      {from}  to {digest}"),
            PinStatus::Unchanged => continue,
            PinStatus::Left => format!("left       {from}  {}", reason.unwrap_or_default()),
        };
        print::line(&format!("{told}, line {line}"));
    }
    let count = |wanted| pinned.entries.iter().filter(|entry| entry.status == wanted).count();
    let [new, moved, unchanged, left] =
        [PinStatus::Pinned, PinStatus::Moved, PinStatus::Unchanged, PinStatus::Left].map(count);
    print::line(&format!("{new} pinned, {moved} moved, {unchanged} unchanged, {left} left"));
    if !pinned.diff.is_empty() {
        print::row("wrote", &pinned.catalog);
    }
}
