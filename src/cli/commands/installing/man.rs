//! `autonomy man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_mangen::Man;
use serde::Serialize;

use crate::cli::context::RunContext;
use crate::disk::{Existing, file_set};
use crate::error::{Error, Kind, Result};
use crate::terminal::print;

/// Writes a manual page for each command, such as autonomy-registry-seed.1. Pages of an older version are replaced.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages, such as ~/.local/share/man/man1; created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The pages that were written.
#[derive(Serialize)]
struct ManualPages {
    folder: PathBuf,
    pages: Vec<String>,
}

impl ManArgs {
    /// Writes the pages of `command` and of all commands below it.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the disk refuses.
    pub(crate) fn write(self, command: Command, context: &RunContext) -> Result<ExitCode> {
        // A page for `help` would say what `--help` says.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let mut files = Vec::new();
        render(&command, &mut files).map_err(|why| Error::new(Kind::Local, "write the pages").because(why))?;
        let named: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        file_set::write(&self.out, &named, Existing::Replaced)?;
        let pages = files.into_iter().map(|(name, _)| name).collect();
        context.show(&ManualPages { folder: self.out, pages }, |written| {
            print::line(&format!("wrote {} pages into {}", written.pages.len(), written.folder.display()));
        })
    }
}

/// Adds the page of `command` and the pages of its commands to `files`, as names and texts.
fn render(command: &Command, files: &mut Vec<(String, String)>) -> std::io::Result<()> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    files.push((page.get_filename(), String::from_utf8(text).map_err(std::io::Error::other)?));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| render(below, files))
}
