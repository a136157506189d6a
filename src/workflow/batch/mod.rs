//! Many images in one run: all are resolved and approved before the first blob moves, and content that they share moves
//! once.

pub(super) mod atomic;
pub(super) mod expand;
pub(super) mod history;
pub(super) mod roll_up;

use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::atomic::TagMove;
use self::expand::{CatalogEntry, Image};
use super::{Outcome, SeedStatus};
use crate::copy::{self, Event, Events, ImageEnd, Plan, PlanTotals, Stage};
use crate::document::roll_up::RollUp;
use crate::document::{Accessories, entry_directory};
use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::seed::dry_run::{Forecast, Forecasts};
use crate::seed::prepare::{Prepared, SeedRun};
use crate::seed::previous::Move;
use crate::seed::request::{IndexHandling, Seed, SeedScope, SidecarHandling, Tagging};
use crate::seed::shared::Commons;
use crate::seed::{Staged, interrupted, until};
use crate::transport::{Native, Transport};
use crate::wire::Client;

/// The images to seed, and the behaviour when one fails.
#[derive(Debug)]
pub struct Catalog {
    /// The catalog as the user named it, for the roll-up.
    pub name: String,
    /// Sources and destinations, each with its demands.
    pub entries: Vec<CatalogEntry>,
    /// Accessories of images that do not set their own.
    pub accessories: Accessories,
    /// Options of the engine; the whole run shares the lanes.
    pub engine: copy::Options,
    /// Images in progress at the same time.
    pub images_at_once: usize,
    /// Whether to try the other images when one fails. Not for tags that move together.
    pub keep_going: bool,
    /// How tags move.
    pub tagging: Tagging,
    /// Folder of the roll-up, with a subfolder for each image.
    pub folder: PathBuf,
    /// How long the roll-ups of former runs are kept below it; zero keeps none.
    pub kept_for: Duration,
}

/// The result of a catalog.
#[derive(Debug)]
pub struct Seeded {
    /// The record of all images.
    pub roll_up: RollUp,
    /// The result of each image, in the order of the roll-up.
    pub entries: Vec<BatchEntry>,
    /// The file of the roll-up.
    pub file: PathBuf,
}

/// One image of a catalog.
#[derive(Debug)]
pub struct BatchEntry {
    /// The request.
    pub seed: Seed,
    /// The name of its folder.
    pub directory: String,
    /// Whether the roll-up records the digest of its source.
    pub is_pinned_late: bool,
    /// Its result.
    pub result: Result<Box<Outcome>>,
}

/// Seeds all images of a catalog, until `stop`.
///
/// # Errors
///
/// Without `keep_going`, fails with the error of the first image that fails: the others are cancelled, except those whose
/// tags are being put. [`Interrupted`](Kind::Interrupted) after `stop`. In both cases no roll-up is written.
pub async fn seed_catalog(
    catalog: Catalog,
    client: &Client,
    journal: &Journal,
    transport: &dyn Transport,
    events: &Events,
    stop: impl Future<Output = ()> + Send,
) -> Result<Seeded> {
    let begun = Instant::now();
    let roll_up = roll_up::RollUpFile::prepare(&catalog.folder, catalog.kept_for)?;
    let commons = Commons::default();
    let halt = CancellationToken::new();
    let each = events.of_one_among_many();
    let run = SeedRun { client, journal, transport, events: &each, commons: &commons, is_folder_tried: true };
    let Catalog { name, keep_going, .. } = &catalog;
    let batch = Batch { run, events, halt: &halt, keep_going: *keep_going, at_once: catalog.images_at_once };
    let all = async {
        events.send(Event::Stage(Stage::Resolving));
        let (images, choosing) = expand::images(&catalog.entries, client).await?;
        let entries = images.into_iter().map(|image| order(&catalog, image)).collect();
        let entries = batch.seed(name, catalog.tagging, entries).await?;
        Ok((entries, choosing))
    };
    // Boxed to keep callers' futures small.
    let mut all = Box::pin(all);
    let (entries, choosing) = tokio::select! {
        done = &mut all => done,
        () = stop => {
            halt.cancel();
            // Images whose tags are being put finish; all others are cancelled now.
            let done = all.await;
            match catalog.tagging {
                // Complete, if it was too late to cancel.
                Tagging::Together => done,
                _ => done.and_then(|_| Err(interrupted(name, "interrupted; no roll-up was written"))),
            }
        }
    }?;
    let (roll_up, file) = roll_up.write(name, &entries, choosing, begun.elapsed(), events)?;
    Ok(Seeded { roll_up, entries, file })
}

