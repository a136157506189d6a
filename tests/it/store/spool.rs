//! `--spool`, the whole program: killed, with a full disk, shared, and over a folder with foreign files.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::oci::{Descriptor, Digest, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::Store;
use serde_json::Value;
use testkit::images::shape::{self, Image};
use testkit::link::Link;
use tokio::process::{Child, Command};

use crate::kit::command::{assert_code, publisher, text};

const MIB: u64 = 1 << 20;
/// Longest time for any step.
const PATIENCE: Duration = Duration::from_secs(120);

/// A source behind a link, a site, an image, and a folder for the spool.
struct Bed {
    source: Testbed,
    link: Link,
    sink: Testbed,
    image: Image,
    home: tempfile::TempDir,
}

impl Bed {
    /// Two platforms with layers of these sizes, in MiB, over a link of this many MiB a second.
    async fn new(mib: &[u64], mib_per_second: u64) -> Self {
        // A sink whose broken uploads begin anew: resumed ones read less from the spool.
        let (source, sink) = (Testbed::start().await, Testbed::with(Profile::distribution_2()).await);
        let sizes: Vec<_> = mib.iter().map(|mib| mib * MIB).collect();
        let image = shape::two_platforms(1, &sizes);
        image.put(&publisher(&source, "app"), &["v1".parse().unwrap()]).await;
        source.clear_log();
        let link = Link::to(source.host(), mib_per_second * MIB);
        Self { source, link, sink, image, home: tempfile::tempdir().unwrap() }
    }

