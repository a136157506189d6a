//! The whole program while a line is away: what it moves again, what it says, and when it gives up.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Kind, Testbed};
use serde_json::Value;
use testkit::cut_line::{Cut, CutLine, Moment, Way};
use testkit::images::shape;

use crate::kit::command::{assert_code, autonomy, program, text};
use crate::kit::route::Route;
use crate::kit::site_bed::stopped;

const MIB: u64 = 1 << 20;

/// Longer than the tries of a failure that is no outage take in all.
const AWAY: Duration = Duration::from_millis(3500);

/// Most bytes of a blob that move again.
const MOST_AGAIN: u64 = 8 * MIB;

/// Most bytes that may come again from the source after the destination broke: the source's connection is closed too, and
/// its socket buffers are lost (up to 11.4 MiB in the runs of `benches/README.md`).
const MOST_FETCHED_AGAIN: u64 = 12 * MIB;

/// An image of one large layer, with a line to each side.
struct Lines {
    route: Route,
    from: CutLine,
    to: CutLine,
}

impl Lines {
    async fn new(layer: u64, sink: Profile) -> Self {
        let route = Route::new(shape::single_manifest(1, &[layer]), sink).await;
        let (from, to) = (CutLine::to(route.source.host()), CutLine::to(route.sink.host()));
        Self { route, from, to }
    }

    fn command(&self, more: &[&str]) -> tokio::process::Command {
        let (from, to) = (format!("{}/app:v1", self.from.host), format!("{}/app:v1", self.to.host));
        seeding(&from, &to, &self.route.path("out"), more)
    }

    async fn seed(&self, more: &[&str]) -> Output {
        self.command(more).output().await.unwrap()
    }
}

