//! Counters for Prometheus (text format 0.0.4).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Method, StatusCode};

use crate::disk::DiskSpace;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters since the server started.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    /// Content bytes received: blobs and manifests.
    pub(crate) bytes_in: AtomicU64,
    /// Content bytes sent.
    pub(crate) bytes_out: AtomicU64,
    /// Requests refused because user and password were missing or wrong.
    refused: AtomicU64,
    /// Number of open connections.
    pub(crate) connections: Arc<AtomicU64>,
}

/// Figures of the content at one moment; None where they cannot be had.
#[derive(Debug, Default)]
pub(crate) struct StoredContent {
    pub(crate) repositories: Option<u64>,
    /// The space on the file system of the content.
    pub(crate) disk: Option<DiskSpace>,
}

impl Metrics {
    pub(crate) fn answered(&self, method: &Method, status: StatusCode) {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[method][class].fetch_add(1, Ordering::Relaxed);
        if status == StatusCode::UNAUTHORIZED {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn text(&self, uploads: usize, stored: &StoredContent) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let mut requests = Vec::new();
        for (method, counts) in METHODS.iter().zip(&self.requests) {
            for (class, count) in CLASSES.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    requests.push((format!("{{method=\"{method}\",status=\"{class}\"}}"), count));
                }
            }
        }
        family("autonomy_registry_requests_total", "counter", "Requests answered.", &requests);
        let one = |value| [(String::new(), value)];
        let bytes_in = one(self.bytes_in.load(Ordering::Relaxed));
        family("autonomy_registry_received_bytes_total", "counter", "Content bytes taken in.", &bytes_in);
        let bytes_out = one(self.bytes_out.load(Ordering::Relaxed));
        family("autonomy_registry_sent_bytes_total", "counter", "Content bytes handed out.", &bytes_out);
        let refused = one(self.refused.load(Ordering::Relaxed));
        family("autonomy_registry_unauthorized_total", "counter", "Requests without a right login.", &refused);
        let connections = one(self.connections.load(Ordering::Relaxed));
        family("autonomy_registry_connections", "gauge", "Connections open.", &connections);
        family("autonomy_registry_uploads", "gauge", "Uploads in progress.", &one(uploads as u64));
        if let Some(count) = stored.repositories {
            family("autonomy_registry_repositories", "gauge", "Repositories.", &one(count));
        }
        if let Some(DiskSpace { free, size }) = stored.disk {
            let help = "Bytes free on the file system of the data folder.";
            family("autonomy_registry_disk_free_bytes", "gauge", help, &one(free));
            let help = "Bytes of the file system of the data folder.";
            family("autonomy_registry_disk_size_bytes", "gauge", help, &one(size));
        }
        text
    }
}
