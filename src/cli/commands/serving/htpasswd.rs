//! `autonomy registry htpasswd`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::login::{need_terminal, piped, typed, wrong};
use crate::cli::context::{Run, RunContext};
use crate::disk::blocking;
use crate::error::Result;
use crate::http_server::htpasswd;
use crate::terminal::{password, print};

/// Prints a line for the file of registry serve --htpasswd: the user and the bcrypt hash of the password. The password
/// is asked for twice at the terminal, or read from stdin.
#[derive(Debug, Args)]
pub(crate) struct HtpasswdArgs {
    /// Name of the user
    #[arg(value_name = "USER")]
    user: String,
    /// Read the password from stdin instead of prompting
    #[arg(long)]
    password_stdin: bool,
}

/// The line, for scripts.
#[derive(Serialize)]
struct HtpasswdLine {
    user: String,
    line: String,
}

impl Run for HtpasswdArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let Self { user, password_stdin } = self;
        htpasswd::check_name(&user)?;
        let password = if password_stdin { piped()? } else { asked().await? };
        let name = user.clone();
        let line = blocking(move || htpasswd::line(&name, &password)).await?;
        context.show(&HtpasswdLine { user, line }, |made| print::line(&made.line))
    }
}

async fn asked() -> Result<String> {
    need_terminal().map_err(|error| error.hint("give --password-stdin, with the password on stdin"))?;
    let password = typed("Password: ", password::Shown::No).await?;
    if password != typed("The same again: ", password::Shown::No).await? {
        return Err(wrong("the two are not the same"));
    }
    Ok(password)
}
