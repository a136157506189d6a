//! Many images in one run: everything is known and approved before the first blob moves, and what they share moves once.

use std::path::PathBuf;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;

use super::commons::Commons;
use super::expand::{self, Wish};
use super::prepare::{Prepared, Run};
use super::request::{Index, Seed};
use super::roll_up;
use super::seed::{interrupted, until};
use super::{Outcome, Status};
use crate::copy::{self, Event, Events, Plan, Totals};
use crate::document::rollup::RollUp;
use crate::document::{Accessories, entry_directory};
use crate::error::{Error, Kind, Result};
use crate::transport::Transport;
use crate::wire::Client;

/// What to seed, and what happens when something fails.
#[derive(Debug)]
pub struct Catalog {
    /// The catalog as the user named it, for the roll-up.
    pub name: String,
    /// What goes where, each with what it has to satisfy.
    pub wishes: Vec<Wish>,
    /// What travels with images that do not say so themselves.
    pub accessories: Accessories,
    /// How the engine works; the lanes are those of the whole run.
    pub engine: copy::Options,
    /// Images under way at the same time.
    pub images_at_once: usize,
    /// Whether the others are tried when one fails.
    pub keep_going: bool,
    /// Where the roll-up goes, and a folder for each image.
    pub folder: PathBuf,
}

/// What became of a catalog.
#[derive(Debug)]
pub struct Seeded {
    /// The record of all.
    pub roll_up: RollUp,
    /// What became of each, in the order of the roll-up.
    pub entries: Vec<Entry>,
    /// Where the roll-up was written.
    pub file: PathBuf,
}

/// One image of a catalog.
#[derive(Debug)]
pub struct Entry {
    /// What was asked for.
    pub seed: Seed,
    /// The name of its folder.
    pub directory: String,
    /// Whether the roll-up says which image its source stood for.
    pub is_pinned_late: bool,
    /// How it ended.
    pub result: Result<Outcome>,
}

/// Seeds all images of a catalog, until `stop`.
///
/// # Errors
///
/// Without `keep_going` that of the first image that fails: the others are cancelled, but for those whose tags are being
/// put. [`Interrupted`](Kind::Interrupted) after `stop`. Either way no roll-up is written.
pub async fn seed_catalog(
    catalog: Catalog,
    client: &Client,
    transport: &dyn Transport,
    events: &Events,
    stop: impl Future<Output = ()> + Send,
) -> Result<Seeded> {
    let begun = Instant::now();
    let roll_up = roll_up::File::prepare(&catalog.folder)?;
    let commons = Commons::default();
    let halt = watch::Sender::new(false);
    let each = events.of_one_among_many();
    let run = Run { client, transport, events: &each, commons: &commons, is_folder_tried: true };
    let Catalog { name, wishes, keep_going, .. } = &catalog;
    let fleet = Fleet { run, events, halt: &halt, keep_going: *keep_going, at_once: catalog.images_at_once };
    let all = async {
        events.send(Event::Stage("resolving"));
        let (images, choosing) = expand::images(wishes, client).await?;
        let entries = fleet.seed(images.into_iter().map(|image| order(&catalog, image)).collect()).await?;
        Ok((entries, choosing))
    };
    let mut all = std::pin::pin!(all);
    let (entries, choosing) = tokio::select! {
        done = &mut all => done,
        () = stop => {
            halt.send_replace(true);
            // Whose tags are being put is let finish; everybody else hears of it at once.
            all.await.and_then(|_| Err(interrupted(name, "interrupted; no roll-up was written")))
        }
    }?;
    let (roll_up, file) = roll_up.write(name, &entries, choosing, begun.elapsed())?;
    Ok(Seeded { roll_up, entries, file })
}

