//! `autonomy registry demo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::{ProgressArgs, Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::terminal::interrupt::{interrupted, unless_interrupted};
use crate::terminal::print::{columns, line};
use crate::terminal::seed_result;
use crate::verify::ErrorClass;
use crate::workflow::{Demo as Tour, DemoPace, Forgery};

/// Widest line, in columns.
const MAX_COLUMNS: usize = 80;

/// Starts two registries on free loopback ports, publishes a signed bundle in the first, seeds the second from it with
/// verification over a slow line, and shows that forged bundles are refused. Needs only this program.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the registries' data and the record; default is a new temporary folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A few KiB at full speed, in place of 60 MiB over a slow line
    #[arg(long)]
    fast: bool,
    /// Leave both registries up until Ctrl-C, and print commands to try
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    progress: ProgressArgs,
}

impl Run for DemoArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let stopped = || Error::new(Kind::Interrupted, "show the demo");
        let tour = unless_interrupted(self.tour(context), stopped()).await?;
        if self.keep {
            interrupted().await;
        }
        tour.finish().await;
        Ok(ExitCode::SUCCESS)
    }
}

impl DemoArgs {
    async fn tour(&self, context: &RunContext) -> Result<Tour> {
        let folder = self.folder()?;
        let tour = Tour::start(&folder, if self.fast { DemoPace::Fast } else { DemoPace::Watched }).await?;
        let (upstream, site) = tour.addresses();
        line(&format!("two registries: upstream {upstream}, site {site}"));
        let published = tour.publish().await?;
        line(&format!("published {}", published.reference));
        line("  an image for 3 platforms with lock, policy and SBOM, all signed");

        let (events, progress) = context.listen_if_watched(&self.progress);
        let seeded = tour.seed(&events).await;
        drop(events);
        progress.finish().await;
        let columns = columns().map_or(MAX_COLUMNS, |columns| columns.min(MAX_COLUMNS));
        seed_result::lines(&seeded?, context.detail, Some(columns)).iter().for_each(|text| line(text));

        line("refused four forged bundles, each at another step; the site has none of them");
        for forgery in Forgery::ALL {
            let refusal = tour.forge(forgery).await?;
            let class = ErrorClass::of(&refusal.error).map_or("", ErrorClass::as_str);
            line(&format!("  {class:<20} {}", refusal.forgery.as_str()));
        }
        line(&format!("the files are in {}", folder.display()));
        match self.keep {
            true => to_try(&tour, &folder),
            false => line("its folder site can be served: autonomy registry serve --data-dir site"),
        }
        Ok(tour)
    }

    /// Returns the folder to work in: a given one must be empty, so that no existing image is changed.
    fn folder(&self) -> Result<PathBuf> {
        let failed = |why: std::io::Error| Error::new(Kind::Usage, "use the folder of --out").because(why);
        let Some(folder) = &self.out else {
            let made = tempfile::Builder::new().prefix("autonomy-demo-").tempdir().map_err(failed)?;
            return Ok(made.keep());
        };
        std::fs::create_dir_all(folder).map_err(|why| failed(why).on(folder.display()))?;
        let is_empty = std::fs::read_dir(folder).map_err(failed)?.next().is_none();
        if is_empty {
            return Ok(folder.clone());
        }
        Err(Error::new(Kind::Usage, "use the folder of --out").on(folder.display()).because("it is not empty"))
    }
}

/// Prints commands to try while the registries are up.
fn to_try(tour: &Tour, folder: &Path) {
    let (_, site) = tour.addresses();
    line("both registries are up until Ctrl-C; in another terminal:");
    line(&format!("  cd {}", folder.display()));
    line(&format!("  autonomy bundle verify {site}/robot-behavior:v1 --pub-key cosign.pub"));
    line(&format!("  curl http://{site}/v2/robot-behavior/tags/list"));
    line("  autonomy registry check --data-dir site");
}
