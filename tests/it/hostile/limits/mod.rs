//! Limits hold: oversized signatures, lists, documents and archives are refused after few requests and few bytes, in little
//! memory.
//!
//! Runs the real program against a registry that generates its bodies while sending. The registry counts requests and
//! bytes, the kernel counts memory; times are printed and never asserted. `--nocapture` shows the table.

mod archive;
mod attached;
mod nested;

use std::time::Instant;

use autonomy_registry::oci::Descriptor;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::verify::SidecarKind;

use crate::kit::bundle_bed::{BundleBed, Signed, VERSION, policy_bundle};
use crate::kit::command::text;
use crate::kit::resident::{self, MAX_RESIDENT};

/// Bytes a connection holds before the receiver reads anything: the kernel's buffers and the server's. A sender only stops
/// once they are full.
const IN_FLIGHT: u64 = 12 << 20;

/// A case, its expected end, and its allowed requests.
struct Bound {
    what: &'static str,
    code: i32,
    says: &'static str,
    /// Most requests at the source.
    requests: usize,
    /// Most bytes that the source sends.
    bytes: u64,
}

/// A sealed release at a source; each case replaces a part with something too large or too many.
async fn sealed() -> BundleBed {
    let bed = BundleBed::bare().await;
    let policy = policy_bundle(VERSION);
    bed.sidecar(SidecarKind::Lock, &bed.lock(&policy).to_bytes(), Signed::Yes).await;
    bed.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;
    bed.sign(&bed.image).await;
    bed
}

/// Seeds the content of `bed` into a fresh registry, and asserts that the run stays within `bound`.
async fn hold(bed: &BundleBed, bound: Bound) {
    let Bound { what, code, says, requests, bytes } = bound;
    let (sink, out) = (Testbed::start().await, bed.file("out"));
    bed.bed.clear_log();
    let to = format!("{}/robot:v1", sink.host());
    let begun = Instant::now();
    let flags = ["--copy-policy", "--pub-key", &bed.public_key()];
    let (done, resident) = resident::seed(&bed.reference(), &to, &out, &flags).await;
    let took = begun.elapsed().as_millis();
    let log = bed.bed.log();
    let (asked, sent) = (log.len(), log.iter().map(|seen| seen.bytes_out).sum::<u64>());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    #[expect(clippy::print_stdout, reason = "the figures, for who asks for them")]
    {
        let (held, sent) = (mib(resident), mib(sent));
        println!(
            "| {what:<62} | {code} | {held:>5.1} MiB | {asked:>4} requests | {sent:>6.2} MiB sent | {took:>5} ms |"
        );
    }
    let said = text(&done);
    assert_eq!(done.status.code(), Some(code), "{what}: {said}");
    assert!(said.contains(says), "{what}: {says:?} in {said}");
    assert!(resident < MAX_RESIDENT, "{what}: {resident} bytes");
    assert!(resident > 0 || !cfg!(target_os = "linux"), "{what}: nothing was measured");
    assert!(asked <= requests, "{what}: {asked} requests, {requests} are allowed");
    assert!(sent <= bytes, "{what}: {sent} bytes, {bytes} are allowed");
    let written = sink.log().into_iter().find(|seen| !["GET", "HEAD"].contains(&seen.method.as_str()));
    assert_eq!((written, out.exists()), (None, false), "{what}");
}

/// An endless body, or one of `total` bytes with a content length.
fn pour(head: &'static str, unit: &'static str, total: Option<u64>) -> What {
    What::Pour {
        head: head.into(),
        unit: unit.into(),
        total: total.unwrap_or(u64::MAX),
        is_length_told: total.is_some(),
    }
}

/// Every request for a manifest whose path contains `at`.
fn manifest(at: &str, what: What) -> Fault {
    Fault::always(Kind::ManifestGet, what).at(at)
}

/// A manifest in the place of the one under `at`.
fn served(at: &str, text: String) -> Fault {
    manifest(at, What::Serve { media_type: "application/vnd.oci.image.manifest.v1+json", bytes: text.into() })
}

fn blob(at: &Descriptor, what: What) -> Fault {
    Fault::always(Kind::BlobGet, what).at(at.digest.to_string())
}
