//! `autonomy registry seed-catalog` and `sync`: many images in one run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::seed;
use crate::cli::args::copy::Movement;
use crate::cli::args::pinned::{self, WithoutSignature};
use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::document::catalog::{Catalog, Entry};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::quantity::duration;
use crate::terminal::interrupt::{interrupted, unless_interrupted};
use crate::terminal::{catalog_result, print};
use crate::verify::RollbackRule;
use crate::workflow::{self, CatalogEntry, Tagging, Trust};

/// Copies every image of a catalog. Resolves, verifies and plans everything before the first blob moves; shared layers
/// move once and are mounted after that.
#[derive(Debug, Args)]
pub(crate) struct SeedCatalog {
    /// The catalog (YAML): version 1, and entries with from, to, pub_key and more
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// No verification: development only
    #[arg(long)]
    skip_verify: bool,
    /// Refuse entries whose source is not pinned: no tag, or latest
    #[arg(long)]
    require_pinned: bool,
    #[command(flatten)]
    log: trust::LogArgs,
    #[command(flatten)]
    claims: trust::Claims,
    #[command(flatten)]
    run: Many,
}

/// Copies repositories from one registry to another under the same names. Moves only missing content.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Source registry: host[:port]
    #[arg(long, value_name = "HOST")]
    from_registry: String,
    /// Destination registry: host[:port]
    #[arg(long, value_name = "HOST")]
    to_registry: String,
    /// Images: repository[:tag][@digest], comma-separated or repeated; default tag is latest
    #[arg(long, value_name = "REPO", value_delimiter = ',', required = true)]
    repos: Vec<String>,
    /// Cosign public key (SPKI PEM) that must have signed the images
    #[arg(long, value_name = "FILE", conflicts_with = "skip_verify")]
    pub_key: Option<PathBuf>,
    #[command(flatten)]
    without: WithoutSignature,
    /// Also copy the sidecars TAG-lock and TAG-policy
    #[arg(long)]
    copy_policy: bool,
    #[command(flatten)]
    log: trust::LogArgs,
    #[command(flatten)]
    claims: trust::Claims,
    #[command(flatten)]
    run: Many,
}

/// Flags that both commands share.
#[derive(Debug, Args)]
struct Many {
    /// Folder for catalog-seed-manifest.json; each image gets a folder inside
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Keep the roll-ups of former runs this long, in OUT/history, for rollback; 0 keeps none and removes those there
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration::parse)]
    history: Duration,
    /// Continue with the other images after a failure; exit 5 if one failed
    #[arg(long)]
    keep_going: bool,
    /// All tags or none: tags move once every image is in place, and move back if one cannot; implies --keep-previous
    #[arg(long, conflicts_with = "keep_going")]
    atomic: bool,
    #[command(flatten)]
    movement: Movement,
}

impl Run for SeedCatalog {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let name = self.catalog.display().to_string();
        let catalog = workflow::read_catalog(&self.catalog)?;
        let entries = self.entries(catalog).map_err(|error| error.during("use the catalog", &name))?;
        let instead = self.skip_verify.then_some("--skip-verify");
        self.claims.check(instead)?;
        self.log.check(instead)?;
        self.run.start(context, name, entries, self.skip_verify).await
    }
}

impl SeedCatalog {
    fn entries(&self, catalog: Catalog) -> Result<Vec<CatalogEntry>> {
        let folder = self.catalog.parent().unwrap_or(Path::new(""));
        let mut keys = Keys { folder, known: HashMap::new(), log: &self.log, claims: &self.claims };
        let mut unused = false;
        let with_trust = |entry: Entry| {
            let trust = match &entry.pub_key {
                _ if self.require_pinned && entry.select.is_none() && !entry.from.is_pinned() => Err(unpinned(&entry)),
                // Nothing is weakened: --skip-verify is for the other entries.
                None if entry.pinned => Ok(Trust::Pinned),
                Some(key) if !self.skip_verify => {
                    keys.trust(key).map(|trust| relaxed(trust, &entry)).map_err(|error| at_line(error, &entry))
                }
                None if !self.skip_verify => Err(keyless(&entry)),
                key => {
                    unused |= key.is_some();
                    Ok(Trust::Skip)
                }
            };
            Ok(CatalogEntry { trust: trust?, entry })
        };
        let entries = catalog.entries.into_iter().map(with_trust).collect::<Result<_>>()?;
        if unused {
            print::note("WARNING: --skip-verify: the keys in the catalog are NOT used.");
        }
        Ok(entries)
    }
}

/// Public keys by their names in the catalog, each read once.
struct Keys<'a> {
    folder: &'a Path,
    known: HashMap<String, Trust>,
    log: &'a trust::LogArgs,
    claims: &'a trust::Claims,
}

