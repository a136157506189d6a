//! `autonomy bundle …`.

pub(crate) mod keygen;
pub(crate) mod seal;
pub(crate) mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::terminal::print::Output;

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

impl Bundle {
    pub(crate) fn form(&self) -> Output {
        match self {
            Self::Verify(verify) => verify.form(),
            Self::Keygen(keygen) => keygen.form(),
            Self::Seal(seal) => seal.form(),
        }
    }

    pub(crate) async fn run(self) -> Result<ExitCode> {
        let done = match self {
            Self::Verify(verify) => return verify.run().await,
            Self::Keygen(keygen) => keygen.run().await,
            Self::Seal(seal) => seal.run().await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
