//! `autonomy completion`.

use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};
use serde::Serialize;

use crate::cli::context::RunContext;
use crate::error::{Error, Kind, Result};
use crate::terminal::print;

/// Prints a script that completes commands, flags and values in a shell. The shell reads it when it starts; docs/install.md
/// names the places.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: ShellArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum ShellArg {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
}

impl From<ShellArg> for Shell {
    fn from(shell: ShellArg) -> Self {
        match shell {
            ShellArg::Bash => Self::Bash,
            ShellArg::Zsh => Self::Zsh,
            ShellArg::Fish => Self::Fish,
            ShellArg::PowerShell => Self::PowerShell,
        }
    }
}

/// A completion script, as JSON shows it.
#[derive(Serialize)]
struct CompletionScript {
    shell: ShellArg,
    script: String,
}

impl CompletionArgs {
    /// Prints the script that completes `command`.
    ///
    /// # Errors
    ///
    /// Fails like [`RunContext::show`].
    pub(crate) fn print(&self, mut command: Command, context: &RunContext) -> Result<ExitCode> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        generate(Shell::from(self.shell), &mut command, name, &mut script);
        let script =
            String::from_utf8(script).map_err(|why| Error::new(Kind::Local, "write the script").because(why))?;
        context.show(&CompletionScript { shell: self.shell, script }, |CompletionScript { script, .. }| {
            print::line(script.trim_end())
        })
    }
}
