//! `autonomy bundle …`.

pub(crate) mod keygen;
pub(crate) mod seal;
pub(crate) mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::context::{Run, RunContext};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Verify an image in its registry: signatures, digests, fingerprint, policy version
    Verify(verify::Verify),
    /// Make a key pair that signs bundles
    Keygen(keygen::KeygenArgs),
    /// Add lock and policy to an image, and sign all three
    Seal(seal::SealArgs),
}

impl Run for Bundle {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        match self {
            Self::Verify(command) => command.run(context).await,
            Self::Keygen(command) => command.run(context).await,
            Self::Seal(command) => command.run(context).await,
        }
    }
}
