//! `autonomy registry package`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::output::Voice;
use crate::cli::terminal::print;
use crate::cli::terminal::print::Output;
use crate::error::Result;
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
    #[command(flatten)]
    voice: Voice,
}

impl PackageArgs {
    pub(crate) fn form(&self) -> Output {
        self.voice.output
    }

    pub(crate) fn run(self) -> Result<()> {
        self.voice.start();
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        let Self { catalog, out, name, version, voice, .. } = self;
        let done = workflow::package(&workflow::ZarfPackage { catalog, out, name: name.clone(), version, existing })?;
        if done.name != name {
            voice.warn(&format!("the package is named {}: Zarf takes lower case, digits and hyphens", done.name));
        }
        for image in &done.unpinned {
            voice.warn(&format!("{image} is not pinned: what it names moves"));
        }
        match voice.output {
            Output::Json => print::json(&done),
            Output::Human => {
                human(&done);
                Ok(())
            }
        }
    }
}

fn human(done: &Packaged) {
    let row = |name: &str, text: String| print::line(&format!("  {name:<10} {text}"));
    print::line(&format!("wrote {}; nothing was pulled", done.file.display()));
    row("package", format!("{} {}", done.name, done.version));
    row("images", done.images.len().to_string());
    let folder = done.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    row(
        "create",
        format!("zarf package create '{}'", folder.map_or(".".into(), |folder| folder.display().to_string())),
    );
}
