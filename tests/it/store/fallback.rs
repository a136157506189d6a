//! The fallback index of a registry without the Referrers API: one write for many referrers, and no lost entries.

use std::sync::Arc;
use std::time::Duration;

use autonomy_registry::Kind as Failure;
use autonomy_registry::oci::{Descriptor, MediaType, Tag};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Body, Listing, Registry, Role, Store};
use serde_json::{Value, json};
use testkit::images;

use crate::kit::asking::Asking;
use crate::kit::wire_server::client;

/// A registry without the API, a store on it, and a subject.
struct Bed {
    bed: Testbed,
    store: Arc<Registry>,
    subject: Descriptor,
}

impl Bed {
    async fn new() -> Self {
        Self::on(Profile { has_referrers_api: false, ..Profile::default() }).await
    }

    async fn on(behaviour: Profile) -> Self {
        let bed = Testbed::with(behaviour).await;
        let store = Arc::new(Registry::new(&client(), &bed.repository("app"), Role::Sink));
        let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"{}");
        let (config, bytes) = autonomy_registry::oci::empty_json();
        images::put(store.as_ref(), config.media_type, bytes).await;
        Self { bed, store, subject }
    }

    fn index(&self) -> String {
        format!("/manifests/{}", self.subject.digest.fallback_tag())
    }

    /// Requests for the index.
    fn requests(&self) -> usize {
        self.bed.log().iter().filter(|seen| seen.path.ends_with(&self.index())).count()
    }

    /// Puts these referrers of the subject concurrently.
    async fn put(&self, numbers: std::ops::Range<u32>) -> Vec<autonomy_registry::Result<()>> {
        let puts = numbers.map(|number| {
            let (store, (node, body)) = (Arc::clone(&self.store), referrer(&self.subject, number, ""));
            tokio::spawn(async move { store.put(&node, &body, &[]).await.map(drop) })
        });
        let mut outcomes = Vec::new();
        for put in puts.collect::<Vec<_>>() {
            outcomes.push(put.await.unwrap());
        }
        outcomes
    }

    async fn listed(&self) -> usize {
        self.store.referrers(&self.subject.digest).await.unwrap().len()
    }

    /// Overwrites the index with these entries.
    async fn overwrite(&self, entries: &Value) {
        let bytes = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
        let node = Descriptor::of(MediaType::OCI_INDEX, bytes.as_bytes());
        let tag: Tag = self.subject.digest.fallback_tag().parse().unwrap();
        self.store.put(&node, &Body::bytes(node.clone(), bytes), &[tag]).await.unwrap();
    }
}

