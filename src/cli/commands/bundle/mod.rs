//! `autonomy bundle …`.

pub(crate) mod keygen;
pub(crate) mod seal;
pub(crate) mod sign_blob;
pub(crate) mod verify;
pub(crate) mod verify_blob;

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
    /// Sign a file, as cosign sign-blob does
    SignBlob(sign_blob::SignBlobArgs),
    /// Verify the signature of a file, as cosign verify-blob does
    VerifyBlob(verify_blob::VerifyBlobArgs),
}

impl Run for Bundle {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        match self {
            Self::Verify(command) => command.run(context).await,
            Self::Keygen(command) => command.run(context).await,
            Self::Seal(command) => command.run(context).await,
            Self::SignBlob(command) => command.run(context).await,
            Self::VerifyBlob(command) => command.run(context).await,
        }
    }
}
