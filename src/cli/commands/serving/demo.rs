//! `autonomy registry demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::{ProgressArgs, Run, RunContext};
use crate::cli::interrupt::unless_interrupted;
use crate::cli::terminal::{print, seed_result};
use crate::error::{Error, Kind, Result};
use crate::workflow::{Demo as Tour, Forgery};

/// Starts two registries on free loopback ports, publishes a signed bundle in the first, seeds the second from it with
/// verification, and shows that forged bundles are refused. Needs only this program.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the registries' data and the record; default is a new temporary folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    progress: ProgressArgs,
}

impl Run for DemoArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        unless_interrupted(self.tour(context), Error::new(Kind::Interrupted, "tour")).await
    }
}

impl DemoArgs {
    async fn tour(&self, context: &RunContext) -> Result<ExitCode> {
        let folder = self.folder()?;
        let tour = Tour::start(&folder).await?;
        let (upstream, site) = tour.addresses();
        heading("Two registries, each serving a folder");
        print::line(&format!("  upstream   http://{upstream}\n  site       http://{site}"));

        heading("A bundle is published upstream: image for three platforms, lock, policy, SBOM, signatures");
        let published = tour.publish().await?;
        print::line(&format!("  {}@{}", published.reference, published.digest));
        print::line(&format!("  signed; the public key is {}", published.public_key.display()));

        heading("The site is seeded: verified at the source, copied, verified from the site's own bytes, then tagged");
        let (events, progress) = context.listen(&self.progress);
        let seeded = tour.seed(&events).await;
        drop(events);
        progress.finish().await;
        seed_result::outcome(&seeded?, context.detail);

        heading("Four forged bundles, one for each step of the verification");
        for forgery in Forgery::ALL {
            let refusal = tour.forge(forgery).await?;
            print::line(&format!("  {}", refusal.forgery.as_str()));
            print::line(&format!("    refused  {}", refusal.error.chain()));
            print::line("    and the site's registry has no such tag");
        }
        tour.finish().await;

        heading("What is left to look at");
        for (name, what) in [
            ("record/seed-manifest.json", "the record of the seed"),
            ("record/seed.lock", "the one line that pins it"),
            ("site", "the site's images; serve them: autonomy registry serve --data-dir"),
        ] {
            let path = folder.join(name);
            let more = if name == "site" { format!(" {}", path.display()) } else { String::new() };
            print::line(&format!("  {}  {what}{more}", path.display()));
        }
        Ok(ExitCode::SUCCESS)
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

fn heading(text: &str) {
    print::line(&format!("\n{text}"));
}