/// A manifest that refers to `subject`; `number` makes it unique.
fn referrer(subject: &Descriptor, number: u32, text: &str) -> (Descriptor, Body) {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "x/y", "layers": [],
        "config": autonomy_registry::oci::empty_json().0, "subject": subject,
        "annotations": {"number": number.to_string(), "text": text},
    });
    let bytes = manifest.to_string();
    let node = Descriptor::of(MediaType::OCI_MANIFEST, bytes.as_bytes());
    (node.clone(), Body::bytes(node, bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_queued_during_a_write_share_the_next_one() {
    let bed = Bed::new().await;
    // Long enough for all others to queue.
    bed.bed.fault(Fault { times: 1, ..Fault::always(Kind::ManifestGet, What::Delay(Duration::from_millis(500))) });
    bed.bed.clear_log();
    for outcome in bed.put(0..24).await {
        outcome.unwrap();
    }
    assert_eq!(bed.requests(), 3 + 3, "the first by itself, and all others: read, write, see that they are there");
    assert_eq!(bed.listed().await, 24);
    bed.bed.clear_log();
    for outcome in bed.put(0..24).await {
        outcome.unwrap();
    }
    let (writes, reads) = (bed.bed.log(), bed.requests());
    assert!(!writes.iter().any(|seen| seen.method == "PUT" && seen.path.ends_with(&bed.index())), "they are there");
    assert!(reads < 24, "{reads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_overwritten_by_another_client_are_written_again() {
    let bed = Bed::new().await;
    let foreign = json!([Descriptor::of(MediaType::OCI_MANIFEST, b"foreign")]);
    bed.overwrite(&foreign).await;
    bed.bed.fault(Fault { times: 1, ..Fault::always(Kind::ManifestGet, What::Delay(Duration::from_millis(500))) });
    // The registry drops the second write, which has all but the first.
    let lost = Fault { nth: 2, ..Fault::next(Kind::ManifestPut, What::Status(201)) };
    bed.bed.fault(lost.at(bed.subject.digest.fallback_tag()));
    bed.bed.clear_log();
    for outcome in bed.put(0..8).await {
        outcome.unwrap();
    }
    assert_eq!(bed.requests(), 3 + 5, "read, write, look, write, look");
    assert_eq!(bed.listed().await, 1 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lists_what_is_not_there_any_more_can_still_be_added_to() {
    let bed = Bed::on(Profile::distribution_3()).await;
    for outcome in bed.put(0..2).await {
        outcome.unwrap();
    }
    let (gone, _) = referrer(&bed.subject, 0, "");
    let path = format!("manifests/{}", gone.digest);
    let deleted = Asking::of(&bed.bed, "app").send(reqwest::Method::DELETE, &path, &[], b"").await;
    assert_eq!(deleted.status(), 202);
    assert_eq!(bed.listed().await, 2, "whoever deleted it left its entry");
    bed.bed.clear_log();
    for outcome in bed.put(2..3).await {
        outcome.unwrap();
    }
    let listed = bed.store.referrers(&bed.subject.digest).await.unwrap();
    let expected = [1, 2].map(|number| referrer(&bed.subject, number, "").0.digest);
    assert_eq!(listed.iter().map(|node| node.digest).collect::<Vec<_>>(), expected);
    // Read, a refused write, one HEAD for each of three, a write, a check.
    assert_eq!(bed.bed.requests(), 1 + 2 + 3 + 2 + 1, "{:#?}", bed.bed.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_to_everybody_who_waited_and_nobody_else() {
    let bed = Bed::new().await;
    bed.bed.fault(Fault { times: 1, ..Fault::always(Kind::ManifestGet, What::Delay(Duration::from_millis(500))) });
    // The first write succeeds; the second, with all others, is refused.
    let refused = Fault { nth: 2, ..Fault::next(Kind::ManifestPut, What::Status(403)) };
    bed.bed.fault(refused.at(bed.subject.digest.fallback_tag()));
    bed.bed.clear_log();
    let outcomes = bed.put(0..8).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.kind(), Failure::Denied, "{}", error.chain());
    }
    assert_eq!(bed.requests(), 3 + 2, "nobody tries what was refused to the group");
    assert_eq!(bed.listed().await, 1);
    // And no state of the failure is left.
    for outcome in bed.put(0..8).await {
        outcome.unwrap();
    }
    assert_eq!(bed.listed().await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_given_up_leaves_its_work_to_the_next() {
    let bed = Bed::new().await;
    bed.bed.fault(Fault { times: 1, ..Fault::always(Kind::ManifestGet, What::Delay(Duration::from_secs(30))) });
    bed.bed.clear_log();
    let (store, (node, body)) = (Arc::clone(&bed.store), referrer(&bed.subject, 99, ""));
    let first = tokio::spawn(async move { store.put(&node, &body, &[]).await.map(drop) });
    while bed.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let others = bed.put(0..4);
    let giving_up = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        first.abort();
    };
    let (outcomes, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(others, giving_up) })
        .await
        .expect("nobody waits for the one that was given up");
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_eq!(bed.listed().await, 5, "its manifest was put, and its entry is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_could_not_be_read_again_is_not_written() {
    let entry = |number: u32, annotations: Value| {
        let mut entry = json!(Descriptor::of(MediaType::OCI_MANIFEST, &number.to_be_bytes()));
        entry["annotations"] = annotations;
        entry
    };
    let long = json!({"": "x".repeat(10_000)});
    let many = (0..49_985).map(|key: u32| (format!("{key:x}"), json!(""))).collect();
    for (name, entries, text) in [
        ("bytes", (0..385).map(|number| entry(number, long.clone())).collect(), "x".repeat(200_000)),
        ("values", vec![entry(0, Value::Object(many))], String::new()),
    ] {
        let bed = Bed::new().await;
        let count = entries.len();
        bed.overwrite(&json!(entries)).await;
        bed.bed.clear_log();
        let mut outcomes = Vec::new();
        for number in 0..3 {
            let (node, body) = referrer(&bed.subject, number, &text);
            outcomes.push(bed.store.put(&node, &body, &[]).await);
        }
        let error = outcomes.pop().unwrap().unwrap_err();
        assert_eq!(error.kind(), Failure::Limit, "{name}: {}", error.chain());
        assert!(error.chain().contains("its index would hold more than"), "{name}: {}", error.chain());
        let listed = bed.listed().await;
        assert!((count..count + 3).contains(&listed), "{name}: {listed} of {count} are still listed");
    }
}