    fn spool(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    /// The files in the spool, largest first.
    fn kept(&self) -> Vec<(u64, PathBuf)> {
        let Ok(found) = std::fs::read_dir(self.spool()) else { return Vec::new() };
        let mut found: Vec<_> = found
            .map(|found| found.unwrap().path())
            .map(|path| (path.symlink_metadata().unwrap().len(), path))
            .collect();
        found.sort();
        found.reverse();
        found
    }

    /// The arguments of a seed to `sink`.
    fn arguments(&self, sink: &Testbed, more: &[&str]) -> Vec<String> {
        let (from, to) = (format!("{}/app:v1", self.link.host), format!("{}/site/app:v1", sink.host()));
        let (out, spool) = (self.home.path().join("out"), self.spool());
        let fixed = [
            "registry",
            "seed",
            "--allow-insecure-registry",
            "--skip-verify",
            "--accessories=none",
            "-q",
            "--output=json",
        ];
        let places = ["--from", &from, "--to", &to, "--out", out.to_str().unwrap(), "--spool", spool.to_str().unwrap()];
        fixed.iter().chain(&places).chain(more).map(|&argument| argument.to_owned()).collect()
    }

    fn start(&self, sink: &Testbed, more: &[&str]) -> Child {
        run(Command::new(PROGRAM).args(self.arguments(sink, more)))
    }

    async fn seed(&self, more: &[&str]) -> Output {
        self.start(&self.sink, more).wait_with_output().await.unwrap()
    }

    /// Waits until this many bytes came over the link, or the program has ended by itself.
    async fn delivered(&self, bytes: u64, running: &mut Child) {
        let begun = Instant::now();
        while self.link.delivered() < bytes && running.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the seed stands still");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The start offsets of resumed downloads.
    fn starts(&self) -> Vec<u64> {
        let ranges = self.source.log().into_iter().filter_map(|seen| seen.range);
        ranges.map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()).collect()
    }

    /// Ranges requested for a blob.
    fn ranges(&self, digest: &Digest) -> Vec<Option<String>> {
        let log = self.source.log();
        let of_it = log.iter().filter(|seen| seen.kind == Kind::BlobGet && seen.path.ends_with(&digest.to_string()));
        of_it.map(|seen| seen.range.clone()).collect()
    }

    async fn assert_arrived(&self, sink: &Testbed) {
        let layout = sink.layout("site/app");
        let root = layout.resolve(&Name::Tag("v1".parse().unwrap())).await.unwrap();
        assert_eq!(root.digest, self.image.root.digest);
        for node in &self.image.nodes {
            assert!(layout.contains(node).await.unwrap(), "{}", node.digest);
        }
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_autonomy");

/// Starts a command, which is killed when it is dropped.
fn run(command: &mut Command) -> Child {
    command.env("HOME", "/nonexistent").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// Sends SIGKILL and waits: nothing of the program runs after that. It may have ended by itself.
async fn killed(mut child: Child) {
    let _ = child.kill().await;
}

/// Runs a command to its end.
async fn ended(command: &mut Command) -> Output {
    run(command).wait_with_output().await.unwrap()
}

fn spooled(output: &Output) -> u64 {
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["seed"]["transfer"]["bytes_spooled"].as_u64().unwrap_or_default()
}

/// Numbers below `limit`, the same each time.
fn random(seed: u64, limit: u64) -> impl Iterator<Item = u64> {
    let bytes = shape::noise(seed, 8 * 1000);
    (0..1000).map(move |at| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap()) % limit)
}

const KILLS: usize = 10;
const STREAMS: u64 = 2;

#[expect(clippy::print_stdout, reason = "tells how near the bound it came")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_a_seed_comes_to_its_end_and_fetches_hardly_anything_twice() {
    // Unread bytes in the kernel are lost with the program as well. A link this slow leaves few of them where the machine
    // is busy and the program waits for a processor.
    let bed = Bed::new(&[14, 6, 3], 8).await;
    let size = bed.image.size();
    // A busy machine kills late: the last quarter is left to the final run, which must find something to resume.
    let mut points: Vec<_> = random(7, size * 3 / 4).take(KILLS).collect();
    points.sort_unstable();
    for point in points {
        let mut running = bed.start(&bed.sink, &["--jobs", "2"]);
        bed.delivered(point, &mut running).await;
        killed(running).await;
    }
    let last = bed.seed(&["--jobs", "2"]).await;
    assert_code(&last, 0);
    bed.assert_arrived(&bed.sink).await;
    assert!(spooled(&last) > 0 && bed.kept().is_empty(), "{:?}", bed.kept());
    let again = bed.link.delivered() - size;
    println!("table killed {KILLS} times: {again} of {size} bytes came twice");
    // One mebibyte per stream, and a little for manifests and response heads.
    let most = KILLS as u64 * (STREAMS * MIB + 20_000);
    assert!(again <= most, "{again} bytes came twice, at most {most} may");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_no_file_is_made_and_nothing_is_told_of_it() {
    let bed = Bed::new(&[2], 1000).await;
    let arguments = bed.arguments(&bed.sink, &[]);
    let at = arguments.iter().position(|argument| argument == "--spool").unwrap();
    let without: Vec<_> =
        arguments.iter().enumerate().filter(|(n, _)| ![at, at + 1].contains(n)).map(|(_, a)| a).collect();
    let output = ended(Command::new(PROGRAM).args(without)).await;
    assert_code(&output, 0);
    assert!(!text(&output).contains("spool") && !bed.spool().exists(), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_breaks_makes_the_source_send_nothing_twice() {
    let bed = Bed::new(&[5], 20).await;
    // Two of them may hit the configurations, which are too short to be cut.
    bed.sink.fault(Fault { times: 4, ..Fault::next(Kind::UploadPut, What::CutRequest { after: 3_000_000 }) });
    let output = bed.seed(&["--jobs", "1"]).await;
    assert_code(&output, 0);
    bed.assert_arrived(&bed.sink).await;
    assert!(bed.starts().is_empty() && bed.source.count(Kind::BlobGet) == 4, "{:?}", bed.starts());
    assert!(spooled(&output) >= 3_000_000, "{}", text(&output));
    let most = bed.image.size() + 100_000;
    assert!(bed.link.delivered() <= most, "{} bytes of {most}", bed.link.delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_spool_and_one_of_them_may_be_killed() {
    let bed = Bed::new(&[6, 3], 30).await;
    let other = Testbed::start().await;
    let mut first = bed.start(&bed.sink, &[]);
    bed.delivered(4 * MIB, &mut first).await;
    let second = bed.start(&other, &[]);
    bed.delivered(10 * MIB, &mut first).await;
    killed(first).await;
    let (second, third) = tokio::join!(second.wait_with_output(), bed.seed(&[]));
    assert_code(&second.unwrap(), 0);
    assert_code(&third, 0);
    bed.assert_arrived(&bed.sink).await;
    bed.assert_arrived(&other).await;
    assert!(bed.kept().is_empty(), "{:?}", bed.kept());
}

/// The signal would end the program; with it ignored, the write fails, on any machine.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_is_told_and_what_it_has_is_gone_on_with() {
    let bed = Bed::new(&[8], 1000).await;
    let script = "trap '' XFSZ; ulimit -f 6144; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    let arguments = bed.arguments(&bed.sink, &["--jobs", "1"]);
    let output = ended(limited.args(["-c", script, PROGRAM]).args(arguments)).await;
    assert_code(&output, 1);
    for words in ["write to the spool", bed.spool().to_str().unwrap(), "--spool-max", "without --spool"] {
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
    }
    assert!(!text(&output).contains("destination:"), "{}", text(&output));
    let kept = bed.kept()[0].0;
    assert!((2 * MIB..=3 * MIB).contains(&kept), "{kept}");
    bed.source.clear_log();

    let output = bed.seed(&["--jobs", "1"]).await;
    assert_code(&output, 0);
    bed.assert_arrived(&bed.sink).await;
    assert_eq!(bed.starts(), [kept]);
}

/// A disk of 8 MiB, in a mount namespace that ends with the script.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stdout, reason = "what is left out is told")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_room_made_on_it_is_enough() {
    let works = |flags: &str| {
        std::process::Command::new("unshare")
            .args([flags, "mount", "-t", "tmpfs", "none", "/mnt"])
            .output()
            .is_ok_and(|done| done.status.success())
    };
    let Some(flags) = ["-rm", "-m"].into_iter().find(|flags| works(flags)) else {
        println!(
            "skipped: a disk that is full (no tmpfs can be mounted here: run it as root, or where user namespaces are permitted)"
        );
        return;
    };
    let bed = Bed::new(&[12], 1000).await;
    std::fs::create_dir(bed.spool()).unwrap();
    let script = "mount -t tmpfs -o size=8m none \"$SPOOL\" || exit 99
        \"$0\" \"$@\"; echo \"first $?\" >&2
        ls -l \"$SPOOL\" >&2
        mount -o remount,size=100m \"$SPOOL\"
        \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", script, PROGRAM]).args(bed.arguments(&bed.sink, &["--jobs", "1"]));
    let output = ended(command.env("SPOOL", bed.spool())).await;
    let told = text(&output);
    assert!(told.contains("first 1\n") && told.contains("No space left") && told.contains("--spool-max"), "{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    bed.assert_arrived(&bed.sink).await;
    assert!(
        told.contains(".partial") && bed.starts().iter().any(|start| *start > 6 * MIB),
        "{:?} {told}",
        bed.starts()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_files_and_foreign_things_in_the_spool_cost_at_most_a_refetch() {
    let bed = Bed::new(&[4, 3, 2], 1000).await;
    let mut layers: Vec<_> = bed.image.nodes.iter().filter(|node| node.size > MIB).collect();
    layers.sort_by_key(|node| node.size);
    let path = |node: &Descriptor| bed.spool().join(format!("sha256-{}.partial", node.digest.hex()));
    std::fs::create_dir(bed.spool()).unwrap();
    // A prefix with holes, as after a power cut; a file longer than the blob; and a file that is no prefix.
    std::fs::write(path(layers[0]), vec![0; 1_500_000]).unwrap();
    std::fs::write(path(layers[1]), vec![7; 9_000_000]).unwrap();
    std::fs::create_dir(path(layers[2])).unwrap();
    let treasure = bed.home.path().join("treasure");
    std::fs::write(&treasure, "precious").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&treasure, path(layers[3])).unwrap();
    std::fs::write(bed.spool().join("notes.txt"), "mine").unwrap();

    let output = bed.seed(&["--spool-max", "20MiB"]).await;
    assert_code(&output, 0);
    bed.assert_arrived(&bed.sink).await;
    assert_eq!(
        bed.ranges(&layers[0].digest),
        [Some("bytes=1500000-".into()), None],
        "wrong bytes are fetched again, all of them"
    );
    assert_eq!(bed.ranges(&layers[1].digest), [None]);
    assert_eq!(std::fs::read_to_string(&treasure).unwrap(), "precious");
    assert!(path(layers[2]).is_dir() && path(layers[3]).is_symlink() && bed.spool().join("notes.txt").exists());
    assert_eq!(bed.kept().len(), 3, "{:?}", bed.kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_is_kept_within_its_size() {
    let bed = Bed::new(&[8, 6], 60).await;
    let mut running = bed.start(&bed.sink, &["--spool-max", "3MiB"]);
    bed.delivered(20 * MIB, &mut running).await;
    killed(running).await;
    let kept: u64 = bed.kept().iter().map(|(bytes, _)| bytes).sum();
    assert!((MIB..=3 * MIB).contains(&kept), "{kept}");
    assert_code(&bed.seed(&["--spool-max", "3MiB"]).await, 0);
    bed.assert_arrived(&bed.sink).await;
    assert!(bed.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_spool_is_refused_before_any_request() {
    let bed = Bed::new(&[2], 1000).await;
    let file = bed.home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("below");
    let spooling = |place: &Path| ["--spool".to_owned(), place.to_str().unwrap().to_owned()];
    for (more, words) in [
        (spooling(&file).to_vec(), "use the folder of --spool"),
        (spooling(&below).to_vec(), "use the folder of --spool"),
        (vec!["--spool-max".into(), "10G".into()], "did you mean GiB or GB?"),
        (vec!["--spool-max".into(), "0".into()], "a size of nothing"),
        (vec!["--transport".into(), "skopeo".into()], "skopeo"),
    ] {
        let mut arguments = bed.arguments(&bed.sink, &[]);
        if more[0] == "--spool" {
            let at = arguments.iter().position(|argument| argument == "--spool").unwrap();
            arguments.drain(at..at + 2);
        }
        let output = ended(Command::new(PROGRAM).args(arguments).args(&more)).await;
        assert_code(&output, 2);
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
    }
    let arguments = bed.arguments(&bed.sink, &["--dry-run"]);
    assert_code(&ended(Command::new(PROGRAM).args(&arguments)).await, 0);
    assert!(!bed.spool().exists(), "a dry run leaves no folder");
    assert_eq!(bed.source.count(Kind::BlobGet), 0);
}
