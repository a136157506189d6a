//! `autonomy registry bootstrap-zot`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::{Run, RunContext};
use crate::error::Result;
use crate::oci::Reference;
use crate::terminal::print::{self, row};
use crate::workflow::{self, Bootstrap, Bootstrapped, Existing, SearchExtension};

/// Writes zot-config.json and docker-compose.zot.yml, which start zot as a site's registry. Nothing is pulled, started or
/// contacted.
#[derive(Debug, Args)]
pub(crate) struct BootstrapZot {
    /// Folder for the two files; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Port that zot serves on
    #[arg(long, value_name = "PORT", default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Folder for zot's data on the host [default: zot-data beside the files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Enable zot's search extension
    #[arg(long)]
    enable_search: bool,
    /// Image to run, by version or digest [default: a pinned release of zot]
    #[arg(long, value_name = "REF")]
    image: Option<Reference>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

impl Run for BootstrapZot {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let done = workflow::bootstrap(&Bootstrap {
            out: self.out,
            port: self.port,
            data_dir: self.data_dir,
            search: if self.enable_search { SearchExtension::On } else { SearchExtension::Off },
            image: self.image,
            existing: if self.force { Existing::Replaced } else { Existing::Kept },
        })?;
        context.show(&done, human)
    }
}

fn human(done: &Bootstrapped) {
    print::line("wrote the files of a zot registry; nothing was pulled or started");
    row("config", done.config.display());
    row("compose", done.compose.display());
    row("image", &done.image);
    row("data", done.data_dir.display());
    row("start", format!("docker compose -f '{}' up -d", done.compose.display()));
    row("seed", format!("autonomy registry seed --to localhost:{}/… --allow-insecure-registry …", done.port));
}
