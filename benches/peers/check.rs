//! Checks a destination: every tag, manifest and blob of a workload is there, by name and length.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::connection::Connection;

use crate::bound::ACCEPT;
use crate::workload::Workload;

/// Connections of the check.
const STREAMS: usize = 4;

/// One required thing: path, digest, length.
type Claim = (String, String, u64);

/// Requests all of `workload` from `host`.
///
/// # Errors
///
/// The first thing that is missing or wrong.
pub(crate) fn check(host: &str, workload: &Workload) -> Result<(), String> {
    let claims = claims(workload);
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..STREAMS.min(claims.len()) {
            scope.spawn(|| {
                if let Err(why) = ask(host, &claims, &next) {
                    // Stops the other threads.
                    next.store(claims.len(), Ordering::Relaxed);
                    wrong.lock().unwrap().get_or_insert(why);
                }
            });
        }
    });
    wrong.into_inner().unwrap().map_or(Ok(()), Err)
}

fn claims(workload: &Workload) -> Vec<Claim> {
    let mut claims = Vec::new();
    for entry in &workload.entries {
        let (repository, root) = (&entry.repository, entry.image.root());
        claims.push((format!("/v2/{repository}/manifests/{}", entry.tag), root.digest.to_string(), root.size));
        for node in &entry.image.nodes {
            let kind = if node.descriptor.is_manifest() { "manifests" } else { "blobs" };
            let digest = node.descriptor.digest.to_string();
            claims.push((format!("/v2/{repository}/{kind}/{digest}"), digest, node.descriptor.size));
        }
    }
    claims
}

fn ask(host: &str, claims: &[Claim], next: &AtomicUsize) -> Result<(), String> {
    let broken = |error: io::Error| format!("cannot ask the destination: {error}");
    let mut connection = Connection::open(host).map_err(broken)?;
    while let Some((path, digest, size)) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
        connection.begin("HEAD", path, ACCEPT).map_err(broken)?;
        let answer = connection.answer("HEAD").map_err(broken)?;
        let is_right = answer.status == 200 && answer.length == *size && answer.digest.as_ref() == Some(digest);
        if !is_right {
            return Err(format!("{path} should be {digest} of {size} bytes, is {answer:?}"));
        }
    }
    Ok(())
}
