//! `autonomy registry seed`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::flags::{Network, Output, Reporting};
use super::{output, trust};
use crate::copy::{Commit, Presence};
use crate::error::{Error, Kind, Result};
use crate::oci::{Name, Reference};
use crate::transport::{Fallback, Native, Skopeo, Transport, skopeo};
use crate::verify::Demands;
use crate::wire::Client;
use crate::workflow::{self, Outcome, Sidecars, Trust};

/// Copies one image, all its platforms, to another registry. Verified at the source before a blob moves and again at
/// the destination from its own bytes; only then is the destination's tag put and the record written.
#[derive(Debug, Args)]
pub(super) struct Seed {
    /// Source: host[:port]/repository[:tag][@digest]
    #[arg(long, value_name = "REF")]
    from: Reference,
    /// Destination: host[:port]/repository[:tag]; without a tag it takes the source's
    #[arg(long, value_name = "REF")]
    to: Reference,
    /// Also replicate the sidecars TAG-lock and TAG-policy
    #[arg(long)]
    copy_policy: bool,
    /// Cosign public key (SPKI PEM) that the image must be signed with
    #[arg(long, value_name = "FILE", conflicts_with = "skip_verify")]
    pub_key: Option<PathBuf>,
    /// No verification: development only
    #[arg(long)]
    skip_verify: bool,
    #[command(flatten)]
    log: trust::Log,
    /// Folder for seed-manifest.json and seed.lock
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// What moves the image; auto takes skopeo only for what native cannot do
    #[arg(long, value_enum, default_value_t = Choice::Native)]
    transport: Choice,
    /// What else travels along: none is what verification needs and no more
    #[arg(long, value_enum, default_value_t = Accessories::None)]
    accessories: Accessories,
    /// Ask the destination for every node, even below manifests that it holds
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    pub(super) reporting: Reporting,
}

/// Longest time that cancelling open uploads may take at the end.
const TIDY: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Native,
    Skopeo,
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Accessories {
    None,
}

impl Seed {
    pub(super) async fn run(self) -> Result<()> {
        let seed = self.request()?;
        let transport = self.transport()?;
        let client = Client::new(self.network.access.client())?;
        client.check_credentials().await?;
        if matches!(seed.trust, Trust::Skip) {
            output::note(
                "WARNING: --skip-verify: NOTHING is verified, neither at the source nor at the destination. Development only.",
            );
        }
        let (events, progress) = self.reporting.listen();
        let done = workflow::seed_until(&seed, &client, transport.as_ref(), &events, super::interrupted()).await;
        drop(events);
        progress.finish().await;
        client.settle(TIDY).await;
        self.print(&done?)
    }

    /// What is asked for, checked as far as that goes without contacting anybody.
    fn request(&self) -> Result<workflow::Seed> {
        let usage = |op: &str| Error::new(Kind::Usage, op);
        let trust = match &self.pub_key {
            Some(path) => self.demands(path)?,
            None if self.skip_verify && self.log.is_asked() => {
                return Err(usage("--rekor-key and --require-tlog verify, and --skip-verify does not")
                    .hint("name the key that signed with --pub-key, or leave the log out"));
            }
            None if self.skip_verify => Trust::Skip,
            None => return Err(usage("registry seed requires --pub-key or --skip-verify")),
        };
        if self.to.digest.is_some() {
            return Err(usage("a digest cannot be chosen for --to; name a tag").on(&self.to));
        }
        if self.copy_policy && (self.from.digest.is_some() || self.from.tag.is_none()) {
            return Err(usage("--copy-policy requires tag-based --from and --to")
                .hint("sidecars stand beside the image as <tag>-lock and <tag>-policy; a digest has none"));
        }
        let mut to = self.to.clone();
        if to.tag.is_none() {
            to.tag = match self.from.name() {
                Name::Tag(tag) => Some(tag),
                Name::Digest(_) => self.from.tag.clone(),
            };
        }
        if to.tag.is_none() {
            return Err(usage("--to needs a tag, because --from is a digest")
                .on(&self.to)
                .hint(format!("write {}:<tag>", self.to)));
        }
        let mut engine = self.network.engine();
        if self.deep {
            engine.presence = Presence::EveryNode;
        }
        let sidecars = if self.copy_policy { Sidecars::Copy } else { Sidecars::Leave };
        Ok(workflow::Seed {
            from: self.from.clone(),
            to,
            sidecars,
            trust,
            engine,
            folder: self.out.clone(),
            commit: Commit::default(),
        })
    }
}

impl Seed {
    /// The demands that `--pub-key`, the flags about logs and the environment make.
    fn demands(&self, path: &Path) -> Result<Trust> {
        let mut demands = Demands::new(vec![trust::public_key("--pub-key", path)?]);
        demands.trust_time = trust::time()?;
        self.log.demand(&mut demands)?;
        Ok(Trust::Verify { demands: Box::new(demands), key: path.display().to_string() })
    }

    fn transport(&self) -> Result<Box<dyn Transport>> {
        let access = &self.network.access;
        let skopeo = || {
            let options = skopeo::Options {
                authfile: access.authfile.clone(),
                ca_file: access.ca_file.clone(),
                cert_dir: access.cert_dir.clone(),
                environment: std::env::vars_os().collect(),
                ..skopeo::Options::default()
            };
            Skopeo::find(std::env::var_os("PATH").as_deref(), options)
        };
        Ok(match self.transport {
            Choice::Native => Box::new(Native),
            Choice::Skopeo => Box::new(skopeo()?),
            // Without skopeo on this machine native is all there is.
            Choice::Auto => Box::new(Fallback::new(Native, skopeo().ok())),
        })
    }

    fn print(&self, outcome: &Outcome) -> Result<()> {
        match self.reporting.voice.output {
            Output::Json => output::json(outcome),
            Output::Human => {
                output::outcome(outcome);
                Ok(())
            }
        }
    }
}
