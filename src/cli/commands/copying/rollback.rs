//! `autonomy registry rollback`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result, printable};
use crate::terminal::interrupt::{interrupted, unless_interrupted};
use crate::terminal::print::Output;
use crate::terminal::{catalog_result, password, print};
use crate::wire::Client;
use crate::workflow::{self, RecordedRun, RecordedRuns, RollbackFate, RollbackStep};

/// Moves the tags of a seed-catalog or sync run, sidecars included, back to the previous images. Deletes tags that did
/// not exist before, if the registry allows it; does not touch tags that another process has moved since. Checks and
/// shows everything first. Exit 5 if a tag could not be moved back; it is safe to run again.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The roll-up of the run: catalog-seed-manifest.json of --out, or of a folder in its history
    #[arg(long, value_name = "FILE", required_unless_present = "list", conflicts_with = "list")]
    manifest: Option<PathBuf>,
    /// List the recorded runs, the latest first, and change nothing
    #[arg(long, conflicts_with = "yes")]
    list: bool,
    /// With --list: the folder that was the --out of the runs [default: .]
    #[arg(long, value_name = "DIR", requires = "list")]
    out: Option<PathBuf>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    access: AccessArgs,
}

impl Run for RollbackArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let Some(manifest) = &self.manifest else {
            return list(context, self.out.as_deref().unwrap_or(Path::new(".")));
        };
        let (roll_up, _) = workflow::read_roll_up(manifest)?;
        if !self.yes && !io::stdin().is_terminal() {
            return Err(Error::new(Kind::Usage, "registry rollback asks before it acts, and stdin is no terminal")
                .hint("give --yes to put everything back without being asked"));
        }
        let client = Client::new(self.access.client())?;
        client.check_credentials().await?;
        let checked = workflow::RollbackPlan::check(&roll_up, &client);
        let mut rollback = unless_interrupted(checked, declined("interrupted; no tag was moved")).await?;
        rollback.warnings.iter().for_each(|warning| context.warn(warning));
        let mut done = Ok(());
        if rollback.is_pending() {
            if !self.yes {
                ask(&rollback.steps).await?;
            }
            done = rollback.act(&workflow::Journal::none(), interrupted()).await;
        }
        if done.is_ok() && rollback.is_back() {
            return context.show(&rollback, |rollback| human(&rollback.steps));
        }
        context.report(&rollback, |rollback| human(&rollback.steps))?;
        if let Err(error) = done {
            // No JSON here: the report was printed as JSON already.
            return Ok(print::failure(&error, Output::Human));
        }
        let left = rollback.steps.iter().filter(|step| !step.fate.is_back()).count();
        print::note(&format!("error: {left} of {} tags could not be put back", rollback.steps.len()));
        Ok(ExitCode::from(Kind::Partial.exit_code()))
    }
}

/// Lists the runs that are recorded below `out`.
fn list(context: &RunContext, out: &Path) -> Result<ExitCode> {
    let recorded = workflow::recorded_runs(out)?;
    recorded.warnings.iter().for_each(|warning| context.warn(warning));
    context.show(&recorded, |RecordedRuns { runs, .. }| {
        for RecordedRun { name, seeded_at, seeded, unchanged, failed, .. } in runs {
            let name = name.as_deref().unwrap_or("last run");
            print::line(&format!("{name:<19}  {seeded_at}  {}", catalog_result::counts(*seeded, *unchanged, *failed)));
        }
        if let Some(RecordedRun { manifest, .. }) = runs.iter().find(|run| run.seeded > 0) {
            print::row("undo", format!("autonomy registry rollback --manifest {}", manifest.display()));
        }
    })
}

/// Shows the steps, and continues after a yes.
async fn ask(steps: &[RollbackStep]) -> Result<()> {
    for step in steps {
        print::note(&row(step));
    }
    let count = steps.iter().filter(|step| step.fate.is_pending()).count();
    match password::is_confirmed(&format!("Put back {count} of {} tags?", steps.len())).await {
        true => Ok(()),
        false => Err(declined("nobody said yes; no tag was moved")),
    }
}

fn declined(why: &str) -> Error {
    Error::new(Kind::Interrupted, "roll back").because(why.to_owned())
}

fn human(steps: &[RollbackStep]) {
    for step in steps {
        print::line(&printable(&row(step)));
    }
    let back = steps.iter().filter(|step| step.fate.is_back()).count();
    print::line(&format!("{back} of {} tags are where they were before the run", steps.len()));
}

fn row(step: &RollbackStep) -> String {
    let RollbackStep { to, seeded_digest, previous_digest, fate, .. } = step;
    let name = |digest: &Option<_>| digest.as_ref().map_or_else(|| "nothing".to_owned(), crate::oci::Digest::short);
    let detail = match fate {
        RollbackFate::Moved { now } => format!("  names {} by now: left alone", name(now)),
        RollbackFate::Gone { hint } => format!("  {hint}"),
        RollbackFate::Left { why } => {
            format!("  it did not exist before, and the registry does not delete tags: {why}")
        }
        RollbackFate::Failed { why } => format!("  {why}"),
        _ => String::new(),
    };
    format!("{:<9} {to}  {} -> {}{detail}", fate.as_str(), seeded_digest.short(), name(previous_digest))
}
