//! `autonomy bundle …`.

use std::process::ExitCode;

use clap::Subcommand;

use super::flags::Output;
use super::verify;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Bundle {
    /// Verify an image where it stands: signatures, digests, fingerprint, policy version
    Verify(verify::Verify),
}

impl Bundle {
    pub(super) fn form(&self) -> Output {
        match self {
            Self::Verify(verify) => verify.form(),
        }
    }

    pub(super) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Verify(verify) => verify.run().await,
        }
    }
}
