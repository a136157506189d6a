//! `autonomy bundle …`.

use std::process::ExitCode;

use clap::Subcommand;

use super::flags::Output;
use super::{keygen, seal, verify};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Bundle {
    /// Verify an image where it stands: signatures, digests, fingerprint, policy version
    Verify(verify::Verify),
    /// Make a pair of keys to sign bundles with
    Keygen(keygen::Keygen),
    /// Put lock and policy beside an image, and sign all three
    Seal(seal::Seal),
}

impl Bundle {
    pub(super) fn form(&self) -> Output {
        match self {
            Self::Verify(verify) => verify.form(),
            Self::Keygen(keygen) => keygen.form(),
            Self::Seal(seal) => seal.form(),
        }
    }

    pub(super) async fn run(self) -> Result<ExitCode> {
        let done = match self {
            Self::Verify(verify) => return verify.run().await,
            Self::Keygen(keygen) => keygen.run().await,
            Self::Seal(seal) => seal.run().await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
