//! The command line: the only module that knows clap, the environment and exit codes.
//!
//! Parse without I/O, resolve once, call one workflow, print one result. Results go to stdout, everything else to
//! stderr.

mod args;
mod command_line;
mod commands;
mod context;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use command_line::foreign_commands;
use context::{GlobalArgs, Run, RunContext};

use crate::error::{Error, Kind, Result};
use crate::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed for a reason not listed below
  2    usage: flags, references, catalog or key file are wrong; nothing was contacted
  3    verification failed (fail-closed), at the source or at the destination; a data folder is damaged (check)
  4    source or destination could not be read or written
  5    some entries failed (--keep-going) or could not be read (ls -l), some tags could not be put back
       (rollback), or some repositories were left alone (gc)
  6    everything was asked and answered, and the answer is no: something would move (--dry-run --exit-code),
       tags still name the digest, or the registry does not delete (rm)
  130  interrupted; the destination tag was not moved";

/// Replicates container images between registries, verifies them fail-closed, and serves them at the edge.
#[derive(Debug, Parser)]
#[command(name = "autonomy", version, after_help = EXIT_CODES, propagate_version = true)]
struct Autonomy {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move, serve and show images
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Verify and make signed bundles: an image with its lock and its policy
    #[command(subcommand)]
    Bundle(commands::bundle::Bundle),
    /// Same as bundle verify, with flags for image and key
    Verify(commands::bundle::verify::ByFlags),
    /// Print the completion script of a shell
    Completion(commands::installing::completion::CompletionArgs),
    /// Write the manual pages
    Man(commands::installing::man::ManArgs),
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Copy an image between registries; verify both ends; tag last
    Seed(Box<commands::copying::seed::SeedArgs>),
    /// Copy every image of a catalog in one run; shared layers move once
    SeedCatalog(Box<commands::copying::seed_catalog::SeedCatalog>),
    /// Copy repositories from one registry to another under the same names
    Sync(Box<commands::copying::seed_catalog::Sync>),
    /// Write the digests of today into a catalog
    Pin(Box<commands::prepare::pin::Pin>),
    /// Publish a catalog's results as an OCI artifact
    PublishIndex(commands::prepare::publish_index::PublishIndex),
    /// Write the files that start zot as a site's registry; nothing is pulled or started
    BootstrapZot(commands::prepare::bootstrap_zot::BootstrapZot),
    /// Write a catalog's images as a Zarf package; nothing is pulled
    Package(commands::prepare::package::PackageArgs),
    /// List the repositories of a registry, or the tags of a repository
    Ls(commands::everyday::ls::Ls),
    /// Show an image with its platforms and everything attached to it
    Inspect(commands::everyday::inspect::Inspect),
    /// Remove a tag, or an image with everything attached to it
    Rm(commands::everyday::rm::Rm),
    /// Move the tags of a seed-catalog or sync run back to the previous images
    Rollback(Box<commands::copying::rollback::RollbackArgs>),
    /// Log in to a registry; docker and podman find the login too
    Login(commands::serving::login::LoginCommand),
    /// Log out of a registry
    Logout(commands::serving::login::Logout),
    /// Print a line for the file of serve --htpasswd
    Htpasswd(commands::serving::htpasswd::HtpasswdArgs),
    /// Serve a folder as an OCI registry
    Serve(Box<commands::serving::serve::ServeArgs>),
    /// Garbage-collect a data folder
    Gc(commands::serving::gc::Gc),
    /// Read and hash everything in a data folder; report or repair damage
    Check(Box<commands::serving::check::Check>),
    /// Demo of 15 seconds: two registries, a signed bundle, a verified seed, refused forgeries
    Demo(commands::serving::demo::DemoArgs),
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = match command_line::parse::<Autonomy>(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => match foreign_commands::explained(&error) {
            Some(error) => return terminal::print::failure(&error, terminal::print::Output::Human),
            None => error.exit(),
        },
    };
    let command_line::Parsed { command: Autonomy { global, command }, is_json, warnings, variables } = parsed;
    let context = RunContext::start(&global, is_json);
    warnings.iter().for_each(|warning| context.warn(warning));
    run(command, &context).unwrap_or_else(|error| {
        let code = terminal::print::failure(&error, context.output);
        let notes = variables.iter().filter_map(|variable| variable.note(&error.chain()));
        notes.for_each(|note| terminal::print::note(&format!("  note: {note}")));
        code
    })
}

impl Run for Command {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        match self {
            Self::Registry(command) => command.run(context).await,
            Self::Bundle(command) => command.run(context).await,
            Self::Verify(command) => command.run(context).await,
            Self::Completion(command) => command.print(command_line::definition::<Autonomy>(), context),
            Self::Man(command) => command.write(command_line::definition::<Autonomy>(), context),
        }
    }
}

impl Run for RegistryCommand {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        match self {
            Self::Seed(command) => command.run(context).await,
            Self::SeedCatalog(command) => command.run(context).await,
            Self::Sync(command) => command.run(context).await,
            Self::Pin(command) => command.run(context).await,
            Self::PublishIndex(command) => command.run(context).await,
            Self::BootstrapZot(command) => command.run(context).await,
            Self::Package(command) => command.run(context).await,
            Self::Ls(command) => command.run(context).await,
            Self::Inspect(command) => command.run(context).await,
            Self::Rm(command) => command.run(context).await,
            Self::Rollback(command) => command.run(context).await,
            Self::Login(command) => command.run(context).await,
            Self::Logout(command) => command.run(context).await,
            Self::Htpasswd(command) => command.run(context).await,
            Self::Serve(command) => command.run(context).await,
            Self::Gc(command) => command.run(context).await,
            Self::Check(command) => command.run(context).await,
            Self::Demo(command) => command.run(context).await,
        }
    }
}

fn run(command: Command, context: &RunContext) -> Result<ExitCode> {
    let runtime = runtime(&command).map_err(|cause| Error::new(Kind::Local, "start").because(cause))?;
    let done = runtime.block_on(command.run(context));
    // A DNS lookup that hangs must not keep the program from ending.
    runtime.shutdown_background();
    done
}

/// Builds the runtime. Moving images needs one processor for 5 Gbit/s, hashing included. With no more than two, the other
/// is left to the rest of the machine: several threads would then only wake each other, for a third more processor time
/// with many small blobs (`benches/README.md`). A server serves many clients at once.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let serves = matches!(command, Command::Registry(RegistryCommand::Serve(_) | RegistryCommand::Demo(_)));
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder =
        if serves || processors > 2 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build()
}

#[cfg(test)]
mod tests;
