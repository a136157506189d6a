//! `autonomy bundle keygen`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::output::Voice;
use crate::cli::terminal::print::Output;
use crate::cli::terminal::{password, print};
use crate::error::Result;
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
    #[command(flatten)]
    voice: Voice,
}

impl KeygenArgs {
    pub(crate) fn form(&self) -> Output {
        self.voice.output
    }

    pub(crate) async fn run(self) -> Result<()> {
        self.voice.start();
        let existing = if self.force { Existing::Replaced } else { Existing::Kept };
        let keygen = Workflow::prepare(&self.out, existing)?;
        let pair = keygen.write(&password::get(password::Purpose::New).await?)?;
        if self.voice.output == Output::Json {
            return print::json(&pair);
        }
        print::line(&format!("made key {}", pair.fingerprint));
        print::line(&format!("  private    {}", pair.private_key.display()));
        print::line(&format!("  public     {}", pair.public_key.display()));
        Ok(())
    }
}