/// Computes the cost of a catalog. Puts nothing and writes nothing.
///
/// # Errors
///
/// Fails with the error of the first image that cannot be resolved or does not verify: there is no forecast for it.
pub async fn forecast_catalog(catalog: Catalog, client: &Client, events: &Events) -> Result<Forecasts> {
    let commons = Commons::default();
    let halt = CancellationToken::new();
    let each = events.of_one_among_many();
    let journal = &Journal::none();
    let run = SeedRun { client, journal, transport: &Native, events: &each, commons: &commons, is_folder_tried: true };
    let batch = Batch { run, events, halt: &halt, keep_going: false, at_once: catalog.images_at_once };
    events.send(Event::Stage(Stage::Resolving));
    let (images, choosing) = expand::images(&catalog.entries, client).await?;
    let entries: Vec<_> = images.into_iter().map(|image| order(&catalog, image)).collect();
    let mut forecasts = Forecasts::of(Box::pin(batch.forecast(&entries)).await?);
    forecasts.totals.requests += choosing.requests;
    Ok(forecasts)
}

/// Turns one image into a seed of its own, with a folder below the catalog's.
fn order(catalog: &Catalog, Image { from, to, entry }: Image<'_>) -> BatchEntry {
    let CatalogEntry { entry, trust } = entry;
    let directory = entry_directory(&to);
    let scope = SeedScope {
        platforms: entry.platforms.clone(),
        index: IndexHandling::Keep,
        sidecars: if entry.copy_policy { SidecarHandling::Copy } else { SidecarHandling::Leave },
        accessories: entry.accessories.unwrap_or(catalog.accessories),
    };
    let (tagging, engine, folder) = (catalog.tagging, catalog.engine.clone(), catalog.folder.join(&directory));
    let seed = Seed { scope, tagging, engine, folder, ..Seed::new(from, to, trust.clone()) };
    let is_pinned_late = entry.select.is_some() || !entry.from.is_pinned();
    let result = Err(Error::new(Kind::Interrupted, "seed").on(&seed.to).because("it was not begun".to_owned()));
    BatchEntry { seed, directory, is_pinned_late, result }
}

/// Ratio of images in preparation to images being carried: preparing only sends small requests, which wait for round
/// trips.
const PREPARED: usize = 4;

/// The result for an image, with its position in the catalog.
type Numbered<T> = (usize, Result<T>);

/// The images of a run; a bounded number of them is in progress at a time.
#[derive(Debug, Clone, Copy)]
struct Batch<'a> {
    run: SeedRun<'a>,
    /// Receives events about the run as a whole.
    events: &'a Events,
    halt: &'a CancellationToken,
    keep_going: bool,
    at_once: usize,
}