impl Keys<'_> {
    fn trust(&mut self, key: &str) -> Result<Trust> {
        if let Some(trust) = self.known.get(key) {
            return Ok(trust.clone());
        }
        let mut trust = seed::demands("pub_key", &self.folder.join(key), self.log, self.claims)?;
        if let Trust::Verify { key: name, .. } = &mut trust {
            // As the catalog writes it: auditors look for that name.
            key.clone_into(name);
        }
        self.known.insert(key.to_owned(), trust.clone());
        Ok(trust)
    }
}

/// Adds the permissions of the entry itself.
fn relaxed(mut trust: Trust, entry: &Entry) -> Trust {
    if let Trust::Verify { demands, .. } = &mut trust
        && entry.allow_rollback
    {
        demands.rollback = RollbackRule::Allow;
    }
    trust
}

fn at_line(error: Error, entry: &Entry) -> Error {
    error.during(format!("line {}", entry.line), "")
}

fn keyless(entry: &Entry) -> Error {
    let error = Error::new(Kind::Usage, "the entry has no pub_key, and --skip-verify is not given").on(&entry.from);
    at_line(error, entry).hint(match entry.from.digest {
        Some(_) => "for a publisher who does not sign, write pinned: true: the content is checked against this digest",
        None => "registry seed-catalog requires pub_key in every entry, or --skip-verify",
    })
}

fn unpinned(entry: &Entry) -> Error {
    at_line(Error::new(Kind::Usage, "the source is not pinned").on(&entry.from), entry)
        .hint("name a tag other than latest, or a digest; or go without --require-pinned")
}

impl Run for Sync {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        self.claims.check(self.without.flag())?;
        self.log.check(self.without.flag())?;
        let entries = self.repos.iter().map(|repo| self.entry(repo)).collect::<Result<_>>()?;
        let entries = Catalog::new(entries)?.entries;
        let trust = match &self.pub_key {
            Some(path) => seed::demands("--pub-key", path, &self.log, &self.claims)?,
            None => {
                let missing = "registry sync requires --pub-key or --skip-verify";
                self.without.trust(missing, entries.iter().map(|entry| &entry.from))?
            }
        };
        let entries = entries.into_iter().map(|entry| CatalogEntry { entry, trust: trust.clone() }).collect();
        let name = format!("{} -> {}", self.from_registry, self.to_registry);
        self.run.start(context, name, entries, self.without.skip_verify).await
    }
}

impl Sync {
    fn entry(&self, repo: &str) -> Result<Entry> {
        let on = |registry: &str| -> Result<Reference> {
            let wrong = |why| {
                let hint = "write --repos repository[:tag],… and registries as host[:port]";
                Error::new(Kind::Usage, "use --repos").on(repo).because(why).hint(hint)
            };
            let reference: Reference = format!("{registry}/{repo}").parse().map_err(wrong)?;
            if reference.repository.host == registry {
                return Ok(reference);
            }
            let why = format!("{registry:?} is not a registry: host[:port] is");
            Err(Error::new(Kind::Usage, "use --from-registry and --to-registry").because(why))
        };
        let (from, to) = (on(&self.from_registry)?, on(&self.to_registry)?);
        let tag = from.effective_tag();
        let entry = Entry::new(from, Reference { tag, digest: None, ..to });
        Ok(Entry { copy_policy: self.copy_policy, ..entry })
    }
}

impl Many {
    async fn start(
        self,
        context: &RunContext,
        name: String,
        entries: Vec<CatalogEntry>,
        is_unverified: bool,
    ) -> Result<ExitCode> {
        let pinned = entries.iter().filter(|entry| matches!(entry.trust, Trust::Pinned)).count();
        if pinned > 0 {
            context.remark(format_args!("{pinned} of {} entries are {}", entries.len(), pinned::REMARK));
        }
        let moving = self.movement.begin(context, is_unverified).await?;
        let catalog = workflow::Catalog {
            name,
            entries,
            accessories: self.movement.accessories(),
            engine: moving.engine.clone(),
            images_at_once: self.movement.network.jobs.get(),
            keep_going: self.keep_going,
            tagging: if self.atomic { Tagging::Together } else { self.movement.tagging() },
            folder: self.out.clone(),
            kept_for: self.history,
        };
        if self.movement.dry_run {
            let forecasts = workflow::forecast_catalog(catalog, &moving.client, &moving.events);
            let done =
                unless_interrupted(forecasts, Error::new(Kind::Interrupted, "interrupted; nothing was moved")).await;
            moving.end().await;
            return self.movement.show_forecasts(context, done);
        }
        let (client, transport, events) = (&moving.client, moving.transport.as_ref(), &moving.events);
        let journal = workflow::Journal::none();
        let done = workflow::seed_catalog(catalog, client, &journal, transport, events, interrupted()).await;
        moving.end().await;
        let seeded = done.map_err(|error| self.movement.advise(error))?;
        context.show(&seeded.roll_up, |_| catalog_result::print(&seeded))?;
        Ok(catalog_result::failures(&seeded, |error| self.movement.advice(error)))
    }
}
