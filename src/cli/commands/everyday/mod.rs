//! Commands that show what a registry holds, and remove from it.

pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod rm;

use std::num::NonZeroUsize;

use clap::Args;

/// How many requests are in flight.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Requests {
    /// Most entries asked for at the same time
    #[arg(long, value_name = "N", default_value = "8")]
    jobs: NonZeroUsize,
}
