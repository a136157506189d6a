//! Expands a catalog's entries to images: every selection of tags is resolved once, before anything else.

use std::collections::HashMap;

use crate::document::catalog::{self as document, Destinations};
use crate::error::{Error, Result, Side};
use crate::oci::{Reference, Repository, Tag};
use crate::seed::request::Trust;
use crate::store::{Listing, Registry, Role};
use crate::wire::{Client, Stats};

/// An entry of a catalog, with the demands on its images.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// The source and the destination.
    pub entry: document::Entry,
    /// The demands on each image.
    pub trust: Trust,
}

/// One image, and the entry that chose it.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) from: Reference,
    pub(crate) to: Reference,
    pub(crate) entry: &'a CatalogEntry,
}

/// Returns all images of `entries`, in their order, and the cost of listing tags for them. Lists the tags of each
/// repository once.
///
/// # Errors
///
/// Fails like [`Listing::tags`]; [`NotFound`](crate::Kind::NotFound) if nothing matches; [`Usage`](crate::Kind::Usage) if
/// two images have the same destination.
pub(crate) async fn images<'a>(entries: &'a [CatalogEntry], client: &Client) -> Result<(Vec<Image<'a>>, Stats)> {
    let mut lists = Lists { client, known: HashMap::new(), tally: Stats::default() };
    let mut taken = Destinations::default();
    let mut images = Vec::new();
    for entry in entries {
        for (from, to) in lists.pairs(&entry.entry).await? {
            taken.claim(&to, &entry.entry)?;
            images.push(Image { from, to, entry });
        }
    }
    Ok((images, lists.tally))
}

/// The tags of source repositories, each listed when it is first needed.
struct Lists<'a> {
    client: &'a Client,
    known: HashMap<Repository, Vec<Tag>>,
    tally: Stats,
}

impl Lists<'_> {
    async fn pairs(&mut self, entry: &document::Entry) -> Result<Vec<(Reference, Reference)>> {
        let Some(select) = &entry.select else { return Ok(vec![(entry.from.clone(), entry.destination()?)]) };
        let repository = &entry.from.repository;
        let place = repository.canonical();
        let failed = |error: Error| error.at(Side::Source).during("choose tags", repository);
        if !self.known.contains_key(&place) {
            let registry = Registry::new(self.client, repository, Role::Source);
            let tags = registry.tags().await.map_err(failed)?;
            self.tally.requests += registry.tally().requests;
            self.tally.retries += registry.tally().retries;
            self.known.insert(place.clone(), tags);
        }
        let chosen = select.choose(&self.known[&place]).map_err(failed)?;
        Ok(chosen.iter().map(|tag| entry.chosen(tag)).collect())
    }
}
