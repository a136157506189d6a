//! Shared by the commands that move images: flags, the client, progress and clean-up.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::cli::args::network::{Network, Spooling};
use crate::cli::context::{ProgressArgs, RunContext};
use crate::copy::{self, Event, Events, Presence};
use crate::document::Accessories;
use crate::error::{Error, Kind, Result};
use crate::observe::Listener;
use crate::retry::{Outages, is_outage};
use crate::terminal::interrupt::tidy;
use crate::terminal::print;
use crate::transport::{FallbackTransport, Native, Skopeo, Transport, skopeo};
use crate::wire::Client;
use crate::workflow::{Forecasts, Tagging};

/// How images are moved.
#[derive(Debug, Args)]
pub(crate) struct Movement {
    /// Transport that moves the images; auto uses skopeo only if native does not support the copy
    #[arg(long, value_enum, default_value_t = TransportChoice::Native)]
    transport: TransportChoice,
    /// Which signatures, attestations and other accessories to copy
    #[arg(long, value_enum, default_value_t = Attachments::All)]
    accessories: Attachments,
    /// Check every node at the destination, even below manifests that exist there, compare its size, and repair it;
    /// --deep=bytes also reads back every byte
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = Deep::False,
        default_missing_value = "true",
        hide_default_value = true
    )]
    deep: Deep,
    /// Show the actions and their cost; move and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: exit 6 if something would move
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    /// Before a tag moves, keep the previous image under TAG-was-<12 hex digits>
    #[arg(long)]
    pub(super) keep_previous: bool,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    spooling: Spooling,
    #[command(flatten)]
    progress: ProgressArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TransportChoice {
    Native,
    Skopeo,
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attachments {
    /// Accessories of every copied manifest
    All,
    /// Accessories of the root only
    Root,
    /// Only the accessories that verification needs
    None,
}

/// How closely the destination is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deep {
    /// Check that every node exists and compare its size
    True,
    /// Trust that a manifest has everything it refers to
    False,
    /// Read back and hash every node
    Bytes,
}

/// A run that has begun.
pub(crate) struct Moving {
    pub(crate) client: Client,
    pub(crate) transport: Box<dyn Transport>,
    /// Options of the engine.
    pub(crate) engine: copy::Options,
    pub(crate) events: Events,
    progress: Listener,
}

impl Movement {
    /// Returns whether skopeo moves everything.
    pub(crate) fn is_skopeo(&self) -> bool {
        self.transport == TransportChoice::Skopeo
    }

    async fn engine(&self) -> Result<copy::Options> {
        let presence = match self.deep {
            Deep::False => Presence::Vouched,
            Deep::True => Presence::EveryNode,
            Deep::Bytes => Presence::EveryByte,
        };
        if self.spooling.spool.is_some() && self.is_skopeo() {
            return Err(Error::new(Kind::Usage, "--spool does not go with --transport skopeo, which keeps nothing")
                .hint("leave one of them out"));
        }
        // A dry run fetches nothing to keep, and leaves no folder behind.
        let spool = if self.dry_run { None } else { self.spooling.open().await? };
        Ok(copy::Options { presence, spool, ..self.network.engine() })
    }

    pub(crate) fn tagging(&self) -> Tagging {
        if self.keep_previous { Tagging::Keep } else { Tagging::Plain }
    }

    pub(crate) fn accessories(&self) -> Accessories {
        match self.accessories {
            Attachments::All => Accessories::All,
            Attachments::Root => Accessories::Root,
            Attachments::None => Accessories::None,
        }
    }

    /// Prints the result of a dry run.
    pub(crate) fn show_forecasts(&self, context: &RunContext, done: Result<Forecasts>) -> Result<ExitCode> {
        let forecasts = done.map_err(|error| self.advise(error))?;
        context.show(&forecasts, print::forecasts)?;
        Ok(match self.exit_code && forecasts.is_change() {
            // A result and not a failure: it has no error text.
            true => ExitCode::from(Kind::Refused.exit_code()),
            false => ExitCode::SUCCESS,
        })
    }

    /// Sets up everything that a run needs. Contacts no registry.
    pub(crate) async fn begin(&self, context: &RunContext, is_unverified: bool) -> Result<Moving> {
        let client = Client::new(self.network.access.client())?;
        let transport = self.transport(client.outages())?;
        let engine = self.engine().await?;
        client.check_credentials().await?;
        if is_unverified {
            print::note(
                "WARNING: --skip-verify: NOTHING is verified, neither at the source nor at the destination. Development only.",
            );
        }
        let (events, progress) = context.listen(&self.progress);
        let told = events.clone();
        client.outages().report_to(Some(Arc::new(move |news| told.send(Event::Outage(news.clone())))));
        Ok(Moving { client, transport, engine, events, progress })
    }

    /// Adds to `error`, if it is an outage, how to go on.
    pub(crate) fn advise(&self, error: Error) -> Error {
        match self.advice(&error) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Returns how to go on after `error`, if it is an outage.
    pub(crate) fn advice(&self, error: &Error) -> Option<&'static str> {
        let hint = match self.spooling.spool {
            None => "run it again; with --spool it goes on where it stopped",
            Some(_) => "run it again: it goes on where it stopped",
        };
        is_outage(error).then_some(hint)
    }

    fn transport(&self, outages: &Outages) -> Result<Box<dyn Transport>> {
        let access = &self.network.access;
        let skopeo = || {
            let options = skopeo::Options {
                authfile: access.authfile.clone(),
                ca_file: access.ca_file.clone(),
                cert_dir: access.cert_dir.clone(),
                environment: std::env::vars_os().collect(),
                retry: access.retry(),
                outages: outages.clone(),
            };
            Skopeo::find(std::env::var_os("PATH").as_deref(), options)
        };
        Ok(match self.transport {
            TransportChoice::Native => Box::new(Native),
            TransportChoice::Skopeo => Box::new(skopeo()?),
            // Without skopeo on this machine, native is the only transport.
            TransportChoice::Auto => Box::new(FallbackTransport::new(Native, skopeo().ok())),
        })
    }
}

impl Moving {
    /// Lets the progress display finish, and cancels open uploads.
    pub(crate) async fn end(self) {
        // Every sender must be gone: the display waits for the last.
        self.client.outages().report_to(None);
        drop(self.events);
        self.progress.finish().await;
        tidy(&self.client).await;
    }
}
