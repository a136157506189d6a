//! `autonomy bundle verify-blob`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print::{self, Output};
use crate::workflow::{self, FileReport};

/// Verifies the signature of a file, fail-closed: from bundle sign-blob or cosign sign-blob. The age of the signature is
/// not checked, because it has no time.
#[derive(Debug, Args)]
pub(crate) struct VerifyBlobArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Cosign public key (SPKI PEM); repeatable, one matching key is enough
    #[arg(long, value_name = "FILE", required = true)]
    pub_key: Vec<PathBuf>,
    /// The signature: a sigstore bundle, the JSON of cosign 2, or the signature alone in base64
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
}

impl Run for VerifyBlobArgs {
    /// Verifies and prints the report, whatever its result.
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let keys = self.pub_key.iter().map(|path| trust::public_key("--pub-key", path)).collect::<Result<_>>()?;
        let stopped = Error::new(Kind::Interrupted, "verify").on(self.file.display());
        let report = unless_interrupted(workflow::verify_file(&self.file, keys, &self.bundle), stopped).await?;
        let done = context.show(&report, human)?;
        // No JSON here: the report was printed as JSON already.
        Ok(report.refusal().map_or(done, |error| print::failure(&error, Output::Human)))
    }
}

fn human(report: &FileReport) {
    let verdict = if report.verified { "verified" } else { "not verified" };
    print::line(&format!("{verdict} {}", report.file.display()));
    let rows = [("digest", report.digest.map(|digest| digest.to_string())), ("key", report.key.clone())];
    for (name, text) in rows.iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
        print::row(name, text);
    }
    if let Some(form) = report.form {
        print::row("form", form);
    }
}
