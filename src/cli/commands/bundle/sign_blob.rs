//! `autonomy bundle sign-blob`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print;
use crate::workflow;

/// Signs a file of any kind and any length. Writes the signature as a sigstore bundle, which cosign verify-blob reads.
#[derive(Debug, Args)]
pub(crate) struct SignBlobArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Private key from bundle keygen or cosign; the password comes from COSIGN_PASSWORD or a prompt
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signature goes, such as FILE.sig; a file there is replaced
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
}

impl Run for SignBlobArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let key = Arc::new(trust::signing_key("--key", &self.key).await?);
        let stopped = Error::new(Kind::Interrupted, "sign").on(self.file.display());
        let signed = unless_interrupted(workflow::sign_file(&self.file, key, &self.bundle), stopped).await?;
        context.show(&signed, |signed| {
            print::line(&format!("signed {}", signed.file.display()));
            print::row("digest", signed.digest);
            print::row("key", &signed.key);
            print::row("bundle", signed.bundle.display());
        })
    }
}
