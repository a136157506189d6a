//! The display of a copy whose bytes trickle. Time is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::teller::event_line;
use super::terminal::tests::Paper;
use super::*;
use crate::copy::{Event, Events, ImageEnd, LayerPlace, PlanTotals, Stage};
use crate::error::Result;
use crate::oci::{Descriptor, MediaType, Name, Tag};
use crate::retry::{OutageNews, OutageState};
use crate::store::{Body, ByteStream, Memory, Put, Root, Store};

const PIECE: usize = 16 << 10;
const PIECES: usize = 128;

/// Returns 2 MiB of zeros, 16 KiB every eighth of a second: 128 KiB/s for 16 s.
#[derive(Debug, Default)]
struct Trickle(Memory);

#[async_trait]
impl Store for Trickle {
    fn label(&self) -> &str {
        "trickle"
    }
    async fn resolve(&self, name: &Name) -> Result<Descriptor> {
        self.0.resolve(name).await
    }
    async fn fetch(&self, name: &Name) -> Result<Root> {
        self.0.fetch(name).await
    }
    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        self.0.contains(node).await
    }
    async fn open(&self, _: &Descriptor, _: u64) -> Result<ByteStream> {
        Ok(Box::pin(stream::iter(0..PIECES).then(|_| async {
            tokio::time::sleep(Duration::from_millis(125)).await;
            Ok(Bytes::from_static(&[0; PIECE]))
        })))
    }
    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        self.0.put(node, body, tags).await
    }

    fn expect(&self, count: usize) {
        self.0.expect(count);
    }
}

fn layer() -> Descriptor {
    Descriptor::of(MediaType::OCI_LAYER_GZIP, &[0; PIECE * PIECES])
}

fn place() -> LayerPlace {
    LayerPlace { platform: Some("linux/arm64".into()), layer: 3, layers: 8 }
}

fn small(text: &str) -> Descriptor {
    Descriptor::of(MediaType::OCI_CONFIG, text.as_bytes())
}

/// Sends the events of a copy of a large layer and two small blobs: one is present, one is sent.
async fn carry(events: &Events) {
    let totals = PlanTotals {
        manifests: 1,
        blobs: 4,
        blobs_to_put: 4,
        bytes_total: (PIECE * PIECES + 8) as u64,
        bytes_to_move: (PIECE * PIECES + 8) as u64,
        bytes_present: 0,
        bytes_mountable: 0,
    };
    events.send(Event::Stage(Stage::Copying));
    events.send(Event::Planned(totals));
    for (text, put) in [("{}", Put::Present), ("12345", Put::Sent(5))] {
        let body = Body::bytes(small(text), text.to_owned());
        events.send(Event::Started { node: small(text), meter: body.meter(), place: None });
        if put != Put::Present {
            body.open().collect::<Vec<_>>().await;
        }
        events.send(Event::Finished { node: small(text), put });
    }
    // Out of step with the display, so that no piece comes at the very moment of a sample.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let body = Body::stored(layer(), Arc::new(Trickle::default()));
    events.send(Event::Started { node: layer(), meter: body.meter(), place: Some(place()) });
    let mut stream = body.open();
    while stream.next().await.is_some() {}
    events.send(Event::Finished { node: layer(), put: Put::Sent(layer().size) });
}

fn show(progress: Progress, columns: Option<u16>) -> (Events, Listener, Paper, Screen) {
    let paper = Paper::default();
    let screen = Screen::new(paper.clone(), move || columns);
    let (events, receiver) = Events::channel(64);
    let listener = listen(progress, receiver, &screen);
    (events, listener, paper, screen)
}