/// The command with the usual times.
fn seeding(from: &str, to: &str, out: &str, more: &[&str]) -> tokio::process::Command {
    let fixed = ["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--accessories=none"];
    program(&[&fixed, &["--from", from, "--to", to, "--out", out][..], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_inside_a_large_blob_moves_little_again() {
    let each = [Way::FromServer, Way::ToServer].map(|way| async move {
        let lines = Lines::new(24 * MIB, Profile::distribution_3()).await;
        let line = if way == Way::FromServer { &lines.from } else { &lines.to };
        line.plan(Moment::After(way, 14 * MIB), Cut::Closed, AWAY);
        let done = lines.seed(&[]).await;
        assert_code(&done, 0);
        assert_eq!(lines.route.tagged().await, Some(lines.route.root.digest));
        assert!(line.cuts() == 1 && line.turned_away() > 0, "{way:?}: the line was away");
        let fetched = lines.from.carried(Way::FromServer);
        let again = if way == Way::FromServer { MOST_AGAIN } else { MOST_FETCHED_AGAIN };
        // The layer has 24 MiB, of which 14 MiB had arrived: without going on, 38 MiB come from the source.
        assert!(fetched <= 24 * MIB + again, "{way:?}: {fetched} bytes came from the source");
        let sent = lines.to.carried(Way::ToServer);
        assert!(sent <= 24 * MIB + MIB, "{way:?}: {sent} bytes went to the destination, which can resume");
        let told = text(&done);
        let start = format!("no answer from {} since ", line.host);
        assert_eq!(told.matches(&start).count(), 1, "once, however many wait: {told}");
        assert!(told.contains("): next try in ") && told.contains(", giving up in "), "{told}");
        assert!(told.contains(&format!("{} answers again after ", line.host)), "{told}");
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_put_after_the_line_has_come_back() {
    let lines = Lines::new(1000, Profile::distribution_2()).await;
    lines.to.plan(Moment::At("PUT /v2/app/manifests/".into()), Cut::Closed, AWAY);
    let done = lines.seed(&["--progress=json"]).await;
    assert_code(&done, 0);
    assert_eq!(lines.route.tagged().await, Some(lines.route.root.digest));
    let events: Vec<Value> =
        String::from_utf8_lossy(&done.stderr).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).cloned().collect::<Vec<_>>();
    let (silent, over) = (of("outage"), of("outage_over"));
    assert_eq!((silent.len(), over.len()), (1, 1), "{events:#?}");
    assert_eq!(
        (&silent[0]["host"], &over[0]["host"]),
        (&lines.to.host.as_str().into(), &lines.to.host.as_str().into())
    );
    for field in ["time", "since", "next_try", "give_up"] {
        assert!(silent[0][field].as_str().is_some_and(|text| text.ends_with('Z')), "{field}: {}", silent[0]);
    }
    assert!(silent[0]["next_try"].as_str() < silent[0]["give_up"].as_str());
    assert!(over[0]["seconds"].as_u64() >= Some(AWAY.as_secs()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_of_a_hundred_images_survives_a_cut_on_both_sides() {
    let (source, sink, home) = (Testbed::start().await, Testbed::start().await, tempfile::tempdir().unwrap());
    let (from, to) = (CutLine::to(source.host()), CutLine::to(sink.host()));
    let mut entries = String::new();
    let mut roots = Vec::new();
    for number in 0..100 {
        let image = shape::on_a_base(1, &[1000, 2000], 100 + number, &[500]);
        let root = image.put(&source.layout(&format!("team/{number}")), &["v1".parse().unwrap()]).await;
        roots.push(root.digest);
        entries += &format!("  - from: {}/team/{number}:v1\n    to: {}/site/{number}:v1\n", from.host, to.host);
    }
    let catalog = home.path().join("catalog.yaml");
    std::fs::write(&catalog, format!("version: 1\nentries:\n{entries}")).unwrap();
    from.plan(Moment::At("GET /v2/team/50/".into()), Cut::Closed, AWAY);
    to.plan(Moment::At("PUT /v2/site/50/".into()), Cut::Closed, AWAY);
    let (catalog, out) = (catalog.to_str().unwrap(), home.path().to_str().unwrap());
    let fixed = ["registry", "seed-catalog", "--allow-insecure-registry", "--catalog", catalog, "--out", out];
    let done = autonomy(&[&fixed[..], &["--skip-verify", "--accessories=none"]].concat()).await;
    assert_code(&done, 0);
    assert_eq!((from.cuts(), to.cuts()), (1, 1));
    for (number, root) in roots.into_iter().enumerate() {
        let tag = autonomy_registry::oci::Name::Tag("v1".parse().unwrap());
        let layout = sink.layout(&format!("site/{number}"));
        let arrived = autonomy_registry::store::Store::resolve(&layout, &tag).await.unwrap();
        assert_eq!(arrived.digest, root, "{number}");
    }
    let told = text(&done);
    assert!(told.matches("no answer from").count() <= 2, "one line a host, not one a request: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_restarted_in_the_middle_of_a_blob_gets_all_of_it() {
    let each = [Profile::distribution_3(), Profile::distribution_2(), Profile::zot()].map(|profile| async move {
        let source = Route::new(shape::single_manifest(1, &[24 * MIB]), Profile::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let first = Testbed::over(folder.path(), profile.clone()).await;
        let line = CutLine::to(first.host());
        line.plan(Moment::After(Way::ToServer, 10 * MIB), Cut::Closed, Duration::from_secs(3600));
        let to = format!("{}/app:v1", line.host);
        let seed = tokio::spawn(seeding(&source.from(), &to, &source.path("out"), &[]).output());
        while line.cuts() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(first);
        let second = Testbed::over(folder.path(), profile).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        line.join(Some(second.host()));
        let done = seed.await.unwrap().unwrap();
        assert_code(&done, 0);
        let tag = autonomy_registry::oci::Name::Tag("v1".parse().unwrap());
        let arrived = autonomy_registry::store::Store::resolve(&second.layout("app"), &tag).await.unwrap();
        assert_eq!(arrived.digest, source.root.digest);
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_over_ends_the_run_and_the_last_words_say_what_to_do() {
    let again = "hint: run it again; with --spool it goes on where it stopped";
    let spooled = "hint: run it again: it goes on where it stopped";
    let each = [(&[][..], again), (&["--spool", "spool"], spooled)].map(|(more, hint)| async move {
        let lines = Lines::new(12 * MIB, Profile::default()).await;
        lines.from.plan(Moment::After(Way::FromServer, 4 * MIB), Cut::Closed, Duration::from_secs(3600));
        let begun = Instant::now();
        let done =
            lines.command(&[&["--retry-for", "1s"], more].concat()).current_dir(lines.route.home.path()).output();
        let done = done.await.unwrap();
        assert_code(&done, 4);
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let told = text(&done);
        let last = told.trim_end().lines().last().unwrap().trim();
        assert_eq!(last, hint, "{told}");
        assert!(told.contains("error: source: "), "{told}");
        assert!(lines.from.turned_away() >= 3, "it is tried more than once");
        assert_eq!(lines.route.tagged().await, None);
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_seconds_never_wait() {
    let lines = Lines::new(12 * MIB, Profile::default()).await;
    lines.to.plan(Moment::At("PUT /v2/app/manifests/".into()), Cut::Closed, Duration::from_secs(3600));
    let done = lines.seed(&["--retry-for", "0s"]).await;
    assert_code(&done, 4);
    assert_eq!(lines.to.cuts(), 1);
    assert_eq!(lines.to.turned_away(), 0, "there was no second try");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nothing_listens_is_waited_for_as_long_as_first_contact_may_take() {
    let route = Route::new(shape::single_manifest(1, &[1000]), Profile::default()).await;
    let begun = Instant::now();
    let closed = "127.0.0.1:1/app:v1";
    let (from, to) = (route.from(), route.to());
    let each = [(from.as_str(), closed), (closed, to.as_str())].map(|(from, to)| {
        let mut command = seeding(from, to, &route.path("out"), &["--retry-for", "1s"]);
        async move { command.output().await.unwrap() }
    });
    for done in futures_util::future::join_all(each).await {
        assert_code(&done, 4);
        let told = text(&done);
        assert!(told.contains("connection refused, for 1 s") || told.contains("connection refused, for 2 s"), "{told}");
        assert!(told.contains("hint: check host and port, and that the registry runs"), "{told}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(route.sink.count(Kind::UploadPost), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_a_wait_at_once() {
    let lines = Lines::new(12 * MIB, Profile::default()).await;
    lines.from.plan(Moment::After(Way::FromServer, 4 * MIB), Cut::Closed, Duration::from_secs(3600));
    let (from, to) = (format!("{}/app:v1", lines.from.host), format!("{}/app:v1", lines.to.host));
    let out = lines.route.path("out");
    let mut command = seeding(&from, &to, &out, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    // The fifth pause is longer than a second.
    while lines.from.turned_away() < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = stopped(child).await;
    assert_code(&done, 130);
    assert_eq!(lines.route.tagged().await, None);
}
