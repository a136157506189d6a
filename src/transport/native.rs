//! The engine as a transport.

use async_trait::async_trait;

use super::{Carried, Job, Transport};
use crate::copy::{self, Events};
use crate::error::Result;

/// Streams blobs and manifests from registry to registry in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

#[async_trait]
impl Transport for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    async fn carry(&self, job: &Job, options: &copy::Options, events: &Events) -> Result<Carried> {
        let report = copy::copy(&job.copy, options, events).await?;
        Ok(Carried { engine: self.name(), report })
    }
}
