//! The journal: the change of a tag is written before the tag moves, and a change that cannot be written does not
//! happen.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use autonomy_registry::copy::{Events, Options};
use autonomy_registry::document::Accessories;
use autonomy_registry::document::catalog::Entry;
use autonomy_registry::error::{Error, Kind as Failure, Result};
use autonomy_registry::oci::{Digest, Reference};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::transport::Native;
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{
    self, Catalog, CatalogEntry, Effect, IntentNumber, Journal, JournalWriter, RollbackFate, RollbackPlan, Seed,
    SidecarHandling, TagChange, Tagging, Trust,
};

use crate::kit::command::assert_code;
use crate::kit::site_bed::{Bed, holding};

/// The number of lines that a recorder takes.
#[derive(Clone, Copy)]
enum Room {
    Endless,
    /// As many intents, and every outcome.
    Intents(usize),
    /// As many lines of either kind.
    Lines(usize),
}

/// Writes what it is told, each with the number of times that the tag was put before.
struct Recorder {
    lines: Mutex<Vec<(String, usize)>>,
    bed: Arc<Bed>,
    room: Room,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    fn of(bed: &Arc<Bed>, room: Room) -> (Arc<Self>, Journal) {
        let recorder = Arc::new(Self { lines: Mutex::default(), bed: Arc::clone(bed), room });
        (Arc::clone(&recorder), Journal::new(recorder))
    }

    fn write(&self, line: String) -> Result<usize> {
        let mut lines = self.lines.lock().unwrap();
        let is_intent = |line: &str| line.starts_with(char::is_alphabetic);
        let is_full = match self.room {
            Room::Endless => false,
            Room::Intents(most) => is_intent(&line) && lines.iter().filter(|(line, _)| is_intent(line)).count() >= most,
            Room::Lines(most) => lines.len() >= most,
        };
        if is_full {
            return Err(Error::new(Failure::Unavailable, "write").because("no space left"));
        }
        lines.push((line, self.bed.puts("v1")));
        Ok(lines.len())
    }

    fn taken(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    fn lines(&self) -> Vec<String> {
        self.taken().into_iter().map(|(line, _)| line).collect()
    }
}

#[async_trait]
impl JournalWriter for Recorder {
    async fn intent(&self, effect: &Effect) -> Result<IntentNumber> {
        let (kind, TagChange { to, was, digest }) = match effect {
            Effect::Seed(change) => ("seed", change),
            Effect::Rollback(change) => ("rollback", change),
        };
        let (path, tag) = (&to.repository.path, to.tag.as_ref().unwrap());
        Ok(IntentNumber(self.write(format!("{kind} {path}:{tag} {}", change(*was, *digest)))? as u64))
    }

