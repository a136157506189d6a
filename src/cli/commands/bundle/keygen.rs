//! `autonomy bundle keygen`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::{Run, RunContext};
use crate::error::Result;
use crate::terminal::{password, print};
use crate::workflow::{Existing, KeyPairPlace as Workflow};

/// Makes a key pair, cosign.key and cosign.pub, in cosign's format. The password comes from COSIGN_PASSWORD or a prompt.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Folder for the two files; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace existing keys permanently
    #[arg(long)]
    force: bool,
}

impl Run for KeygenArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        let keygen = Workflow::prepare(&self.out, existing)?;
        let pair = keygen.write(&password::get(password::Purpose::New).await?)?;
        context.show(&pair, |pair| {
            print::line(&format!("made key {}", pair.fingerprint));
            print::row("private", pair.private_key.display());
            print::row("public", pair.public_key.display());
        })
    }
}
