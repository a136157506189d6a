//! Platforms: `os/arch[/variant]`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an image runs on. Every field may be missing in the wild; a replicator only shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Operating system in Go's spelling, such as `linux`.
    pub os: String,
    /// Processor in Go's spelling, such as `amd64`.
    pub architecture: String,
    /// Variant of the processor, such as `v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether this names something to run on: attestation entries say `unknown/unknown`, some entries say nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let says = |text: &str| !text.is_empty() && text != "unknown";
        says(&self.os) && says(&self.architecture)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