    async fn outcome(&self, intent: IntentNumber, done: std::result::Result<(), &Error>) -> Result<()> {
        let how = done.map_or_else(|error| format!("failed: {:?}", error.kind()), |()| "done".into());
        self.write(format!("{} {how}", intent.0)).map(drop)
    }
}

fn change(was: Option<Digest>, digest: Option<Digest>) -> String {
    let told = |digest: Option<Digest>| digest.map_or("nothing".into(), |digest| digest.to_string());
    format!("{} to {}", told(was), told(digest))
}

fn client() -> Client {
    Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap()
}

fn end(host: &str, path: &str) -> Reference {
    format!("{host}/{path}:v1").parse().unwrap()
}

/// Seeds the image `a` with its sidecars. Staged, its tag is put after everything else; otherwise together with the
/// image.
async fn seed(bed: &Bed, journal: &Journal, tagging: Tagging) -> Result<workflow::Outcome> {
    let mut request = Seed::new(end(bed.source.host(), "a"), end(bed.sink.host(), "site/a"), Trust::Skip);
    (request.scope.accessories, request.scope.sidecars) = (Accessories::None, SidecarHandling::Copy);
    (request.tagging, request.folder) = (tagging, bed.out());
    workflow::seed(&request, &client(), journal, &Native, &Events::none()).await
}

/// Seeds these images; all their tags move, or none.
async fn seed_together(bed: &Bed, journal: &Journal, names: &[&str]) -> Result<workflow::Seeded> {
    let wish = |name: &&str| {
        let entry = Entry::new(end(bed.source.host(), name), end(bed.sink.host(), &format!("site/{name}")));
        CatalogEntry { entry, trust: Trust::Skip }
    };
    let catalog = Catalog {
        name: "catalog.yaml".into(),
        entries: names.iter().map(wish).collect(),
        accessories: Accessories::None,
        engine: Options::default(),
        images_at_once: 1,
        keep_going: false,
        tagging: Tagging::Together,
        folder: bed.out(),
        kept_for: workflow::KEPT_FOR,
    };
    workflow::seed_catalog(catalog, &client(), journal, &Native, &Events::none(), std::future::pending()).await
}

const BOTH: [Tagging; 2] = [Tagging::Plain, Tagging::Together];

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_writes_what_it_is_going_to_change_before_it_puts_the_tag() {
    for tagging in BOTH {
        let bed = Arc::new(Bed::new(Profile::default()).await);
        let ((recorder, journal), mut was) = (Recorder::of(&bed, Room::Endless), None);
        for number in 0..2 {
            let image = bed.publish("a", number).await;
            let puts = bed.puts("v1");
            seed(&bed, &journal, tagging).await.unwrap();
            let intent = format!("seed site/a:v1 {}", change(was, Some(image)));
            assert_eq!(recorder.taken(), [(intent, puts), ("1 done".into(), puts + 1)], "{tagging:?}");
            was = Some(image);
        }
        seed(&bed, &journal, tagging).await.unwrap();
        assert_eq!(recorder.taken(), [], "{tagging:?}: nothing has changed");

        let image = bed.publish("a", 7).await;
        bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/a/manifests/v1"));
        seed(&bed, &journal, tagging).await.unwrap_err();
        let intent = format!("seed site/a:v1 {}", change(was, Some(image)));
        assert_eq!(recorder.lines(), [intent, "1 failed: Denied".into()], "{tagging:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_cannot_be_written_down_puts_no_tag() {
    for tagging in BOTH {
        let bed = Arc::new(Bed::new(Profile::default()).await);
        bed.publish("a", 1).await;
        let (_, journal) = Recorder::of(&bed, Room::Lines(0));
        let error = seed(&bed, &journal, tagging).await.unwrap_err();
        assert_eq!(error.kind(), Failure::Local, "{}", error.chain());
        assert!(error.chain().contains("write down what is to change: write: no space left"), "{}", error.chain());
        assert_eq!((bed.puts("v1"), bed.names("a", "v1").await, bed.written()), (0, None, 0), "{tagging:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_cannot_be_written_ends_those_before_it() {
    let bed = Arc::new(Bed::new(Profile::default()).await);
    bed.publish("a", 1).await;
    let lock = bed.publish_lock("a", "lock").await;
    let (recorder, journal) = Recorder::of(&bed, Room::Intents(1));
    let error = seed(&bed, &journal, Tagging::Plain).await.unwrap_err();
    assert_eq!(error.kind(), Failure::Local, "{}", error.chain());
    let intent = format!("seed site/a:v1-lock {}", change(None, Some(lock)));
    assert_eq!(recorder.lines(), [intent, "1 failed: Local".into()]);
    assert_eq!((bed.puts("v1-lock"), bed.puts("v1"), bed.written()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_tags_of_the_image_and_its_sidecars_are_written_down() {
    let bed = Arc::new(Bed::new(Profile::default()).await);
    let first = bed.publish("a", 1).await;
    seed(&bed, &Journal::none(), Tagging::Keep).await.unwrap();
    let second = bed.publish("a", 2).await;
    let lock = bed.publish_lock("a", "lock").await;
    let (recorder, journal) = Recorder::of(&bed, Room::Endless);
    seed(&bed, &journal, Tagging::Keep).await.unwrap();
    let expected = [
        format!("seed site/a:v1-lock {}", change(None, Some(lock))),
        "1 done".into(),
        format!("seed site/a:v1 {}", change(Some(first), Some(second))),
        "3 done".into(),
    ];
    assert_eq!(recorder.lines(), expected);
    assert_eq!(bed.names("a", &holding("v1", &first)).await, Some(first), "put without an intent");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_move_together_are_all_written_down_before_the_first_moves() {
    let bed = Arc::new(Bed::new(Profile::default()).await);
    let (first, second) = bed.two_generations().await;
    let intent = |at: usize, name: &str| format!("seed site/{name}:v1 {}", change(Some(first[at]), Some(second[at])));

    let (recorder, journal) = Recorder::of(&bed, Room::Intents(1));
    let error = seed_together(&bed, &journal, &["a", "b", "c"]).await.unwrap_err();
    assert_eq!(error.kind(), Failure::Local, "{}", error.chain());
    assert!(error.chain().contains("no tag was moved"), "{}", error.chain());
    assert_eq!(recorder.lines(), [intent(0, "a"), "1 failed: Local".into()]);
    assert_eq!((bed.puts("v1"), bed.written()), (0, 0));

    let fault = Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/b/manifests/v1");
    bed.sink.fault(fault);
    let (recorder, journal) = Recorder::of(&bed, Room::Endless);
    let error = seed_together(&bed, &journal, &["a", "b", "c"]).await.unwrap_err();
    assert_eq!(error.kind(), Failure::Denied, "{}", error.chain());
    let expected = [
        (intent(0, "a"), 0),
        (intent(1, "b"), 0),
        (intent(2, "c"), 0),
        ("1 done".into(), 1),
        ("2 failed: Denied".into(), 2),
        (format!("rollback site/a:v1 {}", change(Some(second[0]), Some(first[0]))), 2),
        ("6 done".into(), 3),
        ("3 failed: Denied".into(), 3),
    ];
    assert_eq!(recorder.taken(), expected);
    assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_this_run_moved_go_back_although_that_cannot_be_written_down() {
    // The outcome of the first tag has no room, or that of the second, or only the intent to put the first one back.
    for (room, kind) in [(2, Failure::Local), (3, Failure::Denied), (4, Failure::Denied)] {
        let bed = Arc::new(Bed::new(Profile::default()).await);
        let (first, _) = bed.two_generations().await;
        bed.sink.fault(Fault::always(Kind::ManifestPut, What::Status(403)).at_the_end("site/b/manifests/v1"));
        let (_, journal) = Recorder::of(&bed, Room::Lines(room));
        let error = seed_together(&bed, &journal, &["a", "b"]).await.unwrap_err();
        let told = error.chain();
        assert_eq!(error.kind(), kind, "{room}: {told}");
        assert_eq!(bed.all().await, [Some(first[0]), Some(first[1]), Some(first[2]), None], "{room}: {told}");
        assert!(told.contains(&format!("put back: {}/site/a:v1", bed.sink.host())), "{room}: {told}");
        assert!(told.contains("not everything was written down: ") && told.contains("no space left"), "{room}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_writes_each_tag_down_and_leaves_alone_what_it_cannot_write() {
    let bed = Arc::new(Bed::new(Profile::default()).await);
    let (first, second) = bed.two_generations().await;
    assert_code(&bed.seed_catalog(&["a", "d"], &["--keep-previous"]).await, 0);
    let (roll_up, _) = workflow::read_roll_up(&bed.roll_up()).unwrap();
    let rolled_back = async |journal: Journal| {
        let mut plan = RollbackPlan::check(&roll_up, &client()).await.unwrap();
        plan.act(&journal, std::future::pending()).await.unwrap();
        plan
    };

    let puts = bed.puts("v1");
    let plan = rolled_back(Recorder::of(&bed, Room::Lines(0)).1).await;
    let is_unwritten = |fate: &RollbackFate| matches!(fate, RollbackFate::Failed { why } if why.contains("no space"));
    assert!(plan.steps.iter().all(|step| is_unwritten(&step.fate)), "{:?}", plan.steps);
    assert_eq!((bed.puts("v1"), bed.names("a", "v1").await), (puts, Some(second[0])));

    let (recorder, journal) = Recorder::of(&bed, Room::Endless);
    assert!(rolled_back(journal).await.is_back());
    let expected = [
        (format!("rollback site/a:v1 {}", change(Some(second[0]), Some(first[0]))), puts),
        ("1 done".into(), puts + 1),
        (format!("rollback site/d:v1 {}", change(Some(second[3]), None)), puts + 1),
        ("3 done".into(), puts + 1),
    ];
    assert_eq!(recorder.taken(), expected);
}