impl Batch<'_> {
    /// Prepares all images, then carries all.
    async fn seed(self, name: &str, tagging: Tagging, mut entries: Vec<BatchEntry>) -> Result<Vec<BatchEntry>> {
        self.events.send(Event::Images(entries.len() as u64));
        let prepared = self.prepared(&entries).await?;
        self.events.send(Event::Planned(PlanTotals::of_all(prepared.iter().filter_map(planned))));
        self.events.send(Event::Stage(Stage::Copying));
        let results = match tagging {
            Tagging::Together => self.together(name, prepared).await?,
            _ => self.all(|| self.at_once, prepared.into_iter(), |prepared| self.carry(prepared)).await?,
        };
        for (at, result) in results {
            entries[at].result = result;
        }
        Ok(entries)
    }

    /// Prepares all images.
    async fn prepared(self, entries: &[BatchEntry]) -> Result<Vec<Numbered<Box<Prepared<'_>>>>> {
        let entries = entries.iter().enumerate();
        let mut prepared = self.all(|| self.prepared_at_once(), entries, |entry| self.prepare(&entry.seed)).await?;
        // In the order of the catalog: later images mount what earlier ones bring.
        prepared.sort_by_key(|(at, _)| *at);
        Ok(prepared)
    }

    /// Returns how many images to prepare at the same time, based on the measured distance of the registries.
    fn prepared_at_once(self) -> usize {
        let near = self.at_once.saturating_mul(PREPARED);
        self.run.client.round_trip().map_or(near, |round_trip| copy::at_a_distance(near, round_trip))
    }

    /// Forecasts all images. Assigns shared content in the order of the catalog: later images mount what earlier ones
    /// bring. Holds no more images than are in progress, however long the catalog is.
    async fn forecast(self, entries: &[BatchEntry]) -> Result<Vec<Forecast>> {
        self.events.send(Event::Images(entries.len() as u64));
        let mut rest = entries.iter();
        let (mut preparing, mut asking) = (FuturesOrdered::new(), FuturesOrdered::new());
        let mut forecasts = Vec::with_capacity(entries.len());
        loop {
            while preparing.len() + asking.len() < self.prepared_at_once().max(1)
                && let Some(entry) = rest.next()
            {
                preparing.push_back(self.prepare(&entry.seed));
            }
            // `select!` polls everything in progress: a future that is left unpolled would look slow.
            tokio::select! {
                Some(prepared) = preparing.next() => {
                    let prepared = prepared?;
                    let reckoned = prepared.reckon(self.run.commons);
                    asking.push_back(async move { prepared.forecast(reckoned).await });
                }
                Some(forecast) = asking.next() => forecasts.push(forecast?),
                else => return Ok(forecasts),
            }
        }
    }

    /// Does `work` on all `items`, a bounded number at a time. Without `keep_going` the first failure cancels all others
    /// and is returned.
    async fn all<I, T, F>(
        self,
        at_once: impl Fn() -> usize + Send,
        mut items: impl Iterator<Item = (usize, I)> + Send,
        work: impl Fn(I) -> F + Send,
    ) -> Result<Vec<Numbered<T>>>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut under_way = FuturesUnordered::new();
        let mut results = Vec::new();
        let mut first = None;
        loop {
            while under_way.len() < at_once().max(1)
                && let Some((at, item)) = items.next()
            {
                under_way.push(work(item).map(move |result| (at, result)));
            }
            let Some((at, result)) = under_way.next().await else { break };
            if let Err(error) = &result
                && !self.keep_going
            {
                first.get_or_insert_with(|| error.clone());
                self.halt.cancel();
            }
            results.push((at, result));
        }
        first.map_or(Ok(results), Err)
    }

    /// Runs `flow`, a part of `seed`, unless the run is halted.
    async fn part<T: Send>(self, seed: &Seed, flow: Pin<&mut (impl Future<Output = Result<T>> + Send)>) -> Result<T> {
        // The log names the image of a retry.
        let span = tracing::debug_span!("seed", image = %seed.to);
        let done = until(seed, flow, self.halt.cancelled()).instrument(span).await;
        done.map_err(|error| error.during("seed", &seed.to).of_image(&seed.to))
    }

    /// Collects everything that must be known about an image before the first blob moves.
    async fn prepare(self, seed: &Seed) -> Result<Box<Prepared<'_>>> {
        let prepared = async {
            let mut prepared = Prepared::new(seed, self.run).await?;
            prepared.plan().await?;
            // Boxed: thousands of them wait until the last is prepared, and then go one by one.
            Ok(Box::new(prepared))
        };
        self.part(seed, pin!(prepared)).await
    }

    async fn carry(self, prepared: Result<Box<Prepared<'_>>>) -> Result<Box<Outcome>> {
        let prepared = prepared.inspect_err(|error| self.tell_unprepared(error))?;
        let seed = prepared.seed;
        let flow = async { prepared.carry(self.run).await?.finish(self.run).await.map(Box::new) };
        let result = self.part(seed, pin!(flow)).await;
        self.tell(seed, &result);
        result
    }

    /// Stages all, then moves all tags, then writes all records.
    async fn together(
        self,
        name: &str,
        prepared: Vec<Numbered<Box<Prepared<'_>>>>,
    ) -> Result<Vec<Numbered<Box<Outcome>>>> {
        let staged = self.all(|| self.at_once, prepared.into_iter(), |prepared| self.stage(prepared)).await?;
        let ready = self.all(|| self.at_once, staged.into_iter(), |staged| self.ready(staged)).await?;
        let mut ready = ready.into_iter().map(|(at, ready)| Ok((at, ready?))).collect::<Result<Vec<_>>>()?;
        ready.sort_by_key(|(at, _)| *at);
        self.events.send(Event::Stage(Stage::Tagging));
        let steps = ready.iter().flat_map(|(_, (staged, moves))| {
            let Prepared { seed, ends, .. } = &*staged.prepared;
            let needed = moves.iter().filter(|step| step.is_needed());
            needed.map(|step| TagMove { to: seed.to.repository.tagged(&step.tag), sink: Arc::clone(&ends.sink), step })
        });
        atomic::move_all(self.run.journal, name, &steps.collect::<Vec<_>>(), self.halt.cancelled()).await?;
        let mut outcomes = Vec::with_capacity(ready.len());
        for (at, (staged, moves)) in ready {
            let seed = staged.prepared.seed;
            let result = staged.record(&moves).await.map(Box::new);
            self.tell(seed, &result);
            outcomes.push((at, Ok(result?)));
        }
        Ok(outcomes)
    }

    async fn stage<'s>(self, prepared: Result<Box<Prepared<'s>>>) -> Result<Staged<'s>> {
        let prepared = prepared?;
        self.part(prepared.seed, pin!(prepared.carry(self.run))).await
    }

    async fn ready<'s>(self, staged: Result<Staged<'s>>) -> Result<(Staged<'s>, Vec<Move>)> {
        let mut staged = staged?;
        let moves = self.part(staged.prepared.seed, pin!(staged.ready())).await?;
        Ok((staged, moves))
    }

    /// Reports an image that failed before anything moved.
    fn tell_unprepared(self, error: &Error) {
        if let Some(to) = error.image() {
            let (to, error) = (to.to_owned(), Some(error.chain()));
            self.events.send(Event::Image { to, end: ImageEnd::Failed, error });
        }
    }

    fn tell(self, seed: &Seed, result: &Result<Box<Outcome>>) {
        let end = match result {
            Ok(outcome) if outcome.status == SeedStatus::Unchanged => ImageEnd::Unchanged,
            Ok(_) => ImageEnd::Seeded,
            Err(_) => ImageEnd::Failed,
        };
        let error = result.as_ref().err().map(Error::chain);
        self.events.send(Event::Image { to: seed.to.to_string(), end, error });
    }
}

/// Returns an image's plan, with the registry that it is for.
fn planned<'a>((_, prepared): &'a Numbered<Box<Prepared<'_>>>) -> Option<(&'a str, &'a Plan)> {
    let prepared = prepared.as_ref().ok()?;
    Some((prepared.seed.to.repository.api_host(), prepared.job.copy.plan.as_deref()?))
}
