//! The journal: the change of a tag is written before the tag moves, and a change that cannot be written does not
//! happen.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use autonomy_registry::copy::Events;
use autonomy_registry::document::Accessories;
use autonomy_registry::error::{Error, Kind as Failure, Result};
use autonomy_registry::oci::Digest;
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::transport::Native;
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{
    self, Effect, IntentNumber, Journal, JournalWriter, RollbackFate, RollbackPlan, Seed, TagChange, Tagging, Trust,
};

use crate::kit::command::assert_code;
use crate::kit::site_bed::Bed;

/// Writes what it is told, each with the number of times that the tag was put before.
#[derive(Default)]
struct Recorder {
    lines: Mutex<Vec<(String, usize)>>,
    bed: Option<Arc<Bed>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    fn of(bed: &Arc<Bed>) -> Arc<Self> {
        Arc::new(Self { bed: Some(Arc::clone(bed)), ..Self::default() })
    }

    fn write(&self, line: String) -> Result<usize> {
        // Without a bed it is broken.
        let bed =
            self.bed.as_ref().ok_or_else(|| Error::new(Failure::Unavailable, "write").because("no space left"))?;
        let mut lines = self.lines.lock().unwrap();
        lines.push((line, bed.puts("v1")));
        Ok(lines.len())
    }

    fn taken(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

#[async_trait]
impl JournalWriter for Recorder {
    async fn intent(&self, effect: &Effect) -> Result<IntentNumber> {
        let (kind, TagChange { to, was, digest }) = match effect {
            Effect::Seed(change) => ("seed", change),
            Effect::Rollback(change) => ("rollback", change),
            Effect::Gc { .. } => panic!("no garbage is collected here"),
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

/// Seeds the image `a`. Staged, its tag is put after everything else; otherwise together with the image.
async fn seed(bed: &Bed, journal: &Journal, tagging: Tagging) -> Result<workflow::Outcome> {
    let end = |host: &str, path: &str| format!("{host}/{path}:v1").parse().unwrap();
    let mut request = Seed::new(end(bed.source.host(), "a"), end(bed.sink.host(), "site/a"), Trust::Skip);
    request.scope.accessories = Accessories::None;
    (request.tagging, request.folder) = (tagging, bed.out());
    workflow::seed(&request, &client(), journal, &Native, &Events::none()).await
}

const BOTH: [Tagging; 2] = [Tagging::Plain, Tagging::Together];

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_writes_what_it_is_going_to_change_before_it_puts_the_tag() {
    for tagging in BOTH {
        let bed = Arc::new(Bed::new(Profile::default()).await);
        let (recorder, mut was) = (Recorder::of(&bed), None);
        let journal = Journal::new(Arc::clone(&recorder) as _);
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
        let lines: Vec<_> = recorder.taken().into_iter().map(|(line, _)| line).collect();
        let intent = format!("seed site/a:v1 {}", change(was, Some(image)));
        assert_eq!(lines, [intent, "1 failed: Denied".into()], "{tagging:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_cannot_be_written_down_puts_no_tag() {
    for tagging in BOTH {
        let bed = Bed::new(Profile::default()).await;
        bed.publish("a", 1).await;
        let error = seed(&bed, &Journal::new(Arc::new(Recorder::default())), tagging).await.unwrap_err();
        assert_eq!(error.kind(), Failure::Local, "{}", error.chain());
        assert!(error.chain().contains("write down what is to change: write: no space left"), "{}", error.chain());
        assert_eq!((bed.puts("v1"), bed.names("a", "v1").await, bed.written()), (0, None, 0), "{tagging:?}");
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
    let plan = rolled_back(Journal::new(Arc::new(Recorder::default()))).await;
    let is_unwritten = |fate: &RollbackFate| matches!(fate, RollbackFate::Failed { why } if why.contains("no space"));
    assert!(plan.steps.iter().all(|step| is_unwritten(&step.fate)), "{:?}", plan.steps);
    assert_eq!((bed.puts("v1"), bed.names("a", "v1").await), (puts, Some(second[0])));

    let recorder = Recorder::of(&bed);
    assert!(rolled_back(Journal::new(Arc::clone(&recorder) as _)).await.is_back());
    let expected = [
        (format!("rollback site/a:v1 {}", change(Some(second[0]), Some(first[0]))), puts),
        ("1 done".into(), puts + 1),
        (format!("rollback site/d:v1 {}", change(Some(second[3]), None)), puts + 1),
        ("3 done".into(), puts + 1),
    ];
    assert_eq!(recorder.taken(), expected);
}
