//! Downloads: how much is kept while they run, and which part of a blob is fetched again.

use super::*;

#[tokio::test]
async fn what_was_fetched_is_kept_until_it_has_landed_and_fetched_once() {
    let bed = Bed::new(3 * MIB);
    let slow = bed.slow(1_100_000);
    let body = bed.body_from(&slow).await;
    assert_eq!(read(&body, 1_100_000).await.unwrap().len(), 1_100_000);
    drop(body);
    let kept = bed.released().await;
    assert!(1_100_000 - kept <= MIB / 2, "of a run that is stopped {kept} bytes are left");
    assert_eq!(slow.asked(), [0]);

    let body = bed.body().await;
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    let kept = kept as u64;
    assert_eq!((bed.source.asked(), body.meter().spooled()), (vec![kept], kept));
    // The sink has broken: everything comes from the disk.
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert_eq!((bed.source.asked(), body.meter().spooled()), (vec![], kept + 3 * MIB as u64));

    assert_eq!(bed.settled(), 3 * MIB);
    body.landed().await;
    assert!(!bed.file().exists());
}

/// As when a destination refuses the blob in the middle: the rest will not be read.
#[tokio::test(start_paused = true)]
async fn a_source_is_asked_for_nothing_more_once_its_sink_has_failed() {
    let bed = Bed::new(4 * MIB);
    let source = Arc::new(Source { pause: Duration::from_secs(1), ..Source::new(&bed.bytes) });
    let body = bed.body_from(&source).await;
    read(&body, 300_000).await.unwrap();
    drop(body);
    let given = source.given.load(Ordering::Relaxed);
    // Longer than the whole blob would take.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(source.given.load(Ordering::Relaxed) <= given + 100_000, "a piece that was on its way at most");
    assert_eq!(Arc::strong_count(&source), 1, "nobody holds the source any more");
}

#[tokio::test]
async fn a_sink_that_takes_nothing_does_not_hold_the_source_up() {
    let bed = Bed::new(20 * MIB);
    let body = bed.body().await;
    let mut stream = body.open();
    stream.next().await.unwrap().unwrap();
    for _ in 0..1000 {
        if bed.kept() == 20 * MIB {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bed.kept(), 20 * MIB);
    drop(stream);
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert_eq!(bed.source.asked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stays_away_is_given_up_however_much_is_kept() {
    let bed = Bed::new(8 * MIB);
    bed.leave(&bed.bytes[..6 * MIB]);
    let begun = tokio::time::Instant::now();
    let silent = bed.slow(0);
    let error = read(&bed.body_from(&silent).await, usize::MAX).await.err().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Unavailable, Some(crate::Side::Source)));
    assert_eq!(silent.asked(), [6 * MIB as u64; 5]);
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    assert_eq!(bed.kept(), 6 * MIB);
}

#[tokio::test]
async fn a_pass_that_stands_still_while_the_next_one_runs_spoils_nothing() {
    let bed = Bed::new(4 * MIB);
    let body = bed.body().await;
    let mut first = body.open();
    first.next().await.unwrap().unwrap();
    let mut second = body.open();
    second.next().await.unwrap().unwrap();
    for _ in 0..9 {
        first.next().await.unwrap().unwrap();
        second.next().await.unwrap().unwrap();
    }
    drop(first);
    while let Some(piece) = second.next().await {
        piece.unwrap();
    }
    assert_eq!(bed.source.asked()[0], 0);
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert!(bed.source.asked().is_empty());
}

#[tokio::test]
async fn a_source_without_ranges_is_read_from_its_beginning() {
    let mut bed = Bed::new(2 * MIB);
    bed.source = Arc::new(Source { is_without_ranges: true, ..Source::new(&bed.bytes) });
    bed.leave(&bed.bytes[..MIB]);
    let body = bed.body().await;
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert_eq!(bed.source.asked(), [MIB as u64, 0]);
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert!(bed.source.asked().is_empty(), "the spool was filled all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_mebibyte_of_what_has_come_is_not_yet_written() {
    let bed = Bed::new(40 * MIB);
    let body = bed.body().await;
    let mut stream = body.open();
    let mut most = 0;
    while bed.kept() < 40 * MIB {
        if let Some(piece) = stream.next().await {
            piece.unwrap();
        }
        let given = bed.source.given.load(Ordering::Relaxed);
        // As a SIGKILL at this moment would leave it.
        most = most.max(given.saturating_sub(bed.kept()));
    }
    assert!((1..=MIB).contains(&most), "{most}");
}

#[tokio::test]
async fn of_two_at_work_on_one_blob_one_writes_and_the_other_reads_what_is_there() {
    let bed = Bed::new(3 * MIB);
    let slow = bed.slow(1_100_000);
    let (ours, theirs) = (bed.body_from(&slow).await, bed.body().await);
    let mut first = ours.open();
    let mut taken = 0;
    // Pieces that were written together are read together, so their number is not certain.
    while taken < 1_100_000 {
        taken += first.next().await.unwrap().unwrap().len();
    }
    let kept = bed.settled();
    assert!(read(&theirs, usize::MAX).await.unwrap() == bed.bytes);
    assert_eq!((bed.source.asked(), theirs.meter().spooled()), (vec![kept as u64], kept as u64));
    theirs.landed().await;
    assert_eq!(bed.settled(), kept, "what another one is working on stays, as it is");
    ours.landed().await;
    assert!(!bed.file().exists());
}

#[tokio::test]
async fn a_blob_that_does_not_fit_comes_all_the_same_and_its_beginning_is_kept() {
    let bed = Bed::new(6 * MIB);
    let spool = bed.spool(2 * MIB as u64).await;
    let body = Body::stored(bed.node.clone(), Arc::clone(&bed.source) as _).spooled(&spool);
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    let kept = bed.kept();
    assert!((MIB..=2 * MIB).contains(&kept), "{kept}");
    assert_eq!(bed.source.asked(), [0, kept as u64]);
    assert!(bed.bytes.starts_with(&fs::read(bed.file()).unwrap()));
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    assert_eq!(bed.source.asked(), [kept as u64]);
}