#[tokio::test(start_paused = true)]
async fn plain_lines_are_few_and_exact() {
    let (run, listener, paper, _screen) = show(Progress::Auto, None);
    let events = run.of_image(&"site.example/app:v1");
    drop(run);
    carry(&events).await;
    events.send(Event::Warning("odd\u{1b}[2J".into()));
    events.send(Event::LeftOut(small("x")));
    drop(events);
    listener.finish().await;
    let left_out = format!("left out: foreign layer {}, which the source does not serve", small("x").digest);
    let text = paper.text();
    let lines = text.lines().map(|line| {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == "2026-05-25T00:00:00Z".len() && time.parse::<Timestamp>().is_ok(), "{line}");
        rest.strip_prefix("site.example/app:v1: ").unwrap_or_else(|| panic!("{line}"))
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "copying",
            "4 blobs, 1 manifest, 2.0 MiB to move",
            "624.0 KiB of 2.0 MiB (30%), 127.3 KiB/s, 12 s left",
            "1.2 MiB of 2.0 MiB (61%), 128.0 KiB/s, 7 s left",
            "1.9 MiB of 2.0 MiB (92%), 128.0 KiB/s, 2 s left",
            "warning: odd\\u{1b}[2J",
            &left_out,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminal_shows_bars_and_is_left_clean() {
    let (events, listener, paper, screen) = show(Progress::Auto, Some(100));
    let copy = tokio::spawn(async move { carry(&events).await });
    tokio::time::sleep(Duration::from_millis(8_250)).await;
    screen.line("above");
    let bar = "linux/arm64 layer 3 of 8 [===========>           ]  50%    2.0 MiB  128.0 KiB/s";
    let total = "copying [========>       ]  50% 1.0 of 2.0 MiB, 128.0 KiB/s, 8 s left";
    assert_eq!(paper.shown(), ["above", bar, total]);
    copy.await.unwrap();
    listener.finish().await;
    assert_eq!(paper.shown(), ["above"]);
}

#[tokio::test(start_paused = true)]
async fn a_narrow_terminal_gets_lines_that_fit() {
    let (events, _listener, paper, _screen) = show(Progress::Bar, Some(30));
    let copy = tokio::spawn(async move { carry(&events).await });
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(paper.shown(), ["linux/arm64 layer 3 of 8  23%", "23% 480.0 KiB of 2.0 MiB"]);
    copy.abort();
}

#[tokio::test(start_paused = true)]
async fn lines_follow_the_width_of_the_terminal_and_stay_short() {
    let (paper, columns) = (Paper::default(), Arc::new(AtomicU16::new(200)));
    let width = Arc::clone(&columns);
    let screen = Screen::new(paper.clone(), move || Some(width.load(Ordering::Relaxed)));
    let (events, receiver) = Events::channel(64);
    let _listener = listen(Progress::Bar, receiver, &screen);
    let copy = tokio::spawn(async move { carry(&events).await });
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (width, most, has_bar) in [(200, 79, true), (65, 64, true), (30, 29, false), (5, 4, false), (0, 0, false)] {
        columns.store(width, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let shown = paper.shown();
        assert!(shown.iter().all(|line| line.len() <= most), "{width}: {shown:?}");
        assert_eq!(shown.iter().any(|line| line.contains('[')), has_bar, "{width}: {shown:?}");
        assert_eq!(shown.len(), if width > 1 { 2 } else { 0 }, "{width}: {shown:?}");
    }
    columns.store(100, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(paper.shown().iter().map(|line| line.contains('[')).collect::<Vec<_>>(), [true, true]);
    copy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_line_loses_its_bar_first_then_its_label_and_never_its_percentage() {
    let (paper, columns) = (Paper::default(), Arc::new(AtomicU16::new(0)));
    let width = Arc::clone(&columns);
    let screen = Screen::new(paper.clone(), move || Some(width.load(Ordering::Relaxed)));
    let (events, receiver) = Events::channel(64);
    let _listener = listen(Progress::Bar, receiver, &screen);
    let copy = tokio::spawn(async move { carry(&events).await });
    tokio::time::sleep(Duration::from_millis(8_250)).await;
    let mut seen = Vec::new();
    for width in (6..=81).rev() {
        columns.store(width, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let shown = paper.shown();
        for (line, label, at) in [(&shown[0], "layer", 0), (&shown[1], "copying", 1)] {
            assert!(line.chars().count() < width.into() && line.contains('%'), "{width}: {line:?}");
            let state = (at, line.contains('['), line.contains(label));
            if !seen.contains(&state) {
                seen.push(state);
            }
        }
    }
    seen.sort_by_key(|(at, ..)| *at);
    let each = |at| [(at, true, true), (at, false, true), (at, false, false)];
    assert_eq!(seen, [each(0), each(1)].concat());
    copy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_catalog_counts_its_images_and_names_the_image_of_a_warning() {
    for (progress, expected) in [
        (
            Progress::Bar,
            &["seeded a:1", "warning: b:1: odd", "unchanged b:1", "failed c:1", "3 of 300 images, 1 changed, 1 failed"]
                [..],
        ),
        (Progress::Warnings, &["warning: b:1: odd"]),
    ] {
        let (events, _listener, paper, _screen) = show(progress, Some(80));
        events.send(Event::Images(300));
        let end = |to: &str, end| events.send(Event::Image { to: to.to_owned(), end, error: None });
        end("a:1", ImageEnd::Seeded);
        events.of_one_among_many().of_image(&"b:1").send(Event::Warning("odd".into()));
        end("b:1", ImageEnd::Unchanged);
        end("c:1", ImageEnd::Failed);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(paper.shown(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_bars_than_fit() {
    let (events, _listener, paper, _screen) = show(Progress::Bar, Some(100));
    let bodies: Vec<_> =
        (0..20u8).map(|n| Body::bytes(Descriptor::of(MediaType::OCI_LAYER, &vec![n; 1 << 20]), "")).collect();
    for body in &bodies {
        events.send(Event::Started { node: body.node().clone(), meter: body.meter(), place: None });
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(paper.shown().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_was_given_up_does_not_stay_on_the_screen() {
    let (events, listener, paper, _screen) = show(Progress::Bar, Some(100));
    let body = Body::stored(layer(), Arc::new(Trickle::default()));
    events.send(Event::Started { node: layer(), meter: body.meter(), place: None });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(paper.shown().len(), 1);
    drop(body);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(paper.shown().is_empty());
    drop(listener);
}

#[tokio::test(start_paused = true)]
async fn a_display_that_is_cut_short_leaves_nothing_behind() {
    let (events, listener, paper, _screen) = show(Progress::Bar, Some(100));
    events.send(Event::Stage(Stage::Copying));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(paper.shown(), ["copying"]);
    drop(listener);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(paper.shown().is_empty());
}

#[tokio::test(start_paused = true)]
async fn json_lines_are_objects_with_full_digests_and_at_most_two_samples_a_second() {
    let (run, listener, paper, screen) = show(Progress::Json, None);
    let events = run.of_image(&"site.example/app:v1");
    drop(run);
    carry(&events).await;
    events.send(Event::Warning("odd \"text\"\u{202e}".into()));
    events.send(Event::LeftOut(small("x")));
    drop(events);
    listener.finish().await;
    screen.set_image(&"site.example/app:v1");
    screen.log("WARN from the log");
    screen.message("warning: by the way");
    let kind = crate::error::Kind::Denied;
    screen.fail(&crate::error::Error::new(kind, "get").hint("log in").of_image("site.example/other:v1"));

    let text = paper.text();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().parse::<Timestamp>().is_ok()));
    assert!(text.lines().all(|line| line.starts_with("{\"event\":\"")), "the name stands first");
    assert_eq!(named("stage")[0]["stage"], "copying");
    assert_eq!(named("planned")[0]["bytes_to_move"], 2_097_160);
    let finished: Vec<_> =
        named("finished").iter().map(|line| (line["how"].clone(), line["bytes_sent"].clone())).collect();
    assert_eq!(finished, [("present".into(), 0.into()), ("sent".into(), 5.into()), ("sent".into(), 2_097_152.into())]);
    assert_eq!(named("started")[2]["digest"], layer().digest.to_string());
    assert_eq!(named("warning")[0]["text"], "odd \"text\"\\u{202e}");
    assert_eq!(named("left_out")[0]["size"], 1);
    assert_eq!(named("log")[0]["text"], "WARN from the log");
    assert_eq!(named("warning")[1]["text"], "by the way");
    let error = named("error")[0];
    assert_eq!(
        (&error["text"], &error["hint"], &error["exit_code"]),
        (&"get: access denied".into(), &"log in".into(), &4.into())
    );
    assert_eq!(error["image"], "site.example/other:v1", "its own image");
    let about = |line: &&serde_json::Value| line["event"] != "error" && line["event"] != "progress";
    assert!(lines.iter().filter(about).all(|line| line["image"] == "site.example/app:v1"), "{text}");
    let started = named("started")[2];
    assert_eq!(
        (&started["platform"], &started["layer"], &started["layers"]),
        (&"linux/arm64".into(), &3.into(), &8.into())
    );

    let samples = named("progress");
    assert!((28..=34).contains(&samples.len()), "{} samples in 16 s", samples.len());
    assert_eq!(samples[0]["bytes_per_second"], serde_json::Value::Null);
    let last = samples.last().unwrap();
    assert_eq!((&last["bytes_done"], &last["blobs_done"]), (&2_097_160.into(), &4.into()));
    assert_eq!(last["bytes_moved"], 2_097_157, "what was present did not move");
}

#[tokio::test(start_paused = true)]
async fn nothing_changes_and_nothing_is_said() {
    let (events, listener, paper, _screen) = show(Progress::Json, None);
    events.send(Event::Planned(PlanTotals { bytes_to_move: 9, ..PlanTotals::default() }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(paper.text().lines().count(), 2, "the plan and one sample");
    drop(events);
    listener.finish().await;
    assert_eq!(paper.text().lines().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn silence_is_silent_and_takes_all_events() {
    let (events, listener, paper, _screen) = show(Progress::None, Some(80));
    for _ in 0..1_000 {
        events.send(Event::Stage(Stage::Copying));
        tokio::task::yield_now().await;
    }
    assert_eq!(events.dropped(), 0);
    drop(events);
    listener.finish().await;
    assert_eq!(paper.text(), "");
}

#[tokio::test(start_paused = true)]
async fn every_form_but_none_says_that_a_host_is_away_and_that_it_is_back() {
    let (since, second) = ("2026-01-02T03:04:05Z".parse().unwrap(), Duration::from_secs(1));
    let state = OutageState::Silent { why: "odd\u{1b}[2J".into(), next_try: 3 * second, left: 60 * second };
    let away = OutageNews { host: "r.example".into(), since, lasted: second, state };
    let back = OutageNews { state: OutageState::Over, lasted: 9 * second, ..away.clone() };
    let lines = [
        "no answer from r.example since 03:04:05Z (odd\\u{1b}[2J): next try in 3 s, giving up in 1 min",
        "r.example answers again after 9 s",
    ];
    for progress in [Progress::Bar, Progress::Plain, Progress::Warnings, Progress::Json, Progress::None] {
        let (events, listener, paper, _screen) = show(progress, Some(100));
        [&away, &back].into_iter().for_each(|news| events.send(Event::Outage(news.clone())));
        drop(events);
        listener.finish().await;
        let shown = paper.shown();
        match progress {
            Progress::None => assert!(shown.is_empty()),
            Progress::Json => {
                let lines: Vec<serde_json::Value> =
                    paper.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_eq!((&lines[0]["event"], &lines[1]["event"]), (&"outage".into(), &"outage_over".into()));
                assert_eq!((&lines[0]["since"], &lines[1]["seconds"]), (&"2026-01-02T03:04:05.000Z".into(), &9.into()));
                let time = |name: &str| lines[0][name].as_str().unwrap().parse::<Timestamp>().unwrap();
                assert_eq!(time("next_try").duration_since(time("time")).as_secs(), 3);
                assert_eq!(time("give_up").duration_since(time("time")).as_secs(), 60);
            }
            // Each line begins with the time.
            Progress::Plain => {
                let said: Vec<_> = shown.iter().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
                assert_eq!(said, lines);
            }
            _ => assert_eq!(shown, lines, "{progress:?}"),
        }
    }
}

#[test]
fn a_plan_with_nothing_to_do_says_so() {
    assert_eq!(event_line(&Event::Planned(PlanTotals::default())).as_deref(), Some("nothing to move"));
}