/// One image as a seed of its own, with a folder below the catalog's.
fn order(catalog: &Catalog, image: expand::Image) -> Entry {
    let directory = entry_directory(&image.to);
    let seed = Seed {
        from: image.from,
        to: image.to,
        platforms: image.platforms,
        index: Index::Keep,
        sidecars: image.sidecars,
        accessories: image.accessories.unwrap_or(catalog.accessories),
        trust: image.trust,
        engine: catalog.engine.clone(),
        folder: catalog.folder.join(&directory),
        commit: copy::Commit::default(),
    };
    let result = Err(Error::new(Kind::Interrupted, "seed").on(&seed.to).because("it was not begun".to_owned()));
    Entry { seed, directory, is_pinned_late: image.is_pinned_late, result }
}

/// The images of a run, a bounded number of them under way at a time.
#[derive(Debug, Clone, Copy)]
struct Fleet<'a> {
    run: Run<'a>,
    /// For what is said of the run as a whole.
    events: &'a Events,
    halt: &'a watch::Sender<bool>,
    keep_going: bool,
    at_once: usize,
}

impl Fleet<'_> {
    /// Prepares all, then carries all.
    async fn seed(self, mut entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let prepared = entries.iter().enumerate().map(|(at, entry)| self.prepare(at, &entry.seed));
        let mut prepared = self.all(prepared).await?;
        // In the order of the catalog: what its first images bring, the later ones mount.
        prepared.sort_by_key(|(at, _)| *at);
        self.events.send(Event::Planned(Totals::of_all(prepared.iter().filter_map(planned))));
        self.events.send(Event::Stage("copying"));
        let results = self.all(prepared.into_iter().map(|(at, prepared)| self.carry(at, prepared))).await?;
        for (at, result) in results {
            entries[at].result = result;
        }
        Ok(entries)
    }

    /// Runs `work`, a bounded number at a time. Without `keep_going` the first failure halts all others, and is told.
    async fn all<T, F>(self, work: impl Iterator<Item = F> + Send) -> Result<Vec<(usize, Result<T>)>>
    where
        F: Future<Output = (usize, Result<T>)> + Send,
        T: Send,
    {
        let mut work = stream::iter(work).buffer_unordered(self.at_once.max(1));
        let mut results = Vec::new();
        let mut first = None;
        while let Some((at, result)) = work.next().await {
            if let Err(error) = &result
                && !self.keep_going
            {
                first.get_or_insert_with(|| error.clone());
                self.halt.send_replace(true);
            }
            results.push((at, result));
        }
        first.map_or(Ok(results), Err)
    }

    /// Everything that has to be known of an image before the first blob moves.
    async fn prepare<'s>(self, at: usize, seed: &'s Seed) -> (usize, Result<Prepared<'s>>) {
        let prepared = async {
            let mut prepared = Prepared::new(seed, self.run).await?;
            prepared.plan().await?;
            Ok(prepared)
        };
        (at, until(seed, prepared, self.halted()).await.map_err(|error| error.during("seed", &seed.to)))
    }

    async fn carry(self, at: usize, prepared: Result<Prepared<'_>>) -> (usize, Result<Outcome>) {
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return (at, Err(error)),
        };
        let seed = prepared.seed;
        let flow = async { prepared.carry(self.run).await?.finish(self.run).await };
        let result = until(seed, flow, self.halted()).await.map_err(|error| error.during("seed", &seed.to));
        self.tell(seed, &result);
        (at, result)
    }

    fn tell(self, seed: &Seed, result: &Result<Outcome>) {
        let outcome = match result {
            Ok(outcome) if outcome.status == Status::Unchanged => "unchanged",
            Ok(_) => "seeded",
            Err(_) => "failed",
        };
        self.events.send(Event::Image { to: seed.to.to_string(), outcome });
    }

    async fn halted(self) {
        // The sender outlives all work.
        let _ = self.halt.subscribe().wait_for(|is_halted| *is_halted).await;
    }
}

/// An image's plan, with the registry that it is for.
fn planned<'a>((_, prepared): &'a (usize, Result<Prepared<'_>>)) -> Option<(&'a str, &'a Plan)> {
    let prepared = prepared.as_ref().ok()?;
    Some((prepared.seed.to.repository.api_host(), prepared.job.copy.plan.as_deref()?))
}
