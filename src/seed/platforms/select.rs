//! Selects the platforms of the image to copy: at the source, after it is approved and before anything moves.

use super::rewrite_index;
use crate::copy::{self, Selection};
use crate::error::{Error, Result, Side};
use crate::oci::Platform;
use crate::seed::endpoints::Endpoints;
use crate::seed::record::Record;
use crate::seed::request::{IndexHandling, Seed};
use crate::seed::resolve::Resolved;

/// Selects the platforms, and returns those that the record will name. Selects all if none is requested.
///
/// # Errors
///
/// [`NotFound`](crate::Kind::NotFound) for a platform that the source does not have. Also fails if indexes or the
/// configuration of a single image cannot be read.
pub(crate) async fn choose(
    seed: &Seed,
    ends: &Endpoints,
    record: &Record,
    found: &mut Resolved,
) -> Result<Vec<String>> {
    let failed = |error: Error| error.at(Side::Source);
    if seed.scope.platforms.is_empty() {
        return everything(ends, record, found).await.map_err(failed);
    }
    let missing = |error: Error| match error.kind() {
        crate::Kind::NotFound => error.during("seed", &seed.from).hint("ask for platforms that the image has"),
        _ => error,
    };
    let platforms = match found.root.node.media_type.is_index() {
        true => some(seed, ends, found).await,
        false => single(seed, ends, found).await,
    };
    let platforms = platforms.map_err(failed).map_err(missing)?;
    Ok(platforms.iter().map(super::told).collect())
}

/// Selects all platforms. For an unchanged single image it takes them from the last record, if there is one: that saves
/// the request for a configuration that nothing else needs. An index lists them itself; if the last record names others,
/// the destination does not hold everything that the index lists.
async fn everything(ends: &Endpoints, record: &Record, found: &mut Resolved) -> Result<Vec<String>> {
    let digest = found.root.node.digest;
    let recorded = record.former().filter(|former| found.is_unchanged() && former.dest_digest == digest);
    match recorded {
        Some(recorded) if !found.root.node.media_type.is_index() => Ok(recorded.platforms),
        recorded => {
            let source = ends.source.as_ref();
            let platforms = super::platforms(&found.root, source).await?;
            if recorded.is_some_and(|recorded| recorded.platforms != platforms) {
                found.selection = Selection::choose(source, &found.root, &[]).await?.selection;
            }
            Ok(platforms)
        }
    }
}

async fn some(seed: &Seed, ends: &Endpoints, found: &mut Resolved) -> Result<Vec<Platform>> {
    let chosen = Selection::choose(ends.source.as_ref(), &found.root, &seed.scope.platforms).await?;
    found.selection = chosen.selection.clone();
    if let IndexHandling::Rewrite(_) = seed.scope.index {
        rewrite_index::rewrite(ends.source.as_ref(), found, &chosen).await?;
    }
    Ok(chosen.platforms)
}

/// Checks that a single image has every platform requested: there is nothing to leave out.
async fn single(seed: &Seed, ends: &Endpoints, found: &mut Resolved) -> Result<Vec<Platform>> {
    let platforms = super::runs_on(&found.root, ends.source.as_ref()).await?;
    let is_there = |wanted: &&Platform| platforms.iter().any(|platform| platform.answers(wanted));
    let missing: Vec<_> = seed.scope.platforms.iter().filter(|wanted| !is_there(wanted)).collect();
    if !missing.is_empty() {
        return Err(copy::absent(&missing, &platforms));
    }
    if let IndexHandling::Rewrite(_) = seed.scope.index {
        found.original = Some(found.root.clone());
    }
    Ok(platforms)
}
