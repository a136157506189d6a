//! `autonomy registry check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::network::Network;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::Reference;
use crate::quantity::human;
use crate::serve::{Damage, DataAudit, NodeFault};
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print;
use crate::wire::Client;
use crate::workflow::{self, Checked, DataCheck};

/// Exit code for a damaged folder (contract §9).
const DAMAGED: u8 = 3;

/// Reads and hashes every file in the data folder of registry serve, and checks that everything manifests refer to
/// exists. Lists damaged and missing content, with exit code 3; notes foreign files that do no harm. It may run while a
/// server uses the folder.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Data folder of registry serve
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Fetch damaged and missing content by digest from this repository: host[:port]/repository
    #[arg(long, value_name = "REF")]
    repair_from: Option<Reference>,
    #[command(flatten)]
    network: Network,
}

impl Run for Check {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let client = Client::new(self.network.access.client())?;
        if self.repair_from.is_some() {
            client.check_credentials().await?;
        }
        let repair_from = self.repair_from.map(|reference| reference.repository);
        let check = DataCheck { data_dir: self.data_dir, jobs: self.network.jobs, repair_from };
        let stopped = Error::new(Kind::Interrupted, "check").on(check.data_dir.display());
        let checked = unless_interrupted(workflow::check_data(&check, &client), stopped).await?;
        if checked.audit.faults.is_empty() {
            return context.show(&checked, human);
        }
        context.report(&checked, human)?;
        Ok(ExitCode::from(DAMAGED))
    }
}

fn human(checked: &Checked) {
    let Checked { audit: DataAudit { repositories, manifests, files, bytes, faults, notes, not_named }, repaired } =
        checked;
    for damage in repaired {
        one("repaired", damage);
    }
    for damage in faults {
        one(if damage.fault == NodeFault::Missing { "missing" } else { "damaged" }, damage);
    }
    for note in notes {
        line(&format!("note      {}  {}", note.path, note.why));
    }
    if *not_named > 0 {
        line(&format!("note      {not_named} more entries do not belong there"));
    }
    let read = human::bytes(*bytes);
    line(&format!("read {files} files, {read}, and {manifests} manifests of {repositories} repositories"));
    let missing = faults.iter().filter(|damage| damage.fault == NodeFault::Missing).count();
    let damaged = faults.len() - missing;
    line(&format!("{damaged} damaged, {missing} missing, {} repaired", repaired.len()));
}

fn one(state: &str, damage: &Damage) {
    // Content without a digest is named by its path.
    let (name, files) = match (&damage.digest, damage.paths.split_first()) {
        (None, Some((path, others))) => (path.clone(), others),
        (None, None) => (String::new(), &[][..]),
        (Some(digest), _) => (digest.to_string(), &damage.paths[..]),
    };
    line(&format!("{state:<9} {name}  {}", damage.why));
    for path in files {
        line(&format!("  file     {path}"));
    }
    for user in &damage.used_by {
        let tags = if user.tags.is_empty() { "no tag".to_owned() } else { user.tags.join(", ") };
        line(&format!("  used by  {}: {tags}", user.repository));
    }
    if let Some(why) = &damage.not_repaired {
        line(&format!("  not repaired: {why}"));
    }
}

fn line(text: &str) {
    print::line(&printable(text));
}
