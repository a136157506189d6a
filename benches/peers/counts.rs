//! Expected requests of the smoke run: the minimum, and the additional ones of autonomy.

use testkit::registry::Kind;

use crate::plan;
use crate::record::Record;
use crate::workload::{Transport, Workload};

/// One run's requests: at the source, at the destination.
type Requests = [u64; 2];

/// Compares the proxies' counts on `workload` with the expected ones.
///
/// # Panics
///
/// Panics if there was one request more, or one less.
pub(crate) fn check(workload: &Workload, from: Kind, records: &[&Record]) {
    let name = &workload.name;
    let fewest = plan::plan(workload).iter().fold([0, 0], |sum: Requests, task| add(sum, task.verb.requests()));
    assert_eq!(fewest, bound(workload), "the plan of {name}");
    // The bound runs without TLS everywhere.
    assert_eq!(counted(records, "bound"), Some(fewest), "the bound on {name}");
    if workload.transport == Transport::Tls {
        assert_eq!(counted(records, "autonomy"), None, "nobody reads what is encrypted: {name}");
        for record in records.iter().filter(|record| record.round == 0) {
            let sides = [&record.source, &record.destination];
            let connections = sides.map(|side| side.as_ref().map_or(0, |traffic| traffic.connections));
            assert!(connections.iter().all(|count| *count > 0), "{connections:?} by {} on {name}", record.tool);
        }
        return;
    }
    let own = add(fewest, more(workload));
    assert_eq!(counted(records, "autonomy"), Some(own), "autonomy on {name}");
    // The embedded registry has the Referrers API, so its count differs.
    if workload.link.is_near() && from == Kind::Distribution2 {
        assert_eq!(
            counted(records, "autonomy-defaults"),
            Some(add(own, accessories(workload))),
            "by default on {name}"
        );
    }
}

/// The minimum, by hand.
fn bound(workload: &Workload) -> Requests {
    let images = workload.entries.len() as u64;
    match workload.name.as_str() {
        // 27 blobs and 4 manifests.
        "W1" | "W1t" => [31, 58],
        // 123 blobs and 4 manifests.
        "W2" | "W2t" => [127, 250],
        // 6 blobs and 4 manifests.
        "W4" => [10, 16],
        // 2 own layers and a configuration a platform, 6 of the base, 4 manifests.
        "W5" => [6 + images * (9 + 4), 2 * (6 + 9 * images) + 6 * (images - 1) + 4 * images],
        // 6 own layers and a configuration, 6 of the base, a manifest.
        "W11" => [6 + images * (7 + 1), 2 * (6 + 7 * images) + 6 * (images - 1) + images],
        _ => [images, images],
    }
}

/// Requests by which autonomy finds out what the bound is given: without verification and accessories.
fn more(workload: &Workload) -> Requests {
    match workload.name.as_str() {
        // The root of the destination's tag.
        "W1" | "W2" => [0, 1],
        // That, and each of the 21 old layers once: the bound knows that they are there, and no other request shows it. The
        // tag is new, and autonomy does not know of the older one beside it.
        "W4" => [0, 1 + 21],
        // The tag of each image. No shared blob is looked up or fetched twice.
        "W5" | "W11" => [0, workload.entries.len() as u64],
        // The record names the platform, which for an image without an index only its configuration contains; where the
        // folder has the last record it is not read again.
        "W11n" => [workload.entries.len() as u64, 0],
        // An unchanged image costs one request a side, as with the bound.
        _ => [0, 0],
    }
}

/// Additional requests for accessories: one per registry for the Referrers API (2.8.2 does not have it), and the tag list
/// of each repository. Without accessories there is no request to the destination.
fn accessories(workload: &Workload) -> Requests {
    [1 + workload.entries.len() as u64, 0]
}

fn counted(records: &[&Record], tool: &str) -> Option<Requests> {
    let record = records.iter().find(|record| record.tool == tool && record.round == 0)?;
    Some([record.source.as_ref()?.all_requests()?, record.destination.as_ref()?.all_requests()?])
}

fn add(one: Requests, other: Requests) -> Requests {
    [one[0] + other[0], one[1] + other[1]]
}
