//! `autonomy registry seed`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::copy::Movement;
use crate::cli::args::pinned::{self, WithoutSignature};
use crate::cli::args::platforms::Subset;
use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::terminal::interrupt::{interrupted, unless_interrupted};
use crate::terminal::seed_result;
use crate::verify::Demands;
use crate::workflow::{self, IndexHandling, Seed, SeedScope, SidecarHandling, Trust};

/// Copies one image, all its platforms, to another registry. Verifies it at the source before a blob moves, and at the
/// destination from the destination's own bytes; only then puts the destination's tag and writes the record.
#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    /// Source: host[:port]/repository[:tag][@digest]
    #[arg(long, value_name = "REF")]
    from: Reference,
    /// Destination: host[:port]/repository[:tag]; default tag is the source's
    #[arg(long, value_name = "REF")]
    to: Reference,
    /// Also copy the sidecars TAG-lock and TAG-policy
    #[arg(long)]
    copy_policy: bool,
    /// Cosign public key (SPKI PEM) that must have signed the image
    #[arg(long, value_name = "FILE", conflicts_with = "skip_verify")]
    pub_key: Option<PathBuf>,
    #[command(flatten)]
    without: WithoutSignature,
    #[command(flatten)]
    log: trust::LogArgs,
    #[command(flatten)]
    claims: trust::Claims,
    /// Folder for seed-manifest.json and seed.lock
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    subset: Subset,
    #[command(flatten)]
    movement: Movement,
}

impl Run for SeedArgs {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        context.set_image(&self.to);
        let mut seed = self.request()?;
        context.set_image(&seed.to);
        seed.scope.index = self.subset.index().await?;
        if matches!(seed.trust, Trust::Pinned) {
            context.remark(pinned::REMARK);
        }
        let moving = self.movement.begin(context, matches!(seed.trust, Trust::Skip)).await?;
        seed.engine = moving.engine.clone();
        if self.movement.dry_run {
            let forecast = workflow::forecast(&seed, &moving.client, &moving.events);
            let done =
                unless_interrupted(forecast, Error::new(Kind::Interrupted, "interrupted; nothing was moved")).await;
            moving.end().await;
            return self.movement.show_forecasts(context, done);
        }
        let (client, transport, events) = (&moving.client, moving.transport.as_ref(), &moving.events);
        let journal = workflow::Journal::none();
        let done = workflow::seed_until(&seed, client, &journal, transport, events, interrupted()).await;
        moving.end().await;
        let outcome = done.map_err(|error| self.movement.advise(error))?;
        context.show(&outcome, |outcome| seed_result::outcome(outcome, context.detail))
    }
}

impl SeedArgs {
    /// Builds the request; checks it as far as possible without contacting a registry.
    fn request(&self) -> Result<Seed> {
        let usage = |op: &str| Error::new(Kind::Usage, op);
        self.subset.check(self.pub_key.is_some(), self.without.skip_verify, self.copy_policy)?;
        if self.subset.makes_an_index() && self.movement.is_skopeo() {
            return Err(usage("--rewrite-index cannot be used with --transport skopeo")
                .hint("skopeo copies images as they are: leave --transport out, or give auto"));
        }
        self.claims.check(self.without.flag())?;
        self.log.check(self.without.flag())?;
        let trust = match &self.pub_key {
            Some(path) => demands("--pub-key", path, &self.log, &self.claims)?,
            None => {
                let missing = "registry seed requires --pub-key or --skip-verify";
                self.without.trust(missing, std::iter::once(&self.from))?
            }
        };
        let is_by_tag = self.from.digest.is_none() && self.from.tag.is_some() && self.to.digest.is_none();
        if self.copy_policy && !is_by_tag {
            return Err(usage("--copy-policy requires tag-based --from and --to")
                .hint("sidecars stand beside the image as <tag>-lock and <tag>-policy; a digest has none"));
        }
        if self.to.digest.is_some() {
            return Err(usage("a digest cannot be chosen for --to; name a tag")
                .on(&self.to)
                .hint(format!("write {}:<tag>", self.to.repository)));
        }
        let mut to = self.to.clone();
        if to.tag.is_none() {
            to.tag = self.from.effective_tag();
        }
        if to.tag.is_none() {
            return Err(usage("--to needs a tag, because --from is a digest")
                .on(&self.to)
                .hint(format!("write {}:<tag>", self.to)));
        }
        let scope = SeedScope {
            platforms: self.subset.platforms.clone(),
            index: IndexHandling::Keep,
            sidecars: if self.copy_policy { SidecarHandling::Copy } else { SidecarHandling::Leave },
            accessories: self.movement.accessories(),
        };
        let (tagging, folder) = (self.movement.tagging(), self.out.clone());
        Ok(Seed { scope, tagging, folder, ..Seed::new(self.from.clone(), to, trust) })
    }
}

/// Returns the demands from the key at `path`, named by `flag`, the log and claim flags, and the environment.
pub(crate) fn demands(flag: &str, path: &Path, log: &trust::LogArgs, claims: &trust::Claims) -> Result<Trust> {
    let mut demands = Demands::new(vec![trust::public_key(flag, path)?]);
    demands.trust_time = trust::time()?;
    log.demand(&mut demands)?;
    claims.demand(&mut demands);
    Ok(Trust::Verify { demands: Box::new(demands), key: path.display().to_string() })
}
