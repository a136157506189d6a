//! Uploads that continue in the middle: fed from the spool, but not with bytes that changed there.

use super::*;
use crate::store::body::checkpoints::Checkpoints;

/// Returns a body of which a sink has taken 2.5 MiB, its checkpoints, and a filled spool.
async fn broken_off(bed: &Bed) -> (Body, Arc<Checkpoints>) {
    let (body, trail) = (bed.body().await, Arc::default());
    let beginning = taken(body.open_at(0, &trail), 5 * MIB / 2).await.unwrap();
    assert!(beginning.len() < 3 * MIB && bed.bytes.starts_with(&beginning));
    // The filling task fetches the rest, whatever the sink does with it.
    assert_eq!(bed.settled(), bed.bytes.len());
    assert_eq!(bed.source.asked(), [0]);
    (body, trail)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_goes_on_in_the_middle_is_fed_from_the_spool() {
    let bed = Bed::new(4 * MIB);
    let (body, trail) = broken_off(&bed).await;
    for from in [5 * MIB / 2, 2 * MIB, 4 * MIB - 1, 7, 0] {
        let spooled = body.meter().spooled();
        let rest = taken(body.open_at(from as u64, &trail), usize::MAX).await.unwrap();
        assert!(rest == bed.bytes[from..], "from {from}");
        let spooled = body.meter().spooled() - spooled;
        assert!(spooled >= rest.len() as u64, "{spooled} of {} bytes from the spool, from {from}", rest.len());
    }
    assert!(bed.source.asked().is_empty(), "the source has given everything once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_changes_before_an_upload_goes_on_is_found_out_and_thrown_away() {
    // In the bytes that the sink already has, and after them.
    for at in [5 * MIB / 2 - 9, 3 * MIB] {
        let bed = Bed::new(4 * MIB);
        let (body, trail) = broken_off(&bed).await;
        let mut changed = bed.bytes.to_vec();
        changed[at] ^= 1;
        fs::write(bed.file(), &changed).unwrap();
        let from = 5 * MIB as u64 / 2 - 10;
        let error = taken(body.open_at(from, &trail), usize::MAX).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{}", error.chain());
        assert_eq!((bed.kept(), bed.source.asked()), (0, vec![]), "changed at {at}");
        assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes, "changed at {at}");
        assert_eq!(bed.source.asked(), [0], "changed at {at}");
    }
}
