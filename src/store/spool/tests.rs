//! A body over a spool: what is fetched, what is kept, and what becomes of files that are not what they should be.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::*;
use crate::oci::{MediaType, Name, Tag};
use crate::store::trail::Trail;
use crate::store::{Body, ByteStream, Put, Root, Store, Want};

const MIB: usize = 1 << 20;

/// Holds one blob, gives it in pieces, and notes from where it was asked for it.
#[derive(Debug)]
struct Source {
    bytes: Bytes,
    asked: Mutex<Vec<u64>>,
    /// Refuses to begin anywhere but at the beginning.
    is_without_ranges: bool,
    /// Ends every stream after this many bytes, and gives nothing more.
    patience: usize,
    /// Bytes that somebody has taken.
    given: Arc<AtomicUsize>,
}

impl Source {
    fn new(bytes: &Bytes) -> Self {
        Self {
            bytes: bytes.clone(),
            asked: Mutex::default(),
            is_without_ranges: false,
            patience: usize::MAX,
            given: Arc::default(),
        }
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Store for Source {
    fn label(&self) -> &str {
        "source"
    }

    async fn resolve(&self, _: &Name, _: Want) -> Result<Root> {
        unreachable!("bodies resolve nothing")
    }

    async fn contains(&self, _: &Descriptor) -> Result<bool> {
        unreachable!("bodies ask for nothing")
    }

    async fn open(&self, _: &Descriptor, from: u64) -> Result<ByteStream> {
        self.asked.lock().unwrap().push(from);
        if self.is_without_ranges && from > 0 {
            return Err(Error::new(Kind::Invalid, "get blob").because("no ranges here"));
        }
        let rest = self.bytes.slice(usize::try_from(from).unwrap()..);
        let given = rest.slice(..rest.len().min(self.patience));
        let pieces: Vec<_> = given.chunks(100_000).map(|piece| Ok(given.slice_ref(piece))).collect();
        let count = Arc::clone(&self.given);
        let stream = stream::iter(pieces).inspect(move |piece: &Result<Bytes>| {
            count.fetch_add(piece.as_ref().unwrap().len(), Ordering::Relaxed);
        });
        if given.len() < rest.len() { Ok(Box::pin(stream.chain(stream::pending()))) } else { Ok(Box::pin(stream)) }
    }

    async fn put(&self, _: &Descriptor, _: &Body, _: &[Tag]) -> Result<Put> {
        unreachable!("nothing is put into a source")
    }

    fn expect(&self, _: usize) {}
}

/// A folder for a spool, and a blob that a source holds.
struct Bed {
    home: tempfile::TempDir,
    bytes: Bytes,
    node: Descriptor,
    source: Arc<Source>,
}

impl Bed {
    fn new(size: usize) -> Self {
        // Different everywhere, so that no byte can stand in for another.
        let bytes: Vec<u8> = (1..=size.div_ceil(8) as u64)
            .flat_map(|n| {
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()
            })
            .take(size)
            .collect();
        let bytes = Bytes::from(bytes);
        let node = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let source = Arc::new(Source::new(&bytes));
        Self { home: tempfile::tempdir().unwrap(), bytes, node, source }
    }

    fn place(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    fn file(&self) -> PathBuf {
        self.place().join(format!("sha256-{}.partial", self.node.digest.hex()))
    }

    async fn spool(&self, max: u64) -> Spool {
        Spool::open(&self.place(), max).await.unwrap()
    }

    async fn body(&self) -> Body {
        self.body_from(&self.source).await
    }

    async fn body_from(&self, source: &Arc<Source>) -> Body {
        Body::stored(self.node.clone(), Arc::clone(source) as _).spooled(&self.spool(1 << 40).await)
    }

    /// A source of the same blob that gives no more than `patience` bytes at a time.
    fn slow(&self, patience: usize) -> Arc<Source> {
        Arc::new(Source { patience, ..Source::new(&self.bytes) })
    }

    /// Puts bytes where the blob's beginning is kept.
    fn leave(&self, bytes: &[u8]) {
        fs::create_dir_all(self.place()).unwrap();
        fs::write(self.file(), bytes).unwrap();
    }

    /// What is kept once nobody holds the file any more: the task that fills it ends a moment after its last reader.
    async fn released(&self) -> usize {
        let file = fs::File::open(self.file()).unwrap();
        while file.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.kept()
    }

    /// What is kept once nothing more is written.
    fn settled(&self) -> usize {
        let mut last = usize::MAX;
        while last != self.kept() {
            last = self.kept();
            std::thread::sleep(Duration::from_millis(100));
        }
        last
    }

    fn kept(&self) -> usize {
        fs::metadata(self.file()).map_or(0, |about| usize::try_from(about.len()).unwrap())
    }
}

/// Reads `count` bytes of a body, or all, and goes away.
async fn read(body: &Body, count: usize) -> Result<Vec<u8>> {
    taken(body.open(), count).await
}

async fn taken(mut stream: ByteStream, count: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count
        && let Some(piece) = stream.next().await
    {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

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
async fn a_file_that_turns_out_wrong_is_thrown_away_and_never_stands_in_the_way() {
    let bed = Bed::new(2 * MIB);
    let mut torn = bed.bytes.to_vec();
    torn[700_000] ^= 1;
    let longer = [&bed.bytes[..], b"more"].concat();
    for (what, left, asked) in
        [("whole", &torn[..], vec![]), ("half", &torn[..MIB], vec![MIB as u64]), ("all zero", &[0; 5], vec![5])]
    {
        bed.leave(left);
        let body = bed.body().await;
        let error = read(&body, usize::MAX).await.err().unwrap();
        assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(crate::Side::Source)), "{what}");
        assert_eq!((bed.kept(), bed.source.asked()), (0, asked), "{what}");
        assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes, "{what}");
        assert_eq!(bed.source.asked(), [0], "{what}");
        body.landed().await;
    }
    bed.leave(&longer);
    assert!(read(&bed.body().await, usize::MAX).await.unwrap() == bed.bytes, "a longer one is not this blob's");
    assert_eq!(bed.source.asked(), [0]);
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

/// A body that a sink has taken 2.5 MiB of, the trail of that, and the spool filled.
async fn broken_off(bed: &Bed) -> (Body, Arc<Trail>) {
    let (body, trail) = (bed.body().await, Arc::default());
    let beginning = taken(body.open_at(0, &trail), 5 * MIB / 2).await.unwrap();
    assert!(beginning.len() < 3 * MIB && bed.bytes.starts_with(&beginning));
    // Whoever goes on fetches the rest, whatever the sink does with it.
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
    // In what the sink has been given already, and behind that.
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn after_a_restart_of_the_machine_what_may_not_have_been_flushed_is_fetched_again() {
    let bed = Bed::new(30 * MIB);
    bed.leave(&bed.bytes[..27 * MIB]);
    fs::File::options()
        .write(true)
        .open(bed.file())
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(20 * 86_400))
        .unwrap();
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let body = bed.body().await;
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    let expected = if up > 20.0 * 86_400.0 { 27 } else { 16 };
    assert_eq!(bed.source.asked(), [expected * MIB as u64]);
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
        // As a SIGKILL at this very moment would leave it.
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
    for _ in 0..11 {
        first.next().await.unwrap().unwrap();
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
async fn manifests_and_what_is_small_or_at_hand_makes_no_files() {
    let bed = Bed::new(MIB - 1);
    let spool = bed.spool(1 << 40).await;
    let manifest = Descriptor::new(MediaType::OCI_MANIFEST, bed.node.digest, 4 * MIB as u64);
    let large = Bytes::from(vec![7; 2 * MIB]);
    for body in [
        Body::stored(bed.node.clone(), Arc::clone(&bed.source) as _),
        Body::stored(manifest, Arc::clone(&bed.source) as _),
        Body::bytes(Descriptor::of(MediaType::OCI_LAYER, &large), large.clone()),
    ] {
        let _ = body.spooled(&spool).open().next().await.unwrap().unwrap();
        assert_eq!(fs::read_dir(bed.place()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_is_found_to_have_landed_before_is_removed_unless_it_is_in_use() {
    let bed = Bed::new(2 * MIB);
    bed.leave(&bed.bytes[..MIB]);
    let user = fs::File::open(bed.file()).unwrap();
    user.lock().unwrap();
    bed.body().await.landed().await;
    assert_eq!(bed.kept(), MIB);
    drop(user);
    bed.body().await.landed().await;
    assert!(!bed.file().exists());
}

/// What lies in the file's place is neither followed nor touched, and the blob comes all the same.
#[cfg(unix)]
#[tokio::test]
async fn links_folders_and_pipes_under_the_name_of_a_file_are_left_alone() {
    let lie = |bed: &Bed, what: &str| {
        let treasure = bed.home.path().join("treasure");
        fs::write(&treasure, "precious").unwrap();
        fs::create_dir_all(bed.place()).unwrap();
        match what {
            "link" => std::os::unix::fs::symlink(&treasure, bed.file()).unwrap(),
            "link to nothing" => std::os::unix::fs::symlink(bed.home.path().join("none"), bed.file()).unwrap(),
            "second name" => fs::hard_link(&treasure, bed.file()).unwrap(),
            "folder" => fs::create_dir(bed.file()).unwrap(),
            _ => assert!(std::process::Command::new("mkfifo").arg(bed.file()).status().unwrap().success()),
        }
        treasure
    };
    for what in ["link", "link to nothing", "second name", "folder", "pipe"] {
        let bed = Bed::new(2 * MIB);
        let treasure = lie(&bed, what);
        let before = bed.file().symlink_metadata().unwrap();
        let body = Body::stored(bed.node.clone(), Arc::clone(&bed.source) as _).spooled(&bed.spool(1).await);
        assert!(
            tokio::time::timeout(Duration::from_secs(20), read(&body, usize::MAX)).await.unwrap().unwrap() == bed.bytes
        );
        body.landed().await;
        assert_eq!(fs::read_to_string(treasure).unwrap(), "precious", "{what}");
        assert!(!bed.home.path().join("none").exists(), "{what}");
        let after = bed.file().symlink_metadata().unwrap();
        assert_eq!((before.file_type(), before.len()), (after.file_type(), after.len()), "{what}");
    }
}

/// Puts a file of ours there that was used so many days ago.
fn used_before(place: &Path, content: u8, bytes: usize, days: u64) -> PathBuf {
    fs::create_dir_all(place).unwrap();
    let path = place.join(format!("sha256-{}.partial", Digest::sha256(&[content]).hex()));
    fs::write(&path, vec![content; bytes]).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    path
}

#[tokio::test]
async fn what_is_old_goes_and_of_too_much_the_longest_unused_and_nothing_that_is_in_use_or_not_ours() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path();
    let old = used_before(place, 0, 10, 31);
    let busy = used_before(place, 1, 1000, 29);
    let [longest, longer, recent] =
        [(2, 3), (3, 2), (4, 1)].map(|(content, days)| used_before(place, content, 1000, days));
    let foreign = ["sha256-12.partial", "notes.txt", "sha256-.partial", &format!("md5-{}.partial", "0".repeat(64))];
    for name in foreign {
        fs::write(place.join(name), vec![0; 5000]).unwrap();
    }
    let user = fs::File::open(&busy).unwrap();
    user.lock().unwrap();

    let spool = Spool::open(place, 1 << 40).await.unwrap();
    assert!(!old.exists() && [&busy, &longest, &longer, &recent].iter().all(|path| path.exists()));
    assert!(spool.folder.take(10));
    assert!(longest.exists(), "there is room");
    Spool::open(place, 3000).await.unwrap();
    assert!(!longest.exists() && busy.exists() && longer.exists() && recent.exists());
    let spool = Spool::open(place, 3500).await.unwrap();
    assert!(spool.folder.take(1000), "one goes for it");
    assert!(!longer.exists() && recent.exists());
    assert!(!spool.folder.take(3000) && !recent.exists(), "what is in use stays, and is too much");
    assert!(busy.exists() && foreign.iter().all(|name| place.join(name).exists()));
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

#[cfg(unix)]
#[tokio::test]
async fn folder_and_files_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new(2 * MIB);
    let body = bed.body().await;
    read(&body, usize::MAX).await.unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(bed.place()), mode(bed.file())), (0o700, 0o600));
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_a_usage_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("below")] {
        let error = Spool::open(&place, 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{}", error.chain());
        assert!(error.chain().contains("--spool") && error.chain().contains(place.to_str().unwrap()));
    }
}
