//! skopeo as a transport: skopeo copies the image, our own engine its accessories.

use std::sync::Arc;

use async_trait::async_trait;

use super::{End, Skopeo};
use crate::copy::{self, CopyReport, Events, PlanTotals, Presence, Target};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::transport::{Carried, Job, Location, Transport};

#[async_trait]
impl Transport for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    async fn carry(&self, job: &Job, options: &copy::Options, events: &Events) -> Result<Carried> {
        if job.copy.selection.is_partial() {
            let why = "skopeo copies all platforms or one, and keeps the index only with all";
            let error = Error::new(Kind::Unsupported, "copy some platforms with skopeo").on(&job.from.repository);
            return Err(error.because(why).hint("use --transport native"));
        }
        let mut rest = job.copy.clone();
        // A job checks its image against its approval when it is made, so there is a first target.
        let image = rest.targets.remove(0);
        let mut counted = PlanTotals::default();
        let is_there = image.former.as_ref().is_some_and(|former| former.digest == image.node.digest);
        if !is_there || options.presence != Presence::Vouched {
            let from = end(&job.from, job.from.repository.pinned(image.node.digest));
            let to = &job.to.repository;
            counted = expected(&rest, &image, options).await;
            self.copy(&from, &end(&job.to, to.pinned(image.node.digest))).await?;
            for tag in &image.tags {
                let mut watched = rest.watched.iter();
                let watch = watched.find(|watch| watch.node == image.node.digest && watch.tag == *tag);
                if let Some(watch) = watch
                    && watch.has_moved(rest.sink.as_ref()).await?
                {
                    continue;
                }
                rest.commit.begin();
                self.copy(&from, &end(&job.to, to.tagged(tag))).await?;
            }
        }
        let report = counting(copy::copy(&rest, options, events).await?, &counted);
        Ok(Carried { engine: self.name(), report })
    }
}

/// Returns what skopeo will move, by our own plan of the image: skopeo does not report its counts. Nothing if the image
/// cannot be planned: skopeo may copy it all the same.
async fn expected(job: &copy::Job, image: &Target, options: &copy::Options) -> PlanTotals {
    let alone = copy::Job::new(Arc::clone(&job.source), Arc::clone(&job.sink), vec![image.clone()]);
    copy::plan(&alone, options).await.map(|plan| plan.totals).unwrap_or_default()
}

/// Adds the counts of the image to those of the rest.
fn counting(mut report: CopyReport, image: &PlanTotals) -> CopyReport {
    report.manifests += image.manifests;
    report.blobs += image.blobs;
    report.blobs_moved += image.blobs_to_put;
    report.bytes_moved += image.bytes_to_move;
    report.bytes_present += image.bytes_present;
    report.bytes_mounted += image.bytes_mountable;
    report
}

fn end(place: &Location, reference: Reference) -> End {
    End { reference, scheme: place.scheme }
}
