//! `autonomy registry publish-index`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::{MediaType, Reference};
use crate::terminal::interrupt::{tidy, unless_interrupted};
use crate::terminal::print::{self, row};
use crate::wire::Client;
use crate::workflow::{self, Change, Publication};

/// Publishes the roll-up of a seeded catalog as an artifact whose subject is the parent at --to: one Referrers query on
/// the parent then lists it. If the parent does not exist, it is created as an empty index.
#[derive(Debug, Args)]
pub(crate) struct PublishIndex {
    /// The roll-up: catalog-seed-manifest.json of registry seed-catalog or sync
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The parent: host[:port]/repository:tag
    #[arg(long, value_name = "REF")]
    to: Reference,
    #[command(flatten)]
    access: AccessArgs,
}

impl Run for PublishIndex {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let client = Client::new(self.access.client())?;
        let stopped = Error::new(Kind::Interrupted, "publish the roll-up under").on(&self.to);
        let done = unless_interrupted(workflow::publish_index(&self.manifest, &self.to, &client), stopped).await;
        tidy(&client).await;
        let published = done?;
        if published.failed > 0 {
            let Publication { failed, entries, .. } = published;
            context
                .warn(format_args!("{failed} of {entries} entries of this roll-up failed; it is published as it is"));
        }
        context.show(&published, human)
    }
}

fn human(published: &Publication) {
    let verb = match published.status {
        Change::Published => "published",
        Change::Unchanged => "unchanged",
    };
    print::line(&format!("{verb} {}", published.artifact));
    let made = if published.parent_created { ", made as an empty index" } else { "" };
    row("parent", format!("{} {}{made}", published.parent, published.parent_digest));
    row("type", published.artifact_type);
    if let Some(tag) = &published.tag {
        row("tag", format!("{tag}, because this registry has no Referrers API"));
    }
    let accept =
        if published.referrers_api { String::new() } else { format!("-H 'Accept: {}' ", MediaType::OCI_INDEX) };
    row("list", format!("curl {accept}'{}'", published.query));
    row("fetch", format!("curl -L '{}'", published.content));
}
