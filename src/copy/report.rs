//! The result of a copy.

use serde::Serialize;

use super::Slim;
use crate::store::Put;

/// Counts of one copy. Bytes are those of nodes, without protocol overhead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Manifests in the graph.
    pub manifests: u64,
    /// Blobs in the graph.
    pub blobs: u64,
    /// Blobs whose bytes were sent.
    pub blobs_moved: u64,
    /// Bytes of blobs and manifests that were sent.
    pub bytes_moved: u64,
    /// Bytes of nodes that the sink held already.
    pub bytes_present: u64,
    /// Bytes of blobs that the sink mounted from another of its repositories.
    pub bytes_mounted: u64,
    /// Blobs that the sink mounted from another of its repositories.
    pub blobs_mounted: u64,
    /// Foreign layers that the source does not serve.
    pub foreign_left_out: u64,
    /// Bytes that came from the spool and not from the source.
    pub bytes_spooled: u64,
    /// Bytes of nodes at the sink that were only compared by length, when every node is checked.
    pub bytes_not_read_back: u64,
}

impl CopyReport {
    /// Returns whether the sink held everything already.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        (self.bytes_moved, self.blobs_moved, self.blobs_mounted) == (0, 0, 0)
    }

    pub(super) fn add(&mut self, node: &Slim, put: Put) {
        match put {
            Put::Present => self.bytes_present += node.size,
            Put::Mounted => {
                self.bytes_mounted += node.size;
                self.blobs_mounted += 1;
            }
            Put::Sent(bytes) => {
                self.bytes_moved += bytes;
                self.blobs_moved += u64::from(!node.is_manifest());
            }
        }
    }
}
