//! `autonomy registry package`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::{Run, RunContext};
use crate::error::Result;
use crate::terminal::print::{self, row};
use crate::workflow::{self, Existing, Packaged};

/// Writes zarf.yaml, a package of the catalog's source images. Nothing is pulled or contacted: zarf package create does
/// that.
#[derive(Debug, Args)]
// Here --version is the version of the package.
#[command(disable_version_flag = true)]
pub(crate) struct PackageArgs {
    /// The catalog (YAML)
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// Folder for zarf.yaml; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Name of the package; converted to lower case, digits and hyphens
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Version of the package
    #[arg(long, value_name = "VER", default_value = "0.0.0")]
    version: String,
    /// Replace an existing zarf.yaml
    #[arg(long)]
    force: bool,
}

impl Run for PackageArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        let Self { catalog, out, name, version, .. } = self;
        let done = workflow::package(&workflow::ZarfPackage { catalog, out, name: name.clone(), version, existing })?;
        if done.name != name {
            context.warn(format_args!("the package is named {}: Zarf takes lower case, digits and hyphens", done.name));
        }
        for image in &done.unpinned {
            context.warn(format_args!("{image} is not pinned: what it names moves"));
        }
        context.show(&done, human)
    }
}

fn human(done: &Packaged) {
    print::line(&format!("wrote {}; nothing was pulled", done.file.display()));
    row("package", format!("{} {}", done.name, done.version));
    row("images", done.images.len());
    let folder = done.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    row(
        "create",
        format!("zarf package create '{}'", folder.map_or(".".into(), |folder| folder.display().to_string())),
    );
}
